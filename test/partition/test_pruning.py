"""A smaller model is a smaller model: nothing is masked, nothing is changed that is kept, and the limit holds."""

import copy

import pytest
import torch
from random_vit import build

from evitif.model.build import ModelSpec, build_model
from evitif.model.errors import ModelError
from evitif.model.timm_import import timm
from evitif.partition.slicing import Kept, Shape, require_prunable, shrink
from evitif_lab.partition.importance import estimate, grouped_log_probabilities, principal_directions
from evitif_lab.partition.pruning import SMALLEST, Limit, prune, scaled, size_of, size_within
from evitif_lab.partition.sizes import multiply_adds_of, parameters_of, shape_of


def everything(module, directions):
    shape, blocks = shape_of(module), len(module.blocks)
    return Kept(directions, (torch.arange(shape.heads),) * blocks, (torch.arange(shape.hidden),) * blocks, shape.head_dim)


@pytest.fixture
def batch():
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('more', [{}, {'init_values': 0.5}, {'reg_tokens': 2}, {'class_token': False, 'global_pool': 'avg'}])
def test_keeping_everything_keeps_the_answer(more, batch):
    module = build(**more).requires_grad_(False)
    turned = copy.deepcopy(module)
    shrink(turned, everything(turned, principal_directions(turned, batch)))
    assert torch.allclose(turned(batch), module(batch), atol=1e-4, rtol=1e-4)


def test_what_is_kept_of_heads_and_units_computes_as_if_the_rest_were_masked(batch):
    module = build().requires_grad_(False)
    small = copy.deepcopy(module)
    kept = everything(small, principal_directions(small, batch))
    heads, hidden = (torch.tensor([0, 2]),) * 2, (torch.arange(0, 192, 2),) * 2
    shrink(small, Kept(kept.directions, heads, hidden, kept.head_dim))
    with torch.no_grad():
        for block in module.blocks:
            block.attn.proj.weight[:, 16:32] = 0          # head 1 of three
            block.mlp.fc2.weight[:, 1::2] = 0
    assert torch.allclose(small(batch), module(batch), atol=1e-4, rtol=1e-4)
    assert parameters_of(small) < parameters_of(module)


def test_a_pruned_model_is_smaller_by_its_tensors_and_ends_at_its_shape(batch):
    module = build().requires_grad_(False)
    shape = Shape(width=24, heads=2, head_dim=8, hidden=40)
    pruned, steps = prune(module, batch, (0, 2), shape)
    assert shape_of(pruned) == shape
    assert pruned(batch).shape == (6, 3)                  # two classes and 'other'
    assert pruned.forward_head(pruned.forward_features(batch), pre_logits=True).shape == (6, 24)
    size = size_of(module, shape, 3)
    assert (parameters_of(pruned), multiply_adds_of(pruned)) == (size.parameters, size.multiply_adds)
    assert max(parameter.shape[0] for name, parameter in pruned.named_parameters() if 'blocks' in name) <= 3 * 16
    assert {step['part'] for step in steps} == {'width', 'heads', 'hidden'}
    assert [step['part'] for step in steps[:3]] == ['width', 'heads', 'hidden']
    assert shape_of(module).width == 48                   # the original is as it was


def test_the_estimate_ranks_a_part_that_does_nothing_last(batch):
    module = build().requires_grad_(False)
    with torch.no_grad():
        module.blocks[0].attn.proj.weight[:, 32:] = 0     # head 2
        module.blocks[1].mlp.fc2.weight[:, 7] = 0
    importance = estimate(module, batch, (0,))
    assert importance.by_head[0, 2] == 0 and importance.by_head[0, :2].min() > 0
    assert importance.by_hidden[1, 7] == 0 and importance.by_hidden[1].median() > 0
    directions = importance.directions
    assert torch.allclose(directions.T @ directions, torch.eye(47), atol=1e-4)
    assert directions.mean(0).abs().max() < 1e-5


