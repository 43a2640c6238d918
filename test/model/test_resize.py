"""A model takes pictures of another size than it was made for, and is still known as the same model."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from evitif.identity import parts
from evitif.model import ModelError
from evitif.model.build import ModelSpec, build_model, save_model
from evitif.model.errors import ArtifactError
from evitif.model.fingerprint import fingerprint
from evitif.model.model_identity import Identity, view_of
from evitif.model.split import SplitModel
from evitif.model.timm_import import timm
from evitif.vocabulary import Fit

SMALL = {'embed_dim': 48, 'depth': 2, 'num_heads': 4, 'patch_size': 8}
ARCHITECTURES = {
    'vit_tiny_patch16_224': {}, 'deit_tiny_distilled_patch16_224': {}, 'vit_tiny_patch16_224 no_embed_class': {'no_embed_class': True},
    'eva02_tiny_patch14_224': {'ref_feat_shape': (4, 4)}, 'beit_base_patch16_224': {}, 'vit_relpos_base_patch16_224': {},
    'vit_small_patch16_rope_224': {}, 'vit_small_patch16_rope_mixed_224': {}, 'vit_base_patch16_dinov3': {},
}
DATA = {'input_size': [3, 32, 32], 'mean': [0.5] * 3, 'std': [0.5] * 3, 'interpolation': 'bicubic', 'crop_pct': 0.9, 'crop_mode': 'center'}


def folder_of(folder, architecture='vit_tiny_patch16_224', seed=1, **options):
    """A model folder for images of 32x32, 4x4 patches."""
    kwargs = {**SMALL, 'img_size': 32, **options}
    built = build_model(ModelSpec(architecture, random_seed=seed, num_classes=3, model_kwargs=kwargs))
    save_model(folder, built.module, {'architecture': architecture, 'model_kwargs': kwargs, 'pretrained_cfg': DATA,
                                      'class_names': ['a', 'b', 'c']})
    return str(folder)


@pytest.mark.parametrize('name', ARCHITECTURES)
def test_head_and_tail_of_a_resized_model_are_the_model(tmp_path, name):
    folder = folder_of(tmp_path, name.split()[0], **ARCHITECTURES[name])
    built = build_model(ModelSpec(folder, image_size=(24, 48)))
    split, images = SplitModel(built.module, 1), torch.randn(2, 3, 24, 48, generator=torch.Generator().manual_seed(1))
    assert split.grid == (3, 6) and split.image_size == (24, 48) and built.data_config['input_size'] == (3, 24, 48)
    with torch.inference_mode():
        torch.testing.assert_close(split.tail(split.head(images)), split.whole(images), rtol=1e-4, atol=1e-5)
        kept = torch.cat((torch.arange(split.prefix_tokens), split.prefix_tokens + torch.tensor([0, 5, 7, 17])))
        assert split.tail(split.head(images), kept.expand(2, -1)).isfinite().all()


def test_the_same_weights_see_the_same_at_their_own_size(tmp_path):
    folder, images = folder_of(tmp_path), torch.randn(1, 3, 32, 32)
    plain, again = (build_model(ModelSpec(folder, image_size=size)).module for size in (None, 32))
    with torch.inference_mode():
        assert torch.equal(plain(images), again(images))


def test_timm_resamples_the_positions_in_the_same_way_at_creation(tmp_path):
    """As a check against timm's own way to load a file into another size."""
    whole = timm.create_model('vit_tiny_patch16_224', depth=1)
    save_file(whole.state_dict(), tmp_path / 'w.safetensors')
    theirs = timm.create_model('vit_tiny_patch16_224', depth=1, img_size=(96, 160), pretrained=True, pretrained_cfg_overlay={
        'file': str(tmp_path / 'w.safetensors'), 'custom_load': False, 'source': ''})
    built = build_model(ModelSpec('vit_tiny_patch16_224', checkpoint=str(tmp_path / 'w.safetensors'), image_size=(96, 160),
                                  model_kwargs={'depth': 1}))
    torch.testing.assert_close(built.module.pos_embed, theirs.pos_embed)
    assert built.loaded.resized == ('pos_embed',)


