"""Which patches are sent, and when none are."""

import math

import numpy as np
import pytest

from evitif.selection.choice import select, select_within
from evitif.selection.gate import RULES, highest_eta, require_eta, sure, uncertainty
from evitif.selection.prior import with_prior


def scores_of(seed, patches=20):
    return np.random.default_rng(seed).dirichlet(np.full(patches, 0.5)).astype(np.float32)


@pytest.mark.parametrize('seed', range(5))
def test_the_fewest_patches_that_reach_delta(seed):
    scores = scores_of(seed)
    for delta in (0.1, 0.5, 0.9, 0.97):
        chosen = select(scores, delta)
        assert np.all(np.diff(scores[chosen]) <= 0) and len(set(chosen)) == len(chosen)
        assert scores[chosen].sum() >= delta * scores.sum() - 1e-6
        assert len(chosen) == 1 or scores[chosen[:-1]].sum() < delta * scores.sum() + 1e-6
        assert np.array_equal(select_within(scores, len(chosen)), chosen)


def test_never_none_and_all_at_one():
    assert len(select(scores_of(0), 0.0)) == 1 == len(select_within(scores_of(0), 0))
    assert sorted(select(scores_of(0), 1.0)) == list(range(20)) == sorted(select_within(scores_of(0), 99))
    assert len(select(np.zeros(4), 0.5)) == 1
    for delta in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=f'delta is {delta:g}: expected a share'):
            select(scores_of(0), delta)
    with pytest.raises(ValueError, match='one finite number'):
        select(np.array([0.5, math.nan]), 0.5)


@pytest.mark.parametrize('rule', RULES)
def test_uncertainty_is_between_certain_and_even(rule):
    certain, even, between = np.eye(4)[0], np.full(4, 0.25), np.array([0.7, 0.1, 0.1, 0.1])
    assert uncertainty(certain, rule) == pytest.approx(0, abs=1e-9)
    assert uncertainty(even, rule) == pytest.approx(highest_eta(4, rule))
    assert 0 < uncertainty(between, rule) < highest_eta(4, rule)
    assert not sure(certain, 0.0, rule)             # at 0 the robot never answers alone
    assert sure(between, highest_eta(4, rule), rule)
    require_eta(highest_eta(4, rule), 4, rule)
    for eta in (-0.1, highest_eta(4, rule) + 0.1, math.nan):
        with pytest.raises(ValueError, match=f'eta is {eta:g}: expected 0 to'):
            require_eta(eta, 4, rule)


def test_min_entropy_is_the_papers():
    assert uncertainty(np.array([0.5, 0.3, 0.2])) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="gate rule 'luck' is unknown"):
        uncertainty(np.ones(2) / 2, 'luck')


def test_a_prior_decides_where_the_large_model_does_not():
    large, light = np.array([[0.45, 0.44, 0.01], [0.8, 0.05, 0.05]]), np.array([[0.1, 0.8, 0.1], [0.3, 0.4, 0.3]])
    assert np.array_equal(with_prior(large, light, 0.0), large)
    fused = with_prior(large, light, 0.5)
    np.testing.assert_allclose(fused.sum(1), large.sum(1))
    assert fused[0].argmax() == 1 and fused[1].argmax() == 0
