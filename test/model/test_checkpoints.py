"""Every tensor of a model comes from the file, whoever wrote it; else the file is refused, and the sentence says what is missing."""

import pickle
import re

import numpy as np
import pytest
import torch
from checkpoint_forms import forms, hugging_face, under
from safetensors.torch import save_file

from evitif.model import ModelError
from evitif.model.build import ModelSpec, build_model, save_model
from evitif.model.timm_import import timm
from evitif.pipeline.cut_model import CutModel
from evitif.settings import bridge_settings, edge_settings

NAME, CLASSES = 'test_vit', 10           # timm's own: six blocks of 64 channels, images of 160 pixels


def random_weights(classes=CLASSES, name=NAME, **kwargs) -> dict[str, torch.Tensor]:
    module = timm.create_model(name, num_classes=classes, **kwargs)
    generator = torch.Generator().manual_seed(classes)
    return {key: torch.randn(tensor.shape, generator=generator) / 10 for key, tensor in module.state_dict().items()}


WEIGHTS = random_weights()
BODY = {name: tensor for name, tensor in WEIGHTS.items() if not name.startswith('head')}


@pytest.fixture
def saved(tmp_path):
    """A function that writes a file and returns its path as text."""
    def save(content, name='weights.pth'):
        torch.save(content, tmp_path / name)
        return str(tmp_path / name)
    return save


def refusal(path: str, **options) -> str:
    with pytest.raises(ModelError) as refused:
        build_model(ModelSpec(options.pop('name', NAME), checkpoint=path, **options))
    text = str(refused.value)
    assert len(text) < 1200 and '\n' not in text
    return text


@pytest.mark.parametrize('form', forms(WEIGHTS))
def test_a_file_in_any_form_brings_all_tensors_and_its_own_classifier(saved, form):
    path = saved(forms(WEIGHTS)[form])
    for classes in (None, CLASSES):
        built = build_model(ModelSpec(NAME, checkpoint=path, num_classes=classes))
        found = built.module.state_dict()
        assert found.keys() == WEIGHTS.keys()
        assert all(torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS)
        assert built.class_names == built.labels == tuple(f'class {index}' for index in range(CLASSES))


def test_what_a_file_is_is_told_by_its_content_and_not_by_its_name(tmp_path, saved):
    for name in ('weights.bin', 'weights.pt', 'model'):
        save_file(WEIGHTS, tmp_path / name)
        assert len(build_model(ModelSpec(NAME, checkpoint=str(tmp_path / name))).class_names) == CLASSES
        assert len(build_model(ModelSpec(NAME, checkpoint=saved(WEIGHTS, f'{name}.safetensors'))).class_names) == CLASSES


def test_the_weights_of_a_model_folder_are_read_as_they_were_meant(tmp_path):
    built = build_model(ModelSpec(NAME, random_seed=1, num_classes=3))
    save_model(tmp_path, built.module, {}, 'int8')
    found = build_model(ModelSpec(NAME, checkpoint=str(tmp_path / 'model.safetensors')))
    torch.testing.assert_close(found.module.blocks[0].mlp.fc1.weight, built.module.blocks[0].mlp.fc1.weight, atol=1e-3, rtol=0)


@pytest.mark.parametrize('precision', [torch.float16, torch.bfloat16, torch.float64])
def test_another_precision_is_taken(saved, precision):
    found = build_model(ModelSpec(NAME, checkpoint=saved({name: tensor.to(precision) for name, tensor in WEIGHTS.items()})))
    torch.testing.assert_close(found.module.norm.weight, WEIGHTS['norm.weight'], atol=0.01, rtol=0.01)


