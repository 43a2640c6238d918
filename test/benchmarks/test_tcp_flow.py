"""The model of a TCP flow: it fills a bottleneck, shares it as its law says, and comes back from an outage."""

import heapq
import itertools

import pytest

from benchmarks.link.tcp_flow import Passage, TcpFlow


class Bottleneck:
    """A drop-tail queue in simulated time."""

    def __init__(self, rate, queue, mark_s=float('inf')):
        self.now, self.rate, self.queue, self.mark_s = 0.0, rate, queue, mark_s
        self._due, self._count, self._free_at = [], itertools.count(), 0.0
        self.waits = []

    def at(self, when, action):
        heapq.heappush(self._due, (when, next(self._count), action))

    def carry(self, size, now):
        begins = max(now, self._free_at)
        if begins - now > self.queue:
            return None
        self.waits.append(begins - now)
        self._free_at = begins + 8 * size / self.rate
        return Passage(self._free_at, begins - now > self.mark_s)

    def flow(self, kind, base=0.02, ecn=False):
        return TcpFlow(lambda: self.now, self.at, self.carry, base, kind, ecn)

    def run(self, seconds):
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.now, _, action = heapq.heappop(self._due)
            action()
        self.now = end


@pytest.mark.parametrize('kind', ['reno', 'cubic'])
def test_one_flow_fills_the_bottleneck_and_two_share_it(kind):
    world = Bottleneck(5e6, 0.1)
    first = world.flow(kind)
    world.run(10.0)
    assert first.rate(5.0, 10.0) >= 0.95 * 5e6 and first.timeouts == 0
    second = world.flow(kind)
    world.run(50.0)
    shares = sorted(flow.rate(30.0, 60.0) / 5e6 for flow in (first, second))
    assert shares[0] >= 0.35 and sum(shares) == pytest.approx(1.0, abs=0.03)


def test_the_period_and_the_loss_of_reno_are_those_of_its_equation():
    world = Bottleneck(5e6, 0.1, 0.04)
    flow = world.flow('reno', 0.06)
    world.run(5.0)
    cuts = flow.cuts
    world.run(60.0)
    window = 5e6 * (0.06 + 0.1) / 8 / 1500                     # segments, at its largest
    period = window / 2 * 0.75 * (0.06 + 0.1) * 1.03           # half a window of round trips, of which the mean is three quarters
    assert (flow.cuts - cuts) * period == pytest.approx(60.0, rel=0.25)


def test_cubic_takes_more_than_reno_where_the_product_of_delay_and_bandwidth_is_large():
    world = Bottleneck(20e6, 0.3)
    reno, cubic = world.flow('reno'), world.flow('cubic')
    world.run(60.0)
    assert cubic.rate(20.0, 60.0) >= 2 * reno.rate(20.0, 60.0)


def test_marks_keep_the_queue_short_without_loss():
    world = Bottleneck(5e6, 0.3, 0.02)
    flow = world.flow('reno', ecn=True)
    world.run(3.0)
    lost = flow.lost
    world.run(20.0)
    assert flow.lost == lost and flow.rate(5.0, 23.0) >= 0.9 * 5e6
    assert max(world.waits[-5000:]) <= 0.06


def test_it_comes_back_after_an_outage():
    world = Bottleneck(5e6, 0.1)
    flow = world.flow('cubic')
    world.run(5.0)
    world.queue = -1.0
    world.run(3.0)
    world.queue = 0.1
    world.run(6.0)
    assert flow.timeouts >= 1 and flow.rate(12.0, 14.0) >= 0.9 * 5e6
