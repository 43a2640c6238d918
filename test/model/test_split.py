"""Head and tail together are the whole model, for every cut of every kind of Vision Transformer."""

import functools

import pytest
import torch

from benchmarks.timm_families import forward_without
from evitif.model import ModelError
from evitif.model.build import ModelSpec, build_model
from evitif.model.cuttable import require_cuttable
from evitif.model.fingerprint import fingerprint
from evitif.model.split import SplitModel
from evitif.model.timm_import import timm
from evitif_lab.multiply_adds import tail_multiply_adds

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
    'EVA-02': ('eva02_tiny_patch14_224', {**SMALL, 'img_size': 56}),
    'EVA-02 with norms after': ('eva02_enormous_patch14_clip_224', {**SMALL, 'img_size': 56, 'num_classes': 7}),
    'EVA': ('eva_large_patch14_196', {**SMALL, 'img_size': 56}),
    'DINOv3': ('vit_small_patch16_dinov3', {**SMALL, 'img_size': 64, 'num_classes': 7}),
    'rotary positions of each block': ('vit_small_patch16_rope_mixed_224', {**SMALL, 'img_size': 64}),
    'rotary positions, any image size': ('vit_small_patch16_rope_224', {**SMALL, 'img_size': (48, 80), 'dynamic_img_size': True}),
    'rotary positions, attention pooling': ('vit_pe_core_tiny_patch16_384', {**SMALL, 'img_size': 64, 'num_classes': 7}),
    'BEiT': ('beit_base_patch16_224', {**SMALL, 'img_size': (48, 80)}),
    'BEiT, one bias for all blocks': ('beit_base_patch16_224', {**SMALL, 'img_size': 64, 'use_rel_pos_bias': False,
                                                                'use_shared_rel_pos_bias': True, 'use_abs_pos_emb': True}),
    'relative positions': ('vit_relpos_small_patch16_224', {**SMALL, 'img_size': 64}),
    'relative positions, class token': ('vit_relpos_base_patch16_cls_224', {**SMALL, 'img_size': 64}),
    'relative positions by a network, for all blocks': ('vit_srelpos_small_patch16_224', {**SMALL, 'img_size': (48, 80)}),
    'CaiT': ('cait_xxs24_224', {**SMALL, 'img_size': 64}),
    'CaiT, mean pooling': ('cait_xxs24_224', {**SMALL, 'img_size': 64, 'global_pool': 'avg'}),
    'largest value': ('vit_tiny_patch16_224', {**SMALL, 'img_size': 64, 'global_pool': 'max'}),
    'mean and largest value, prefix too': ('vit_tiny_patch16_224', {**SMALL, 'img_size': 64, 'global_pool': 'avgmax',
                                                                    'pool_include_prefix': True}),
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
        torch.testing.assert_close(split.tail(tokens), whole, atol=0, rtol=0)


@pytest.mark.parametrize('variant', VARIANTS)
@torch.inference_mode()
def test_tokens_left_out_are_as_if_the_model_had_never_had_them(variant):
    module = build(variant).module
    randomise(module)
    split = SplitModel(module, 2)
    images = torch.randn(2, 3, *split.image_size, generator=torch.Generator().manual_seed(1))
    patches = torch.tensor([[1, 4, 5, 9, 14], [0, 2, 3, 11, 12]]) % (split.tokens - split.prefix_tokens)
    kept = torch.cat((torch.arange(split.prefix_tokens).expand(2, -1), patches.sort(1).values + split.prefix_tokens), 1)
    tokens = split.head(images)
    alone = torch.cat([forward_without(module, images[index:index + 1], 2, kept[index:index + 1], split.prefix_tokens) for index in (0, 1)])
    exact = 1e-6 if variant == 'BEiT, one bias for all blocks' else 0      # PyTorch takes another kernel for a mask of three dimensions
    for index in (0, 1):
        one = slice(index, index + 1)
        # A convolution of two images may round otherwise than that of one.
        torch.testing.assert_close(split.tail(split.head(images[one]), kept[one]), alone[one], atol=exact, rtol=0)
    torch.testing.assert_close(split.tail(tokens, kept), alone, atol=1e-5, rtol=0)
    assert not torch.allclose(alone, split.tail(tokens), atol=1e-3)


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


@pytest.mark.parametrize(('architecture', 'reason'), [
    ('resnet10t', 'no list of blocks'), ('swin_tiny_patch4_window7_224', 'no list of blocks'), ('efficientnet_b0', 'no patch_embed'),
    ('samvit_base_patch16_224', 'in windows of the grid'), ('convit_tiny', 'class token joins the patches only after'),
    ('hiera_tiny_224', 'merge neighbouring tokens'), ('mixer_s32_224', 'fixed number of tokens'), ('xcit_nano_12_p16_224', 'convolve'),
    ('crossvit_tiny_240', 'two sequences'), ('tnt_s_patch16_224', 'pixels within each patch'), ('naflexvit_base_patch16_gap', 'any size')])