def test_edge_and_bridge_answer_alike_from_one_file_at_each_start(saved, tmp_path):
    path = saved(WEIGHTS)
    edges = [CutModel.load(edge_settings(model=NAME, checkpoint=path, num_classes=classes, unsealed=True, cut=2))
             for classes in (None, CLASSES, CLASSES)]
    bridge = CutModel.load(bridge_settings(model=NAME, checkpoint=path, unsealed=True, cut=2))
    image = edges[0].preprocessor(np.random.default_rng(1).integers(0, 255, (180, 200, 3), np.uint8))
    for edge in edges:
        assert edge.parameters == bridge.parameters and edge.parameters.classes == CLASSES
        assert np.array_equal(edge.tail(edge.head(image)), bridge.tail(bridge.head(image)))
    expected = timm.create_model(NAME, num_classes=CLASSES).eval()
    expected.load_state_dict(WEIGHTS)
    with torch.inference_mode():
        assert np.allclose(edges[0].tail(edges[0].head(image)), expected(image).softmax(1)[0], atol=1e-6)
    (tmp_path / 'labels.txt').write_text('\n'.join('abcdefghij'))
    labelled = CutModel.load(edge_settings(model=NAME, checkpoint=path, labels_file=str(tmp_path / 'labels.txt'), unsealed=True))
    assert labelled.labels == tuple('abcdefghij')


@pytest.mark.parametrize('classes', [1, 2, 21843])
def test_a_classifier_of_any_size_is_brought_by_the_file(saved, classes):
    built = build_model(ModelSpec(NAME, checkpoint=saved(random_weights(classes))))
    assert len(built.class_names) == classes == built.module.head.out_features


def test_another_number_of_classes_than_the_file_s_is_refused(saved):
    for asked in (20, 1000, 9):
        assert f'has a classifier of 10 classes, num_classes={asked} was asked for' in refusal(saved(WEIGHTS), num_classes=asked)


def test_the_image_size_is_the_file_s_unless_one_is_asked_for(saved):
    path = saved(random_weights(img_size=224))
    assert build_model(ModelSpec(NAME, checkpoint=path)).data_config['input_size'] == (3, 224, 224)
    built = build_model(ModelSpec(NAME, checkpoint=path, image_size=96))
    assert built.data_config['input_size'] == (3, 96, 96) and built.loaded.resized == ('pos_embed',)


@pytest.mark.parametrize('spoil, expected', [
    (lambda: {name: tensor for name, tensor in WEIGHTS.items() if not name.startswith('blocks.2.')},
     r'does not fit test_vit: it brings 68 of the 80 tensors; not in it: blocks.2.norm1.weight, .* and 7 more'),
    (lambda: {**WEIGHTS, 'blocks.6.norm1.bias': WEIGHTS['norm.bias']}, 'left over in it: blocks.6.norm1.bias'),
    (lambda: {**WEIGHTS, 'normalise.mean': torch.zeros(3)}, 'left over in it: normalise.mean'),
    (lambda: {**WEIGHTS, 'norm.bias': torch.zeros(63)}, r'of another shape: norm.bias \(63 there, 64 in the model\)'),
    (lambda: {**WEIGHTS, 'norm.bias': torch.zeros(64, dtype=torch.int8)}, 'norm.bias .int8 64 there'),
    (lambda: {**WEIGHTS, 'norm.bias': torch.full((64,), torch.nan)}, 'not finite: norm.bias'),
    (lambda: BODY, r'not in it: head.weight, head.bias .*evitif train model --architecture test_vit .*--reset-head'),
    (lambda: random_weights(name='test_vit2'), 'of another shape|not in it'),
    (lambda: {name.replace('fc_norm', 'x'): tensor for name, tensor in random_weights(global_pool='avg').items()}, 'not in it: norm.'),
    (lambda: {'a': under('backbone.', WEIGHTS), 'b': WEIGHTS}, r'several sets of tensors \(a, b\)'),
    (lambda: {**under('first.', WEIGHTS), **under('second.', WEIGHTS)}, r'several models \(first., second.\)'),
    (lambda: torch.zeros(3), 'it holds a Tensor'),
    (lambda: {'epoch': 3}, 'holds no tensors'),
    (lambda: {'something': torch.zeros(3)}, r'its names begin with something'),
    (lambda: {f'vision_model.encoder.layers.{k}.self_attn.q_proj.weight': torch.zeros(2, 2) for k in range(3)},
     "names of Hugging Face's transformers"),
])
def test_a_file_that_is_not_the_whole_model_is_refused_with_what_is_missing(saved, spoil, expected):
    assert re.search(expected, refusal(saved(spoil())))