def test_directions_that_are_kept_by_importance_diverge_less_than_the_others(batch):
    module = build(seed=3).requires_grad_(False)
    importance = estimate(module, batch, (0, 1))
    order = importance.by_direction.argsort(descending=True)
    with torch.no_grad():
        target = grouped_log_probabilities(module(batch), (0, 1))
    found = []
    for half in (order[:24], order[23:]):
        small = copy.deepcopy(module)
        shrink(small, everything(small, importance.directions[:, half]))
        with torch.no_grad():
            found.append(float((target.exp() * (target - grouped_log_probabilities(small(batch), (0, 1)))).sum(1).mean()))
    assert found[0] < found[1]


def test_answers_are_grouped_into_own_classes_and_other():
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4]]))
    assert torch.allclose(grouped_log_probabilities(logits, (3, 0)).exp(), torch.tensor([[0.4, 0.1, 0.5]]))
    assert grouped_log_probabilities(logits, (0, 1, 2, 3)).exp()[0, 4] < 1e-6


@pytest.mark.parametrize('limit', [Limit(30_000), Limit(None, 300_000), Limit(40_000, 200_000)])
def test_a_size_within_a_limit_is_within_and_not_far_below(limit):
    module = build()
    size = size_within(module, limit, 3)
    assert limit.allows(size.parameters, size.multiply_adds)
    assert not limit.scaled(0.6).allows(size.parameters, size.multiply_adds)


def test_the_schedule_goes_from_the_original_to_the_smallest():
    original = Shape(192, 3, 64, 768)
    assert scaled(original, 1.0) == original
    assert scaled(original, 0.0) == SMALLEST


def test_what_cannot_be_is_refused_with_the_reason():
    with pytest.raises(ValueError, match='cannot be pruned to 10 parameters'):
        size_within(build(), Limit(10), 3)
    distilled = build_model(ModelSpec('deit_tiny_distilled_patch16_224', random_seed=0, num_classes=2, image_size=32,
                                      model_kwargs={'patch_size': 8, 'depth': 1, 'embed_dim': 24})).module
    with pytest.raises(ModelError, match='head_dist'):
        require_prunable(distilled)
    with pytest.raises(ModelError, match='no sequence of blocks'):
        require_prunable(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(('name', 'reason'), [
    ('vit_tiny_r_s16_p8_224', r'a patch embedding of more than one convolution \(HybridEmbed\)'),
    ('vit_dwee_patch16_reg1_gap_256', r'blocks \(Block\) that are not x \+ attention'),
    ('vit_pwee_patch16_reg1_gap_256', r'blocks \(ParallelScalingBlock\) that are not x \+ attention'),
    ('vit_base_patch16_rpn_224', r'blocks \(ResPostBlock\) that are not x \+ attention'),
    ('vitamin_small_224', 'a patch embedding of more than one convolution')])
def test_a_model_of_another_form_is_refused_and_not_cut_wrong(name, reason):
    size = {} if name in ('vit_tiny_r_s16_p8_224', 'vitamin_small_224') else {'embed_dim': 48, 'num_heads': 3}
    module = timm.create_model(name, img_size=64, num_classes=4, **({'depth': 2} if 'vitamin' not in name else {}), **size).eval()
    with pytest.raises(ModelError, match=reason):
        require_prunable(module)


@pytest.mark.parametrize('part', ['norm1', 'mlp.act', 'ls1'])
def test_what_a_block_does_is_looked_at_and_not_what_its_parts_are_called(part):
    module = build(init_values=0.5)
    require_prunable(module)
    block = module.blocks[1]
    if part == 'norm1':
        block.forward = lambda tokens, block=block: tokens + block.norm1(block.attn(tokens))
    elif part == 'mlp.act':
        block.mlp.forward = lambda tokens, mlp=block.mlp: mlp.fc2(mlp.act(mlp.act(mlp.fc1(tokens))))
    else:
        block.ls1 = torch.nn.Linear(48, 48)
    with pytest.raises(ModelError, match=r'blocks \(Block\) that are not'):
        require_prunable(module)
