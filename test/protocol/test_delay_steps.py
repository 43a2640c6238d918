"""A path that becomes longer, without a queue: the delay of the empty path is found again."""

import pytest

from evitif.protocol.rate.report import Report, lost_between
from evitif.vocabulary import SendingState

from .simulated_link import PARAMETERS, Impairment
from .test_congestion import AdaptiveStream, goodput, started


@pytest.mark.parametrize('step', [0.026, 0.1, 0.3, -0.3])
@pytest.mark.parametrize('loss', [0.0, 0.3])
@pytest.mark.parametrize(('rate', 'fps'), [(0.0, 20.0), (3e6, 10.0)])
def test_the_rate_is_back_soon_after_the_delay_of_the_path_has_stepped(step, loss, rate, fps, seed=4):
    run, edge = started(uplink=Impairment(loss, delay=max(0.01, 0.01 - step), rate=rate, queue=0.3),
                        downlink=Impairment(loss, delay=0.01), seed=seed)
    stream = AdaptiveStream(run, edge, 18.0, rate=fps)
    run.run(8.0)
    before, allowed = goodput(run, run.now - 4.0, run.now), edge.uplink.allowed_bit_s
    run.uplink.delay += step
    stepped = run.now
    run.run(10.0)
    assert goodput(run, stepped + 5.0, run.now) >= 0.8 * before
    if rate == 0.0:
        assert edge.uplink.allowed_bit_s >= 0.8 * allowed
        assert SendingState.CONGESTED not in stream.states(stepped + 5.0)


@pytest.mark.parametrize('step', [0.1, 3.0, -3.0])
def test_a_clock_that_is_set_is_no_queue(step):
    run, edge = started()
    run.stream(edge, PARAMETERS, 100, 10.0)
    run.run(4.0)
    before = goodput(run, run.now - 2.0, run.now)
    real = edge._sender.on_report
    edge._sender.on_report = lambda report, *others: real(
        Report(report.sent_at, report.arrived_at + step, report.round_trip_s, report.expected, report.received, report.sent_bytes,
               report.ahead_bytes), *others)      # only the bridge's stamps differ
    run.run(5.0)
    assert goodput(run, run.now - 3.0, run.now) >= 0.9 * before


def test_a_queue_that_stays_full_although_less_is_sent_is_not_a_longer_path():
    run, edge = started(uplink=Impairment(delay=0.01, rate=30e6, queue=0.12))
    run.stream(edge, PARAMETERS, 400, 20.0)
    run.run(5.0)
    run.uplink.rate = 0.8e6
    fell = run.now
    run.run(10.0)
    assert goodput(run, fell + 5.0, run.now) <= 1.1 * 0.8e6


def test_counters_of_reports_wrap():
    def report(expected, received):
        return Report(0.0, 0.0, 0.0, expected % 2 ** 32, received % 2 ** 32, 0, 0)
    assert lost_between(report(2 ** 32 - 10, 2 ** 32 - 30), report(2 ** 32 + 90, 2 ** 32 + 20)) == (100, 0.5)
    assert lost_between(report(2 ** 32 + 5, 9), report(2 ** 32 - 5, 5)) == (0, 0.0)      # overtaken


def test_a_session_goes_on_past_four_thousand_million_datagrams():
    run, edge = started(uplink=Impairment(delay=0.01, loss=0.1))
    session, = run.bridge.sessions.values()
    session.tracker.expected, session.tracker.received = 2 ** 32 - 500, 2 ** 32 - 900
    stream = AdaptiveStream(run, edge, 8.0)
    run.run(8.0)
    assert session.tracker.expected > 2 ** 32 < session.tracker.received
    assert SendingState.CONGESTED not in stream.states(0.0)