def test_patches_of_another_size_are_refused(saved):
    assert 'has patches of 8x8 pixels, test_vit has 16x16' in refusal(saved(random_weights(patch_size=8)))


def test_a_distilled_model_lacks_what_a_plain_one_has_not(saved):
    path = saved(random_weights(name='deit_tiny_patch16_224', depth=1))
    text = refusal(path, name='deit_tiny_distilled_patch16_224', model_kwargs={'depth': 1})
    assert 'not in it: dist_token, head_dist.weight, head_dist.bias' in text


def test_a_model_with_two_classifiers_takes_both_from_the_file(saved):
    weights = random_weights(7, 'deit_tiny_distilled_patch16_224', depth=1)
    built = build_model(ModelSpec('deit_tiny_distilled_patch16_224', checkpoint=saved(weights), model_kwargs={'depth': 1}))
    assert torch.equal(built.module.head_dist.weight, weights['head_dist.weight']) and len(built.class_names) == 7


class Dangerous:
    def __reduce__(self):
        return print, ('this must not run',)


def test_no_code_in_a_file_is_run(tmp_path, saved, capsys):
    (tmp_path / 'old.pth').write_bytes(pickle.dumps({'state_dict': Dangerous()}, protocol=2))
    for path in (saved({'state_dict': WEIGHTS, 'extra': Dangerous()}), str(tmp_path / 'old.pth')):
        assert 'holds Python objects' in refusal(path)
    assert 'must not run' not in capsys.readouterr().out


@pytest.mark.parametrize('content', [b'', b'PK', b'nonsense', b'\x80', b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n',
                                     b'<html></html>', b'\xff' * 64, b'\x10\0\0\0\0\0\0\0{"a":1}         '])
def test_a_file_that_holds_no_weights_is_named(tmp_path, content):
    (tmp_path / 'w.safetensors').write_bytes(content)
    assert 'w.safetensors' in refusal(str(tmp_path / 'w.safetensors')) and 'cannot be read' in refusal(str(tmp_path / 'w.safetensors'))


def test_the_first_vision_transformers_files_are_asked_too(tmp_path):
    def arrays(blocks=6, classes=4, tokens=101, patch=16):
        draw = np.random.default_rng(2).standard_normal
        found = {'embedding/kernel': draw((patch, patch, 3, 64)), 'embedding/bias': draw(64), 'cls': draw((1, 1, 64)),
                 'Transformer/posembed_input/pos_embedding': draw((1, tokens, 64)), 'Transformer/encoder_norm/scale': draw(64),
                 'Transformer/encoder_norm/bias': draw(64)}
        if classes:
            found |= {'head/kernel': draw((64, classes)), 'head/bias': draw(classes)}
        for block in range(blocks):
            at = f'Transformer/encoderblock_{block}/'
            found |= {at + 'LayerNorm_0/scale': draw(64), at + 'LayerNorm_0/bias': draw(64), at + 'LayerNorm_2/scale': draw(64),
                      at + 'LayerNorm_2/bias': draw(64), at + 'MlpBlock_3/Dense_0/kernel': draw((64, 192)),
                      at + 'MlpBlock_3/Dense_0/bias': draw(192), at + 'MlpBlock_3/Dense_1/kernel': draw((192, 64)),
                      at + 'MlpBlock_3/Dense_1/bias': draw(64), at + 'MultiHeadDotProductAttention_1/out/kernel': draw((2, 32, 64)),
                      at + 'MultiHeadDotProductAttention_1/out/bias': draw(64)}
            for part in ('query', 'key', 'value'):
                found |= {at + f'MultiHeadDotProductAttention_1/{part}/kernel': draw((64, 2, 32)),
                          at + f'MultiHeadDotProductAttention_1/{part}/bias': draw((2, 32))}
        return {name: array.astype(np.float32) for name, array in found.items()}

    path = tmp_path / 'vit.npz'
    np.savez(path, **arrays())
    built = build_model(ModelSpec(NAME, checkpoint=str(path)))
    assert len(built.class_names) == 4 and built.module.head.weight.isfinite().all()
    assert np.array_equal(built.module.head.weight.detach().numpy(), arrays()['head/kernel'].T)
    assert 'num_classes=5 was asked for' in refusal(str(path), num_classes=5)
    np.savez(path, **arrays(tokens=197))
    assert build_model(ModelSpec(NAME, checkpoint=str(path))).data_config['input_size'] == (3, 224, 224)
    np.savez(path, **arrays(patch=8))
    assert 'has patches of 8x8 pixels, test_vit has 16x16' in refusal(str(path))
    np.savez(path, **arrays(blocks=7))
    assert 'left over in it: encoderblock_6' in refusal(str(path))
    np.savez(path, **arrays(blocks=5))
    assert 'does not fit' in refusal(str(path))
    np.savez(path, **arrays(classes=0))
    assert 'not in it: head.weight, head.bias' in refusal(str(path))
    np.savez(path, nothing=np.zeros(3))
    assert 'does not fit' in refusal(str(path))


