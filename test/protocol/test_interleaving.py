import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evitif.protocol.frames.interleaving import interleave, prefix_copies_of, scattered_order


def largest_lost_square(lost: np.ndarray) -> int:
    """The side of the largest square of patches that are all lost."""
    height, width = lost.shape
    side = np.zeros((height + 1, width + 1), int)
    for i in range(height):
        for j in range(width):
            if lost[i, j]:
                side[i + 1, j + 1] = 1 + min(side[i, j], side[i, j + 1], side[i + 1, j])
    return int(side.max())


def longest_lost_line(lost: np.ndarray) -> int:
    longest = 0
    for line in [*lost, *lost.T]:
        run = 0
        for patch in line:
            run = run + 1 if patch else 0
            longest = max(longest, run)
    return longest


def bursts(packets, grid, share):
    """The lost patches of each burst of `share` of the packets, bool [rows, columns]."""
    length = round(share * len(packets))
    for start in range(len(packets) - length + 1):
        lost = np.zeros(grid[0] * grid[1], bool)
        for units in packets[start:start + length]:
            lost[units] = True
        yield lost.reshape(grid)


@pytest.mark.parametrize('grid', [(7, 7), (14, 14), (16, 16), (10, 20), (24, 24)])
@pytest.mark.parametrize(('share', 'square', 'line'), [(0.1, 1, 2), (0.25, 1, 2), (0.5, 1, 3), (0.75, 2, 8)])
def test_a_burst_is_a_scatter(grid, share, square, line):
    packets = interleave(grid, 0, 1, slots=max(2, grid[0] * grid[1] // 33), min_packets=1, prefix_copies=1)
    for lost in bursts(packets, grid, share):
        assert largest_lost_square(lost) <= square
        assert longest_lost_line(lost) <= line


def test_row_major_order_would_fail_the_same_measure():
    packets = np.array_split(np.arange(196), 33)
    assert max(largest_lost_square(lost) for lost in bursts(packets, (14, 14), 0.25)) >= 3
    assert max(longest_lost_line(lost) for lost in bursts(packets, (14, 14), 0.1)) == 14


def test_the_order_is_a_permutation():
    assert sorted(scattered_order((5, 9))) == list(range(45))


LAYOUTS = {
    'grid': st.tuples(st.integers(1, 14), st.integers(1, 14)), 'prefix_tokens': st.integers(0, 6),
    'groups': st.integers(1, 4), 'slots': st.integers(1, 60), 'min_packets': st.integers(1, 60),
    'prefix_copies': st.integers(0, 20), 'patch_copies': st.integers(1, 4)}


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries(LAYOUTS))
def test_every_layout_carries_every_unit_and_fits(layout):
    grid, prefix, groups = layout['grid'], layout['prefix_tokens'], layout['groups']
    packets = interleave(**layout)
    sizes = [len(units) for units in packets]
    assert min(sizes) >= 1
    assert max(sizes) <= layout['slots']
    assert all(len(set(units.tolist())) == len(units) for units in packets)      # no unit twice in one packet
    times = np.bincount(np.concatenate(packets), minlength=(prefix + grid[0] * grid[1]) * groups)
    assert (times[prefix * groups:] == layout['patch_copies']).all()
    wanted = prefix_copies_of(prefix, grid[0] * grid[1], layout['prefix_copies'])
    assert times[:prefix * groups].tolist() == [min(copies, len(packets)) for copies in wanted for _ in range(groups)]


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries(LAYOUTS | {'prefix_tokens': st.integers(1, 6),
                                        'prefix_copies': st.just(0) | st.integers(2, 20)}))
def test_no_single_packet_takes_a_prefix_unit(layout):
    packets = interleave(**layout)
    for lost in range(len(packets)):
        kept = np.concatenate([units for k, units in enumerate(packets) if k != lost])
        assert set(range(layout['prefix_tokens'] * layout['groups'])) <= set(kept.tolist())


def test_copies_of_the_class_token_are_spread_over_the_frame():
    packets = interleave((14, 14), 1, 1, slots=7, min_packets=16, prefix_copies=12)
    carriers = [k for k, units in enumerate(packets) if 0 in units]
    assert len(carriers) == 12
    assert max(np.diff(carriers)) <= np.ceil(len(packets) / 12)


@pytest.mark.parametrize('grid', [(7, 7), (8, 8), (14, 14)])
@pytest.mark.parametrize('prefix_tokens', [1, 2, 5])
def test_by_default_every_packet_of_a_small_frame_has_the_class_token(grid, prefix_tokens):
    packets = interleave(grid, prefix_tokens, 1, slots=6, min_packets=24, prefix_copies=0)
    assert all(0 in units for units in packets)
    rows = sum(len(units) for units in packets)
    assert rows <= 1.85 * grid[0] * grid[1]


def test_by_default_large_rows_cost_a_quarter_more_at_most():
    packets = interleave((14, 14), 1, 1, slots=1, min_packets=24, prefix_copies=0)
    assert len(packets) == 196 + 49


@pytest.mark.parametrize('grid', [(7, 7), (8, 8), (14, 14)])
@pytest.mark.parametrize('copies', [2, 3])
def test_copies_of_a_patch_are_far_apart(grid, copies):
    packets = interleave(grid, 1, 1, slots=11, min_packets=24, prefix_copies=0, patch_copies=copies)
    where = {unit: [k for k, units in enumerate(packets) if unit in units] for unit in range(1, 1 + grid[0] * grid[1])}
    assert all(len(places) == copies for places in where.values())
    closest = min(np.diff(places).min() for places in where.values())
    assert closest >= len(packets) // copies - 1


def test_packets_are_filled_evenly():
    sizes = [len(units) for units in interleave((14, 14), 5, 1, slots=8, min_packets=16, prefix_copies=12)]
    assert max(sizes) - min(sizes) <= 2


def test_min_packets_cuts_finer_but_never_thinner_than_a_patch():
    assert len(interleave((7, 7), 1, 1, slots=60, min_packets=16, prefix_copies=12)) == 16
    assert len(interleave((2, 3), 1, 1, slots=60, min_packets=16, prefix_copies=12)) == 6


def test_the_groups_of_a_token_share_a_packet_or_follow_one_another():
    for slots, apart in ((7, 0), (1, 1)):
        packets = interleave((6, 6), 0, 2, slots=slots, min_packets=1, prefix_copies=1)
        where = {int(unit): k for k, units in enumerate(packets) for unit in units}
        assert {where[2 * token + 1] - where[2 * token] for token in range(36)} == {apart}
