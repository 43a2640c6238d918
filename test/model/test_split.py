"""Head and tail together are the whole model, for every cut of every kind of Vision Transformer."""

import pytest
import torch

from evitif.model import ModelError
from evitif.model.build import ModelSpec, build_model
from evitif.model.fingerprint import fingerprint
from evitif.model.split import SplitModel, require_cuttable

SMALL = {'embed_dim': 48, 'depth': 4, 'num_heads': 3}

# Small instances of real architectures: what differs is the sequence, the pooling and the blocks.
VARIANTS = {
    'class token': ('vit_tiny_patch16_224', {**SMALL, 'img_size': 64}),
    'distillation token': ('deit_tiny_distilled_patch16_224', {**SMALL, 'img_size': 64}),
    'registers': ('vit_small_patch14_reg4_dinov2', {**SMALL, 'img_size': 56, 'num_classes': 7}),
    'LayerScale': ('deit3_small_patch16_224', {**SMALL, 'img_size': 64}),
    'mean pooling': ('vit_medium_patch16_gap_240', {**SMALL, 'img_size': 64}),
    'attention pooling': ('vit_base_patch16_siglip_224', {**SMALL, 'img_size': 64, 'num_classes': 7}),
    'registers and mean pooling': ('vit_little_patch16_reg4_gap_256', {**SMALL, 'img_size': 64}),
    'norm before the blocks': ('vit_base_patch32_clip_224', {**SMALL, 'img_size': 96, 'num_classes': 7}),
    'oblong image': ('vit_tiny_patch16_224', {**SMALL, 'img_size': (48, 80)}),
    'convolutional stem': ('vit_tiny_r_s16_p8_224', {**SMALL, 'img_size': 32, 'patch_size': 1}),
}


def build(variant: str):
    architecture, arguments = VARIANTS[variant]
    return build_model(ModelSpec(architecture, random_seed=3, model_kwargs=arguments))


def randomise(module: torch.nn.Module) -> None:
    """Random values everywhere, so that a LayerScale of 1e-5 or a class token of zeros cannot hide a mistake."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


@pytest.mark.parametrize('variant', VARIANTS)
@torch.inference_mode()
def test_head_and_tail_are_the_whole_model_at_every_cut(variant):
    built = build(variant)
    randomise(built.module)
    images = torch.randn(2, 3, *SplitModel(built.module, 0).image_size, generator=torch.Generator().manual_seed(1))
    whole = built.module(images)
    assert whole.std() > 1e-3
    for cut in range(5):
        split = SplitModel(built.module, cut)
        tokens = split.head(images)
        assert tokens.shape == (2, split.tokens, 48)
        torch.testing.assert_close(split.tail(tokens), whole, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_tokens_left_out_do_not_influence_the_tail():
    split = SplitModel(build('class token').module, 2)
    tokens = split.head(torch.randn(2, 3, 64, 64))
    kept = torch.tensor([[0, 1, 5, 9], [0, 2, 3, 16]])
    first = split.tail(tokens, kept)
    spoiled = tokens.clone()
    spoiled[0, 2:5] = 1e3
    spoiled[1, 4:9] = -1e3
    torch.testing.assert_close(split.tail(spoiled, kept), first)
    assert not torch.allclose(split.tail(tokens), first, atol=1e-4)


@torch.inference_mode()
def test_a_blank_images_prefix_is_every_images_prefix_at_cut_0():
    split = SplitModel(build('registers').module, 0)
    tokens = split.head(torch.randn(1, 3, 56, 56))
    assert split.prefix_tokens == 5
    torch.testing.assert_close(split.blank_tokens()[:5], tokens[0, :5])


@pytest.mark.parametrize('cut', [-1, 5])
def test_a_cut_out_of_range_names_the_range(cut):
    with pytest.raises(ModelError, match=f'cut {cut} .* 4 blocks, so 0 to 4'):
        SplitModel(build('class token').module, cut)


@pytest.mark.parametrize('architecture', ['resnet10t', 'swin_tiny_patch4_window7_224', 'eva02_tiny_patch14_224'])
def test_models_that_cannot_be_cut_are_refused_by_name(architecture):
    module = build_model(ModelSpec(architecture, random_seed=0)).module
    with pytest.raises(ModelError, match=f'{type(module).__name__} cannot be cut'):
        require_cuttable(module)


def test_fingerprint_knows_the_weights_and_the_cut():
    first, second = build('class token').module, build('class token').module
    assert fingerprint(first, 2) == fingerprint(second, 2)
    assert fingerprint(first, 2) != fingerprint(first, 3)
    with torch.no_grad():
        second.blocks[1].mlp.fc1.bias[3] += 1e-6
    assert fingerprint(first, 2) != fingerprint(second, 2)


@torch.inference_mode()
def test_a_weight_of_nothing_in_the_attention_is_as_being_left_out():
    split = SplitModel(build('class token').module, 1)
    randomise(split.module)
    tokens = split.head(torch.randn(2, 3, 64, 64))
    kept = torch.tensor([[0, 1, 5, 9], [0, 2, 3, 16]])
    key_bias = torch.full(tokens.shape[:2], -1e4).scatter(1, kept, 0.0)
    assert split.takes_key_bias
    torch.testing.assert_close(split.tail(tokens, key_bias=key_bias), split.tail(tokens, kept), atol=1e-5, rtol=0)
    torch.testing.assert_close(split.tail(tokens, key_bias=torch.zeros_like(key_bias)), split.tail(tokens), atol=1e-5, rtol=0)
    torch.testing.assert_close(split.tail(tokens, kept, torch.zeros_like(key_bias)), split.tail(tokens, kept), atol=1e-5, rtol=0)
    assert not torch.allclose(split.tail(tokens, key_bias=0.1 * key_bias.clamp(min=-1)), split.tail(tokens), atol=1e-5)


@pytest.mark.parametrize('variant', ['class token', 'registers', 'mean pooling'])
def test_multiply_adds_of_the_tail_are_those_of_its_blocks(variant):
    module = build(variant).module
    for cut in (0, 1, 4):
        split = SplitModel(module, cut)
        n, d = split.tokens, 48
        hidden = module.blocks[0].mlp.fc1.out_features
        assert split.tail_multiply_adds == (4 - cut) * (4 * n * d**2 + 2 * n * d * hidden + 2 * n**2 * d)
