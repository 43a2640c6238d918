"""Edge and bridge over a bottleneck, in simulated time: congestion is told from radio loss, and what is allowed is kept to."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.congestion import fall, share, short
from benchmarks.link.tcp_flow import Passage, TcpFlow
from evitif.protocol.edge.config import PING_INTERVAL_S, EdgeConfig
from evitif.protocol.events import AnswerArrived, Connected, LinkLost
from evitif.protocol.frames.interleaving import scattered_order
from evitif.protocol.frames.packetiser import TokenFrame
from evitif.protocol.rate.congestion import CongestionControl
from evitif.protocol.rate.report import Report, passed_between
from evitif.vocabulary import SendingState

from .simulated_link import PARAMETERS, Impairment, Simulation, rows_of

ORDER = 1 + scattered_order(PARAMETERS.grid)
WHOLE = 40_000               # bytes of a whole frame on the wire, about
RATE = 20.0                  # frames a second: 6.4 Mbit/s


class AdaptiveStream:
    """Sends of each frame as many patches as the allowed rate has room for."""

    def __init__(self, run, edge, seconds, rate=RATE):
        self.run, self.edge, self.allowed = run, edge, []
        for k in range(int(seconds * rate)):
            run.at(run.now + k / rate, lambda k=k: self.send(k))

    def send(self, number):
        sending = self.edge.uplink
        self.allowed.append((self.run.now, sending.allowed_bit_s, sending.state, sending.queueing_delay_s))
        share = min(1.0, 0.9 * (sending.frame_bytes - 1_000) / (WHOLE - 1_000)) if sending.frame_bytes < WHOLE else 1.0
        patches = ORDER[:max(8, round(share * len(ORDER)))]
        frame = TokenFrame(number, number, 'camera', rows_of(PARAMETERS, 1), sent=None if share == 1.0 else np.append(0, patches))
        self.edge.send_frame(frame, self.run.now)

    def since(self, when):
        return np.array([(rate, delay) for at, rate, _, delay in self.allowed if at >= when])

    def states(self, when):
        return {state for at, _, state, _ in self.allowed if at >= when}


def started(uplink=None, downlink=None, config=None, seed=1):
    run = Simulation(uplink=uplink or Impairment(delay=0.01), downlink=downlink or Impairment(delay=0.01), seed=seed)
    run.add_bridge()
    edge = run.add_edge(config=config)
    run.run(1.0)
    return run, edge


def goodput(run, start, end):
    """bit/s on the wire of what left the edge."""
    return 8 * sum(len(data) + 28 for at, data in run.departed if start <= at < end) / (end - start)


def test_an_open_path_is_used_within_a_second():
    run, edge = started()
    stream = AdaptiveStream(run, edge, 5.0)
    run.run(1.0)
    assert edge.uplink.allowed_bit_s > 10e6
    run.run(4.0)
    assert stream.states(run.now - 4.0) == {'open'}
    assert edge.statistics.frames['cut'] <= 3


@pytest.mark.parametrize('rate', [0.5e6, 1e6, 3e6])
@pytest.mark.parametrize('loss', [0.0, 0.2])
def test_behind_a_bottleneck_of_less_than_it_needs_the_rate_converges_below_it_and_the_delay_is_bounded(rate, loss):
    run, edge = started(uplink=Impairment(delay=0.01, rate=rate, queue=0.5, loss=loss))
    stream = AdaptiveStream(run, edge, 30.0)
    begin = run.now
    run.run(30.0)
    late = stream.since(begin + 5.0)
    used = goodput(run, begin + 5.0, begin + 30.0)
    assert 0.5 * rate <= used <= rate
    assert late[:, 0].min() >= 0.2 * rate                # no oscillation to nothing
    delays = [event.uplink_s for event in run.of(AnswerArrived) if event.sent.sent_at > begin + 5.0]
    assert np.percentile(delays, 95) <= 0.15 and np.median(delays) <= 0.08
    assert SendingState.CONGESTED in stream.states(begin)


def test_a_rate_that_falls_and_rises_is_followed():
    run, edge = started(uplink=Impairment(delay=0.01, rate=5e6, queue=0.5))
    stream = AdaptiveStream(run, edge, 40.0)
    run.run(10.0)
    run.uplink.rate = 0.6e6
    fell = run.now
    run.run(10.0)
    # What is allowed looks for more again and again; what is sent keeps to the link, and no queue is left standing.
    assert np.median(stream.since(fell + 4.0)[:, 0]) <= 1.5 * 0.6e6
    assert goodput(run, fell + 4.0, fell + 10.0) <= 0.6e6
    delays = [event.uplink_s for event in run.of(AnswerArrived) if event.sent.sent_at > fell + 4.0]
    assert len(delays) >= 100 and np.median(delays) <= 0.08 and np.percentile(delays, 95) <= 0.2
    run.uplink.rate = 5e6
    rose = run.now
    run.run(20.0)
    assert goodput(run, rose + 12.0, rose + 20.0) >= 3e6


# A queue of seconds hides the fall from whoever waits for reports, and goes on filling while the sender believes in the rate of before.
@pytest.mark.parametrize(('before', 'after', 'queue', 'rate', 'loss'), [
    (100e6, 2e6, 2.0, 30.0, 0.0), (100e6, 1e6, 5.0, 20.0, 0.0), (100e6, 1e6, 5.0, 10.0, 0.3), (8e6, 1.5e6, 3.0, 15.0, 0.0),
    (8e6, 0.5e6, 5.0, 20.0, 0.0), (30e6, 1e6, 0.05, 30.0, 0.3)])
@pytest.mark.parametrize('adapts', [True, False])
def test_frames_are_answered_again_soon_after_the_capacity_fell_into_a_deep_queue(before, after, queue, rate, loss, adapts):
    run, edge = started(uplink=Impairment(loss, delay=0.01, rate=before, queue=queue), downlink=Impairment(loss, delay=0.01), seed=2)
    if adapts:
        AdaptiveStream(run, edge, 25.0, rate=rate)
    else:
        run.stream(edge, PARAMETERS, int(25 * rate), rate)
    run.run(5.0)
    run.uplink.rate = after
    fell = run.now
    run.run(20.0)
    answered = np.array([when - fell for when, _, event in run.events if isinstance(event, AnswerArrived)])
    assert all(((answered >= second) & (answered < second + 2)).sum() >= rate / 2 for second in range(8, 20, 2))
    delays = [event.uplink_s for event in run.of(AnswerArrived) if event.sent.sent_at > fell + 10.0]
    assert np.median(delays) <= 0.1
    assert edge.uplink.allowed_bit_s <= 2 * after


# A queue that stays full while the radio loses too has a steady delay, as a longer path has, and PINGs pass it best.
@pytest.mark.parametrize(('before', 'after', 'queue', 'rate', 'loss', 'seed'), [
    (30.0, 0.5, 0.5, 30.0, 0.1, 6), (8.0, 0.5, 0.5, 30.0, 0.3, 1), (100.0, 0.5, 2.0, 20.0, 0.3, 0)])
def test_a_full_queue_behind_a_lossy_radio_is_no_longer_path(before, after, queue, rate, loss, seed):
    assert fall(before, after, queue, rate, loss, seed)['back_s'] <= 10.0


@pytest.mark.parametrize(('rate', 'queue', 'policed', 'adapts'), [(2.0, 0.02, True, True), (5.0, 0.03, False, False)])
def test_a_short_queue_or_a_policer_is_found_out_although_frames_come_as_soon_as_there_is_a_session(rate, queue, policed, adapts):
    assert short(rate, queue, policed, 0.0, adapts, 1)['offered'] <= 1.25


@pytest.mark.parametrize(('kind', 'seed'), [('reno', 3), ('cubic', 1)])
def test_a_trial_beside_tcp_in_a_queue_of_five_datagrams_does_not_take_its_losses_for_the_radios(kind, seed):
    assert 0.5 <= share(kind, 3.0, 0.02, 0.01, seed)['ratio'] <= 2.0


def test_what_passed_counts_pings_apart():
    first = Report(0.0, 0.0, 0.02, 0, 0, 0, 0)
    last = Report(1.0, 1.0, 0.02, 100, 30, 20 * 80 + 80 * 1200, 0, small=20, small_bytes=20 * 80)
    assert passed_between(first, last, 0.0) == pytest.approx(20 * 80 + 12 * 1200)      # all PINGs, and half of the share of all
    assert passed_between(first, last, 0.7) == pytest.approx(last.sent_bytes)      # the radio explains it
    assert passed_between(first, replace(last, received=0), 0.7) == 0
    assert passed_between(first, first, 0.3) == 0


def test_frames_wait_while_the_queue_is_longer_than_their_answers_may_take():
    run, edge = started(uplink=Impairment(delay=0.01, rate=100e6, queue=5.0))
    run.stream(edge, PARAMETERS, 80, 10.0)
    run.run(2.0)
    run.uplink.rate = 1e6
    fell = run.now
    run.run(2.0)
    assert edge.uplink.state == SendingState.BREAKER
    stopped = run.now
    run.run(0.5)
    assert 0 < goodput(run, stopped, run.now) <= 20e3            # only PING
    run.run(3.5)
    assert edge.uplink.state != SendingState.BREAKER
    newest = [event.answer.frame_id for event in run.of(AnswerArrived) if event.sent.sent_at > fell + 4.0]
    assert newest == sorted(newest) and newest[-1] >= 77


def test_no_frame_leaves_where_pongs_come_and_none_tells_anything():
    run, edge = started()
    edge._session.pings.take = lambda sent_at: None      # as if each answered a PING from before the oldest that is remembered
    run.downlink.passes = lambda size, now: now if size < 100 else None      # PONGs come, answers do not
    run.stream(edge, PARAMETERS, 40, 10.0)
    run.run(1.5)
    assert edge.connected and edge.uplink.state == SendingState.BREAKER
    begin = run.now
    run.run(2.0)
    assert edge.connected and goodput(run, begin, run.now) <= 20e3


@pytest.mark.parametrize(('late_s', 'falls'), [(0.25, False), (1.0, True)])
def test_one_late_interval_takes_nothing_from_a_rate_of_which_little_is_used(late_s, falls):
    run, edge = started()
    stream = AdaptiveStream(run, edge, 8.0)
    run.run(3.0)
    begin = run.now
    run.uplink.delay = 0.06
    run.run(late_s)
    run.uplink.delay = 0.01
    run.run(4.0)
    allowed = stream.since(begin)[:, 0]
    assert (allowed.min() < allowed[0]) == falls
    assert (SendingState.CONGESTED in stream.states(begin)) == falls


@pytest.mark.parametrize(('loss', 'burst'), [(0.3, 0.0), (0.6, 0.0), (0.5, 6.0)])
def test_radio_loss_takes_nothing_from_the_rate(loss, burst):
    run, edge = started(uplink=Impairment(loss, burst, delay=0.01), downlink=Impairment(loss, burst, delay=0.01))
    stream = AdaptiveStream(run, edge, 20.0)
    begin = run.now
    run.run(20.0)
    assert stream.since(begin + 3.0)[:, 0].min() >= 1.5 * 8 * WHOLE * RATE
    states = [state for at, _, state, _ in stream.allowed if at >= begin + 3.0]
    assert states.count(SendingState.RADIO_LOSS) >= 0.9 * len(states)


def test_loss_that_rises_with_the_rate_and_has_no_delay_is_a_policer():
    run, edge = started(uplink=Impairment(delay=0.01, rate=8e6, queue=0.004))
    AdaptiveStream(run, edge, 20.0, rate=80.0)          # 26 Mbit/s
    begin = run.now
    run.run(20.0)
    assert goodput(run, begin + 5.0, begin + 20.0) <= 1.5 * 8e6


def beside(run, kind, base=0.02):
    """A TCP flow through the same bottleneck."""
    def carry(size, now):
        left = run.uplink.passes(size - 28, now)
        return None if left is None else Passage(left)
    return TcpFlow(lambda: run.now, run.at, carry, base, kind)


# `python -m benchmarks.congestion` has the whole range.
@pytest.mark.parametrize(('rate', 'queue', 'base', 'kind'), [
    (8e6, 0.02, 0.02, 'reno'), (3e6, 0.05, 0.08, 'reno'), (8e6, 0.1, 0.02, 'cubic'), (3e6, 0.2, 0.02, 'reno'), (8e6, 0.3, 0.02, 'cubic')])
def test_it_takes_as_much_as_a_tcp_flow_beside_it(rate, queue, base, kind):
    run, edge = started(uplink=Impairment(delay=base / 2, rate=rate, queue=queue), downlink=Impairment(delay=base / 2))
    AdaptiveStream(run, edge, 36.0)
    run.run(5.0)
    flow = beside(run, kind, base)
    run.run(30.0)
    own, other = goodput(run, run.now - 20, run.now), flow.rate(run.now - 20, run.now)
    assert 0.5 <= own / other <= 2.0, (own, other)
    assert own + other >= 0.9 * rate


@pytest.mark.parametrize(('rate', 'fps', 'queue', 'policed'), [(5e6, 30.0, 0.02, False), (2e6, 20.0, 0.03, True)])
@pytest.mark.parametrize('loss', [0.0, 0.3])
@pytest.mark.parametrize('adapts', [True, False])
def test_what_a_short_queue_or_a_policer_loses_is_found_out(rate, fps, queue, policed, loss, adapts):
    run, edge = started(uplink=Impairment(loss, delay=0.01, rate=rate, queue=queue, policed=policed),
                        downlink=Impairment(loss, delay=0.01))
    if adapts:
        AdaptiveStream(run, edge, 26.0, rate=fps)
    else:
        run.stream(edge, PARAMETERS, int(26 * fps), fps)
    run.run(25.0)
    assert 0.75 * rate <= goodput(run, run.now - 17, run.now) <= 1.25 * rate


@pytest.mark.parametrize('loss', [0.0, 0.3])
@pytest.mark.parametrize('mark_s', [0.005, 0.015])
def test_marks_keep_the_queue_short_and_loss_is_the_radios(loss, mark_s):
    run, edge = started(uplink=Impairment(loss, delay=0.01, rate=3e6, queue=0.5, ecn=1, mark_s=mark_s),
                        downlink=Impairment(loss, delay=0.01))
    AdaptiveStream(run, edge, 26.0)
    run.run(25.0)
    start = run.now - 15
    assert 0.6 * 3e6 <= goodput(run, start, run.now) <= 3.1e6
    delays = [event.uplink_s for event in run.of(AnswerArrived) if event.sent.sent_at > start]
    assert np.percentile(delays, 95) <= 0.1
    session, = run.bridge.sessions.values()
    assert session._marks.congestion > 0 and session._marks.capable > session._marks.congestion


def test_marks_on_all_datagrams_of_an_empty_path_are_not_believed():
    run, edge = started(uplink=Impairment(delay=0.01, ecn=3))
    AdaptiveStream(run, edge, 31.0)
    run.run(30.0)
    assert goodput(run, run.now - 5, run.now) >= 0.9 * 8 * 38_000 * RATE


def test_a_moment_of_heavy_loss_is_the_radio():
    run, edge = started()
    stream = AdaptiveStream(run, edge, 8.0)
    run.run(3.0)
    run.uplink.loss = 0.7
    run.run(0.6)
    run.uplink.loss = 0.0
    passed = run.now
    run.run(3.0)
    assert stream.since(passed + 1.5)[:, 0].min() >= 1.5 * 8 * WHOLE * RATE


def test_the_breaker_opens_after_a_second_without_a_report_and_closes_with_the_first():
    run, edge = started()
    AdaptiveStream(run, edge, 8.0)
    run.run(2.0)
    run.downlink.loss = 1.0
    silent = run.now
    run.run(4.0)
    assert edge.uplink.state == SendingState.BREAKER and edge.uplink.frame_bytes == 0.0
    opened, = run.when(LinkLost)
    assert 3 * PING_INTERVAL_S <= opened - silent <= 1.01 + PING_INTERVAL_S
    assert goodput(run, opened + 0.1, run.now) <= 120e3         # only HELLO
    run.downlink.loss = 0.0
    run.run(1.0)
    assert run.when(Connected)[-1] - silent - 4.0 <= 0.5
    assert edge.uplink.state != SendingState.BREAKER


@pytest.mark.parametrize('limit', [0.3e6, 1e6, 8e6])
@pytest.mark.parametrize('loss', [0.0, 0.6])
@pytest.mark.parametrize('control', [True, False])
def test_the_rate_limit_is_kept_over_every_second(limit, loss, control):
    config = EdgeConfig(rate_limit_bit_s=limit, congestion_control=control)
    run, edge = started(uplink=Impairment(loss), downlink=Impairment(loss), config=config)
    AdaptiveStream(run, edge, 6.0)
    run.run(3.0)
    run.downlink.loss = 1.0
    run.run(1.5)
    run.downlink.loss = loss
    run.run(2.0)
    times = np.array([at for at, _ in run.departed])
    sizes = np.cumsum([0] + [8 * (len(data) + 28) for _, data in run.departed])
    within = sizes[np.searchsorted(times, times + 1.0, 'left')] - sizes[:-1]
    assert within.max() <= limit
    assert within.max() >= 0.5 * min(limit, 6e6)


def test_a_frame_leaves_in_some_few_bursts_and_a_newer_one_ends_it():
    run, edge = started(config=EdgeConfig(rate_limit_bit_s=2e6))
    for number in range(4):
        edge.send_frame(TokenFrame(number, number, 'camera', rows_of(PARAMETERS, 1)), run.now)
        before = len(run.departed)
        run.run(0.05)
        bursts = {at for at, _ in run.departed[before:]}
        assert len(bursts) <= 8
    assert edge.statistics.frames['cut'] == 3
    run.run(1.0)
    assert [event.answer.frame_id for event in run.of(AnswerArrived)] == [0, 1, 2, 3]
    assert edge.statistics.remote_packet_error_rate == 0.0      # what was not sent is not lost


@pytest.mark.parametrize('limit', [-1.0, 1e5, float('inf'), float('nan')])
def test_an_impossible_limit_is_refused(limit):
    with pytest.raises(ValueError, match='rate limit is .* expected 0 .none. or at least 300000 bit/s'):
        run = Simulation()
        run.add_edge(config=replace(EdgeConfig(), rate_limit_bit_s=limit))


def test_reports_that_say_that_nothing_was_delivered_are_taken():
    """As when two PINGs of an edge that sends no frames reach the bridge at one time, behind a queue."""
    control = CongestionControl()
    for k in range(20):
        control.on_report(Report(0.1 * k, 5.0 if k else 0.0, 0.1, k, k, 0, 0), float('nan'), 0.1 * k)
    assert control.state == SendingState.CONGESTED
