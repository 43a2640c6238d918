"""The fusion answers from any subset of the devices, and what is absent has no influence."""

import copy

import pytest
import torch

from evitif.partition.fusion import FusionNetwork
from evitif_lab.partition.absence import draw_present
from evitif_lab.training.partition_retraining import train_fusion


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = FusionNetwork(4, 6, 3, width=8)
    torch.nn.init.normal_(network.output.weight)
    return network.eval()


def test_absent_features_have_no_influence_and_present_ones_have(network):
    features, present = torch.randn(16, 4, 6), torch.rand(16, 4) < 0.5
    with torch.no_grad():
        answer = network(features, present)
        changed = torch.where(present[:, :, None], features, torch.randn(16, 4, 6))
        assert torch.equal(network(changed, present), answer)
        assert not torch.allclose(network(features + 1, present | True), network(features, present | True))


def test_any_subset_is_answered(network):
    subsets = torch.tensor([[bool(number >> bit & 1) for bit in range(4)] for number in range(16)])
    with torch.no_grad():
        assert torch.isfinite(network(torch.randn(16, 4, 6), subsets)).all()


def test_training_sees_whole_frames_single_losses_and_more_and_never_nothing():
    present = draw_present(3000, 5, torch.Generator().manual_seed(0))
    counts = present.sum(1)
    assert counts.min() == 1
    assert 0.3 < (counts == 5).float().mean() < 0.6
    assert (counts == 4).float().mean() > 0.3
    assert (counts <= 3).float().mean() > 0.05
    assert draw_present(50, 1, torch.Generator().manual_seed(0)).all()


def test_a_jury_keeps_the_network_that_it_finds_best():
    torch.manual_seed(0)
    features, classes = torch.randn(400, 2, 3), 4
    teacher = torch.randn(6, classes)
    logits = 3 * features.flatten(1) @ teacher
    wrong = -logits
    fresh = FusionNetwork(2, 3, classes)
    trained, figures = train_fusion(copy.deepcopy(fresh), features, logits, 100, jury=(features, logits))
    assert figures['kept_step'] in (50, 100) and figures['jury_divergence'] < figures['jury_divergence_before']
    kept, figures = train_fusion(copy.deepcopy(fresh), features, wrong, 100, jury=(features, logits))
    assert figures['kept_step'] == 0 and figures['jury_divergence'] == figures['jury_divergence_before']
    assert all(torch.equal(one, other) for one, other in zip(kept.parameters(), fresh.parameters(), strict=True))
    assert not torch.equal(trained.linear.weight, fresh.linear.weight)
