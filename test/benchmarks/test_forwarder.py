"""The forwarder's queue logic, in simulated time, and the conditions that it is told of."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))      # it is run from the repository and not installed
from benchmarks.link.conditions import QUEUE_S, Condition
from benchmarks.link.forwarder import MAX_HELD, Direction, order
from evitif.transport import Impairment


def direction(**impairment) -> Direction:
    made = Direction(seed=1)
    made.set_impairment(Impairment(**impairment))
    return made


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.floats(0, 0.1))
def test_packets_leave_after_the_delay_in_the_order_in_which_they_came(times, delay):
    link = direction(delay_s=delay)
    times = sorted(times)
    for number, now in enumerate(times):
        link.take(bytes([number]), now)
    left = []
    while (due := link.next_due) is not None:
        assert not link.due(due - 1e-9)
        left += [(packet[0], due) for packet in link.due(due)]
    assert [number for number, _ in left] == list(range(len(times)))
    assert all(at == pytest.approx(now + delay) for (_, at), now in zip(left, times, strict=True))


def test_a_limited_rate_counts_whole_ip_packets_and_drops_what_would_wait_too_long():
    link = direction(rate_bit_s=1e6, queue_s=QUEUE_S)
    for _ in range(100):
        link.take(bytes(1250), 0.0)     # 10 ms each at 1 Mbit/s
    assert link.next_due == pytest.approx(0.01)
    assert 10 <= len(link.due(10.0)) <= 12


def test_a_shorter_delay_takes_hold_for_what_comes_after():
    link = direction(delay_s=1.0)
    link.take(b'a', 0.0)
    link.set_impairment(Impairment())
    link.take(b'b', 0.5)
    assert link.due(0.9) == [] or link.due(0.9) == [b'b']
    assert link.due(1.0)[-1:] in ([b'a'], [b'b'])
    assert link.next_due is None


def test_what_is_under_way_is_bounded():
    link = direction(delay_s=1.0)
    for _ in range(MAX_HELD + 10):
        link.take(b'', 0.0)
    assert link.overflowed == 10 and len(link.due(2.0)) == MAX_HELD


def test_independent_losses_are_left_to_the_kernel_and_bursts_to_the_forwarder():
    independent, bursts = Condition(0.2, delay_ms=5), Condition(0.2, delay_ms=5, burst=8)
    assert independent.impairment(with_loss=False).loss == 0.0
    assert independent.impairment(with_loss=True).loss == 0.2
    assert bursts.impairment(with_loss=False).loss == 0.2 and bursts.impairment(with_loss=False).burst_length == 8
    assert bursts.name == '20 % loss in bursts of 8, 5 ms' and independent.name == '20 % loss, 5 ms'
    assert not Condition(0.2).forwarded and all(c.forwarded for c in (independent, bursts, Condition(rate_mbit=5)))


def test_what_is_told_to_the_forwarder_is_what_it_does():
    told = Condition(0.1, 20, 5, burst=4).impairment(with_loss=False)
    assert Impairment(**json.loads(order(told))) == told