def test_hugging_face_dinov2_is_renamed(saved):
    kwargs = {'depth': 2, 'embed_dim': 48, 'num_heads': 3}
    weights = random_weights(0, 'vit_small_patch14_dinov2', **kwargs)
    renamed = {}
    for name, tensor in hugging_face(weights).items():
        name = name.removeprefix('vit.').replace('layernorm_before', 'norm1').replace('layernorm_after', 'norm2')
        name = re.sub(r'(?<!attention)\.output\.dense', '.mlp.fc2', name.replace('.intermediate.dense', '.mlp.fc1'))
        name = re.sub(r'\.ls(\d)\.gamma', r'.layer_scale\1.lambda1', name)
        renamed[name] = tensor
    path = saved({**renamed, 'embeddings.mask_token': torch.zeros(1, 48)})
    built = build_model(ModelSpec('vit_small_patch14_dinov2', checkpoint=path, model_kwargs=kwargs))
    assert all(torch.equal(tensor, weights[name]) for name, tensor in built.module.state_dict().items())


def test_a_backbone_without_a_classifier_leads_to_the_training_of_one(saved):
    path = saved(random_weights(0))
    with pytest.raises(ModelError, match='evitif train model --architecture test_vit --initial-weights .*weights.pth --reset-head'):
        CutModel.load(edge_settings(model=NAME, checkpoint=path, unsealed=True))


@pytest.fixture
def hub(monkeypatch):
    """A function that says what timm's hub has."""
    import timm.models._builder as builder
    monkeypatch.setattr(builder, 'has_hf_hub', lambda *_, **__: True)
    return lambda weights: monkeypatch.setattr(builder, 'load_state_dict_from_hf', lambda *_, **__: dict(weights))


def test_all_weights_come_from_the_hub_too(hub):
    weights = random_weights(1000)
    hub(weights)
    built = build_model(ModelSpec(NAME, pretrained=True))
    assert all(torch.equal(tensor, weights[name]) for name, tensor in built.module.state_dict().items())
    with pytest.raises(ModelError, match='has a classifier of 1000 classes, num_classes=10 was asked for'):
        build_model(ModelSpec(NAME, pretrained=True, num_classes=10))
    hub({name: tensor for name, tensor in weights.items() if name != 'norm.bias'})
    with pytest.raises(ModelError, match="file of test_vit does not fit test_vit: it brings 79 of the 80 tensors; not in it: norm.bias"):
        build_model(ModelSpec(NAME, pretrained=True))


def test_what_a_backbone_of_the_hub_has_beside_it_does_not_stop_it(hub):
    kwargs = {'depth': 1, 'embed_dim': 48, 'num_heads': 3}
    weights = random_weights(0, 'vit_base_patch16_siglip_224', **kwargs)
    assert any(name.startswith('attn_pool') for name in weights)
    hub(weights)
    built = build_model(ModelSpec('vit_base_patch16_siglip_gap_224', pretrained=True, model_kwargs=kwargs))
    assert torch.equal(built.module.norm.weight, weights['norm.weight']) and 'attn_pool.q.weight' in built.loaded.left_over
