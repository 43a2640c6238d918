"""How much of a token other tokens tell, on tokens of which that is known."""

import pytest
import torch

from benchmarks.video_statistics import unknown_shares


def noise(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_what_stands_still_is_known_and_what_is_new_is_not():
    still = noise(1, 6, 6, 4, seed=0).expand(40, 6, 6, 4)
    new = noise(40, 6, 6, 4, seed=1)
    assert unknown_shares(still)['last_known'] < 1e-9 and unknown_shares(still)['frame_before'] < 1e-9
    assert unknown_shares(new)['last_known'] == pytest.approx(2, rel=0.1)
    assert unknown_shares(new)['frame_before'] == pytest.approx(1, rel=0.1)
    assert unknown_shares(new)['neighbours'] == pytest.approx(1, rel=0.1)


def test_a_fading_token_is_predicted_by_its_factor():
    """An autoregressive process of factor 0.8: 1 - 0.64 of its energy is new in each frame."""
    frames = [noise(6, 6, 4, seed=0)]
    for number in range(1, 60):
        frames.append(0.8 * frames[-1] + 0.6 * noise(6, 6, 4, seed=number))
    assert unknown_shares(torch.stack(frames))['frame_before'] == pytest.approx(0.36, abs=0.05)


def test_neighbours_tell_what_all_share():
    shared = noise(40, 1, 1, 4, seed=2).expand(40, 6, 6, 4)
    assert unknown_shares(shared)['neighbours'] < 0.01 and unknown_shares(shared)['frame_before'] > 0.9