def test_a_file_of_a_model_that_is_not_square_is_read_at_its_size(tmp_path):
    whole = timm.create_model('vit_tiny_patch16_224', depth=1, img_size=(96, 160))
    save_file(whole.state_dict(), tmp_path / 'w.safetensors')
    spec = ModelSpec('vit_tiny_patch16_224', checkpoint=str(tmp_path / 'w.safetensors'), image_size=(96, 160), model_kwargs={'depth': 1})
    assert torch.equal(build_model(spec).module.pos_embed, whole.pos_embed)


def test_size_and_fit_are_of_the_preprocessing_and_the_weights_stay_whose_they_are(tmp_path):
    folder = folder_of(tmp_path)
    plain, wide, padded = (fingerprint(build_model(ModelSpec(folder, image_size=size, fit=fit)).module, 1) for size, fit in (
        (None, 'auto'), ((24, 48), 'auto'), ((24, 48), Fit.PAD)))
    for other in (wide, padded):
        assert [name for name, digits in parts(other).items() if digits != parts(plain)[name]] == ['preprocessing']
    assert wide != padded
    trained = build_model(ModelSpec(folder, image_size=(24, 48))).module
    with torch.no_grad():
        trained.norm.weight.add_(1)
    assert parts(fingerprint(trained))['weights'] != parts(plain)['weights']


def test_what_was_fitted_at_one_size_serves_the_model_at_others(tmp_path):
    folder = folder_of(tmp_path)

    def identity(size=None, fit='auto'):
        built = build_model(ModelSpec(folder, image_size=size, fit=fit))
        return Identity.of(built.module, 1, built.module.patch_embed.grid_size, built.native)
    own, wide = identity(), identity((24, 48), 'pad')
    assert wide.fitted_grid('x', 'code', {'fingerprint': own.fingerprint}) == (4, 4)
    assert wide.fitted_grid('x', 'code', {'fingerprint': wide.fingerprint}) == (3, 6)
    about = {'fingerprint': wide.fingerprint, **view_of(wide.data_config)}
    assert own.fitted_grid('x', 'code', about) == (3, 6) == identity((40, 40)).fitted_grid('x', 'code', about)
    other = build_model(ModelSpec(folder_of(tmp_path / 'other', seed=2)))
    with pytest.raises(ArtifactError, match='other weights and preprocessing'):
        wide.fitted_grid('x', 'code', {'fingerprint': fingerprint(other.module, 1), 'model': 'other'})


@pytest.mark.parametrize('size, expected', [
    ((30, 48), r'image_size is 30x48, and .* has patches of 8x8 pixels: expected a multiple .*, such as 32x48'),
    (20, 'such as 16x16|such as 24x24'),
    ((1600, 1600), 'divides into 40000 patches: expected at most 8191'),
    ((0, 8), 'image_size is'),
])
def test_a_size_that_does_not_fit_is_named(tmp_path, size, expected):
    folder = folder_of(tmp_path)
    for spec in (ModelSpec(folder, image_size=size),
                 ModelSpec('vit_tiny_patch16_224', random_seed=1, image_size=size, model_kwargs=SMALL)):
        with pytest.raises(ValueError, match=expected):
            build_model(spec)


def test_a_class_whose_positions_timm_does_not_resample_is_refused(tmp_path):
    folder = folder_of(tmp_path, 'cait_xxs24_224', depth_token_only=1)
    assert build_model(ModelSpec(folder, image_size=32)).module is not None
    with pytest.raises(ModelError, match='takes no other image size: timm cannot resample the positions of its class Cait'):
        build_model(ModelSpec(folder, image_size=(24, 48)))


def test_a_resized_model_is_refused_by_a_bridge_that_sees_another_size():
    """What differs is said by its own name, beside the fingerprint."""
    from evitif.pipeline.cut_model import CutModel
    from evitif.settings import SplitSettings
    about = {'model': 'vit_tiny_patch16_224', 'random_seed': 1, 'num_classes': 3, 'cut': 1, 'quantisation': 'int8'}
    one, other = (CutModel.load(SplitSettings(**about, image_size=size, fit=fit)).parameters for size, fit in (
        ('32x48', 'pad'), ((32, 64), 'squash')))
    found = ' '.join(one.differences(other))
    assert 'image_size: the edge has 32x48, the bridge has 32x64' in found and 'fit: the edge has pad, the bridge has squash' in found
    assert np.prod(one.grid) + one.prefix_tokens == one.tokens == 7