def test_models_that_cannot_be_cut_are_refused_with_the_reason(architecture, reason):
    with torch.device('meta'):
        module = timm.create_model(architecture)
    with pytest.raises(ModelError, match=f'{type(module).__name__} cannot be cut: .*{reason}'):
        require_cuttable(module)


def test_a_model_that_pools_nothing_is_refused_once_it_has_classes():
    arguments = {**SMALL, 'img_size': 64, 'global_pool': ''}
    require_cuttable(timm.create_model('vit_tiny_patch16_224', num_classes=0, **arguments))
    with pytest.raises(ModelError, match='it pools nothing .*such as avg'):
        require_cuttable(timm.create_model('vit_tiny_patch16_224', **arguments))


@pytest.mark.parametrize(('variant', 'needs'), [('BEiT', True), ('relative positions', True), ('CaiT', False), ('DINOv3', False)])
def test_without_timms_fused_attention_relative_positions_are_refused(variant, needs):
    module = build(variant).module
    for part in module.modules():
        if hasattr(part, 'fused_attn'):
            part.fused_attn = False
    if needs:
        with pytest.raises(ModelError, match='TIMM_FUSED_ATTN=0.*unset that variable'):
            require_cuttable(module)
    else:
        require_cuttable(module)


def test_fingerprint_knows_the_weights_and_the_cut():
    first, second = build('class token').module, build('class token').module
    assert fingerprint(first, 2) == fingerprint(second, 2)
    assert fingerprint(first, 2) != fingerprint(first, 3)
    with torch.no_grad():
        second.blocks[1].mlp.fc1.bias[3] += 1e-6
    assert fingerprint(first, 2) != fingerprint(second, 2)


@pytest.mark.parametrize('variant', VARIANTS)
@torch.inference_mode()
def test_a_weight_of_nothing_is_as_being_left_out(variant):
    split = SplitModel(build(variant).module, 1)
    randomise(split.module)
    tokens = split.head(torch.randn(2, 3, *split.image_size, generator=torch.Generator().manual_seed(1)))
    prefix = torch.arange(split.prefix_tokens).expand(2, -1)
    kept = torch.cat((prefix, split.prefix_tokens + torch.tensor([[0, 3, 7] if split.tokens > 10 else [0, 1, 3], [1, 2, 3]])), 1)
    nothing = torch.full(tokens.shape[:2], -1e4).scatter(1, kept, 0.0)
    assert split.takes_key_bias
    close = functools.partial(torch.testing.assert_close, atol=2e-5, rtol=0)
    close(split.tail(tokens, key_bias=nothing), split.tail(tokens, kept))
    close(split.tail(tokens, key_bias=nothing.clamp(min=-torch.inf).masked_fill(nothing < 0, -torch.inf)), split.tail(tokens, kept))
    close(split.tail(tokens, key_bias=torch.zeros_like(nothing)), split.tail(tokens))
    close(split.tail(tokens, kept, torch.zeros_like(nothing)), split.tail(tokens, kept))
    assert not torch.allclose(split.tail(tokens, key_bias=nothing.clamp(min=-1)), split.tail(tokens), atol=1e-5)


@pytest.mark.parametrize('variant', ['class token', 'registers', 'mean pooling'])
def test_multiply_adds_of_the_tail_are_those_of_its_blocks(variant):
    module = build(variant).module
    for cut in (0, 1, 4):
        split = SplitModel(module, cut)
        n, d = split.tokens, 48
        hidden = module.blocks[0].mlp.fc1.out_features
        assert tail_multiply_adds(split) == (4 - cut) * (4 * n * d**2 + 2 * n * d * hidden + 2 * n**2 * d)


@pytest.mark.parametrize('variant', ['EVA-02', 'DINOv3', 'BEiT', 'relative positions', 'CaiT'])
def test_multiply_adds_are_about_those_that_pytorch_counts(variant):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode
    split = SplitModel(build(variant).module.requires_grad_(False), 1)
    tokens = torch.randn(1, split.tokens, 48)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:       # it does not see into fused attention
        tokens = split.run(tokens, 1, 4)
        if variant == 'CaiT':
            split.module.forward_cls(tokens)
    assert tail_multiply_adds(split) == pytest.approx(counter.get_total_flops() / 2, rel=0.05)
