import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evitif.protocol.rate.copies import sufficient_copies
from evitif.protocol.rate.statistics import MAX_DROPOUT, WINDOW, SequenceTracker


def tracker_of(sequences) -> SequenceTracker:
    tracker = SequenceTracker()
    for sequence in sequences:
        tracker.receive(sequence % 2**32)
    return tracker


@given(st.lists(st.booleans(), min_size=1, max_size=400), st.randoms(use_true_random=False))
def test_rate_and_burst_are_those_of_the_losses_whatever_the_order(arrived, random):
    arrived = [*arrived, True]                       # losses at the end cannot be known
    sequences = [k for k, here in enumerate(arrived) if here]
    shuffled = list(sequences)
    random.shuffle(shuffled)
    runs = [len(run) for run in ''.join('.' if here else 'x' for here in arrived).split('.') if run]
    for order in (sequences, shuffled):
        tracker = tracker_of(order)
        assert tracker.packet_error_rate == pytest.approx(sum(runs) / len(arrived))
        assert tracker.mean_burst == pytest.approx(sum(runs) / len(runs) if runs else 0.0)
        assert (tracker.expected, tracker.received) == (len(arrived), len(sequences))
    assert tracker_of(sequences).reordered == 0


def test_unknown_before_the_first():
    assert math.isnan(SequenceTracker().packet_error_rate)
    assert math.isnan(SequenceTracker().mean_burst)


def test_a_duplicate_is_told_and_not_counted_twice():
    tracker = tracker_of([0, 1, 3])
    assert [tracker.receive(k) for k in (1, 3, 2, 2)] == [False, False, True, False]
    assert (tracker.duplicates, tracker.received, tracker.reordered, tracker.packet_error_rate) == (3, 4, 1, 0.0)


def test_only_recent_datagrams_count():
    tracker = tracker_of(range(0, 2 * WINDOW, 2))
    assert tracker.packet_error_rate == pytest.approx(0.5, abs=0.01)
    for k in range(2 * WINDOW, 3 * WINDOW):
        tracker.receive(k)
    assert tracker.packet_error_rate == 0.0
    assert tracker.expected - tracker.received == WINDOW


def test_numbers_wrap():
    tracker = tracker_of([0])
    tracker.highest = 2**32 - 3      # as after so many datagrams
    for sequence in (2**32 - 2, 2**32 - 1, 1, 0):
        assert tracker.receive(sequence)
    assert (tracker.expected, tracker.received, tracker.reordered) == (5, 5, 1)
    assert tracker.highest == 1


def test_one_stray_number_changes_nothing_and_two_in_a_row_are_a_restart():
    tracker = tracker_of(range(100))
    tracker.receive(10**6)
    tracker.receive(100)
    assert (tracker.expected, tracker.packet_error_rate) == (101, 0.0)
    tracker.receive(10**6)
    tracker.receive(10**6 + 1)
    tracker.receive(10**6 + 2)
    assert tracker.highest == 10**6 + 2
    assert (tracker.expected, tracker.packet_error_rate) == (103, 0.0)


@given(st.lists(st.one_of(st.integers(0, 2**32 - 1), st.integers(0, MAX_DROPOUT)), max_size=200))
def test_any_numbers_give_sane_figures(sequences):
    tracker = tracker_of(sequences)
    assert tracker.received <= tracker.expected
    assert not sequences or tracker._mask.bit_length() <= WINDOW
    if tracker.expected:
        assert 0.0 <= tracker.packet_error_rate <= 1.0
        assert 0.0 <= tracker.mean_burst <= WINDOW


@pytest.mark.parametrize(('rate', 'copies'), [
    (0.0, 3), (math.nan, 3), (0.05, 3), (0.3, 6), (0.6, 14), (0.9, 20), (1.0, 20)])
def test_copies_follow_the_loss(rate, copies):
    assert sufficient_copies(rate, 1e-3, 3, 20) == copies
    if 3 < copies < 20:
        assert rate**copies <= 1e-3 < rate**(copies - 1)


@pytest.mark.parametrize(('rate', 'burst'), [(0.1, 2.0), (0.3, 3.0), (0.6, 4.0)])
def test_bursts_ask_for_as_many_copies_as_gilberts_model_says(rate, burst):
    copies = sufficient_copies(rate, 1e-3, 3, 100, burst)
    assert rate * (1 - 1 / burst) ** (copies - 1) <= 1e-3 < rate * (1 - 1 / burst) ** (copies - 2)
    assert sufficient_copies(rate, 1e-3, 3, 100, 1.0) == sufficient_copies(rate, 1e-3, 3, 100)
