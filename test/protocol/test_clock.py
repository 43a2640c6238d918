import math

import pytest

from evitif.protocol.rate.clock import ClockFilter


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


def test_the_two_ways_are_not_negative_and_unknown_at_first():
    clock = ClockFilter()
    assert math.isnan(clock.uplink_s(1.0, 2.0)) and math.isnan(clock.downlink_s(1.0, 2.0))
    clock.add(0.0, 100.01, 100.02, 0.05)
    assert clock.uplink_s(1.0, 101.02) == pytest.approx(0.03) and clock.downlink_s(101.0, 1.05) == pytest.approx(0.04)
    assert clock.uplink_s(1.0, 100.0) == clock.downlink_s(103.0, 1.0) == 0.0
