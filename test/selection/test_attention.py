"""The recorded attention is the model's own, and recording changes nothing."""

import pytest
import torch
from small_pair import LARGE, images

from evitif.model.build import ModelSpec, build_model
from evitif.model.errors import ModelError
from evitif.model.timm_import import timm
from evitif.selection.attention import AttentionRecorder
from evitif.selection.glance import LightModel
from evitif.selection.scores import RULES, blocks_of, patch_scores, resample


def build(**changes):
    module = build_model(ModelSpec('vit_tiny_patch16_224', random_seed=3, num_classes=4, model_kwargs={**LARGE, **changes})).module
    for parameter in module.parameters():
        parameter.data.mul_(4)
    return module


@pytest.mark.parametrize('changes', [{}, {'qk_norm': True}, {'reg_tokens': 2}, {'class_token': False, 'global_pool': 'avg'}])
def test_attention_is_that_of_the_unfused_kernel_and_outputs_are_untouched(changes):
    module = build(**changes)
    expected = module(images())
    logits, maps = AttentionRecorder(module, range(3)).run(images())
    assert torch.equal(logits, expected)
    seen = []
    for block in module.blocks:
        block.attn.fused_attn = False       # timm's own computation, which passes its attention through `attn_drop`
        block.attn.attn_drop.register_forward_hook(lambda _layer, _inputs, output: seen.append(output.mean(1)))
    module(images())
    assert len(maps) == len(seen) == 3
    for own, other in zip(maps, seen, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)


def test_a_model_that_shows_no_attention_is_refused():
    module = build()
    module.blocks[1].attn = torch.nn.Identity()
    with pytest.raises(ModelError, match='block 2 of VisionTransformer shows no attention: its attn has no qkv'):
        AttentionRecorder(module, range(3))


@pytest.mark.parametrize('architecture', ['eva02_tiny_patch14_224', 'vit_small_patch16_dinov3', 'beit_base_patch16_224', 'cait_xxs24_224',
                                          'vit_relpos_small_patch16_224'])
def test_a_light_model_whose_attention_is_of_another_kind_is_refused(architecture):
    module = build_model(ModelSpec(architecture, random_seed=3, num_classes=4, model_kwargs=LARGE)).module
    with pytest.raises(ModelError, match=f'{type(module).__name__} cannot be the light model: .* beside the tokens'):
        LightModel(module)


@pytest.mark.parametrize('name', ['vit_dwee_patch16_reg1_gap_256', 'vit_relpos_small_patch16_224', 'vit_tiny_r_s16_p8_224'])
def test_an_attention_of_another_form_is_refused_rather_than_shown_wrong(name):
    size = {} if '_r_' in name else {'embed_dim': 48, 'num_heads': 3}
    module = timm.create_model(name, img_size=64, depth=2, num_classes=4, **size).eval()
    if '_r_' in name:       # a convolutional network before the blocks changes nothing about them
        assert AttentionRecorder(module, range(2)).run(torch.randn(1, 3, 64, 64))[1][1].shape == (1, 5, 5)
        return
    with pytest.raises(ModelError, match=f'block 1 of {type(module).__name__} shows no attention: its .* computes it from more than'):
        AttentionRecorder(module, range(2))


def attention(tokens, blocks=4, seed=0):
    return list(torch.rand(blocks, 2, tokens, tokens, generator=torch.Generator().manual_seed(seed)).softmax(-1))


@pytest.mark.parametrize('rule', RULES)
def test_scores_are_shares(rule):
    maps = attention(7)[-len(blocks_of(rule, 4)):]
    for prefix, class_token in ((1, True), (3, True), (0, False), (2, False)):
        scores = patch_scores(rule, maps, prefix, class_token)
        assert scores.shape == (2, 7 - prefix)
        torch.testing.assert_close(scores.sum(1), torch.ones(2))
        assert bool((scores >= 0).all())


def test_rules_follow_their_papers():
    maps = attention(6)
    last = patch_scores('last', maps[-1:], 1, True)
    torch.testing.assert_close(last, maps[-1][:, 0, 1:] / maps[-1][:, 0, 1:].sum(1, keepdim=True))
    product = torch.eye(6)
    for step in maps:                       # Abnar and Zuidema: A of each block with the residual, multiplied from the first on
        product = (step + torch.eye(6)) / 2 @ product
    rolled = product[:, 0, 1:]
    torch.testing.assert_close(patch_scores('rollout', maps, 1, True), rolled / rolled.sum(1, keepdim=True))
    assert list(blocks_of('selective', 4)) == [2, 3] and list(blocks_of('last', 4)) == [3] and list(blocks_of('rollout', 4)) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="score rule 'best' is unknown"):
        blocks_of('best', 4)


def test_scores_follow_to_another_grid():
    scores = torch.zeros(1, 16)
    scores[0, 5] = 1                        # second row, second column of 4x4
    finer = resample(scores, (4, 4), (8, 8)).view(8, 8)
    assert finer.argmax() // 8 in (2, 3) and finer.argmax() % 8 in (2, 3)
    coarser = resample(scores, (4, 4), (2, 2)).view(2, 2)
    assert coarser.argmax() == 0
    for grid in (finer, coarser):
        assert float(grid.sum()) == pytest.approx(1)
    assert resample(scores, (4, 4), (4, 4)) is scores
