import math

import pytest

from evitif.protocol.clock import ClockFilter


def test_offset_and_round_trip_of_a_symmetric_link_are_exact():
    clock = ClockFilter()
    assert math.isnan(clock.offset_s)
    clock.add(10.0, 510.25, 510.75, 11.0)      # 0.25 s each way, held 0.5 s, 500 s ahead
    assert clock.offset_s == pytest.approx(500.0)
    assert clock.round_trip_s == pytest.approx(0.5)


def test_the_exchange_with_the_least_delay_is_believed():
    clock = ClockFilter()
    clock.add(0.0, 100.01, 100.01, 0.02)
    clock.add(1.0, 101.30, 101.30, 1.31)       # 0.3 s in a queue, one way
    assert clock.offset_s == pytest.approx(100.0)


def test_old_exchanges_are_forgotten():
    clock = ClockFilter()
    clock.add(0.0, 100.0, 100.0, 0.0)
    for k in range(8):
        clock.add(k, k + 200.1, k + 200.1, k + 0.2)      # the bridge's clock was set
    assert clock.offset_s == pytest.approx(200.0)


def test_an_exchange_that_ended_before_it_began_is_ignored():
    clock = ClockFilter()
    clock.add(5.0, 100.0, 103.0, 6.0)
    assert math.isnan(clock.offset_s)
