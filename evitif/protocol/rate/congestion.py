"""How fast frames may be sent: delay tells congestion from radio loss.

Each report (PONG) says when a PING arrived, and how many datagrams did. From reports come

* the queueing delay: the one-way delay above that of the empty path (`base_delay`), less what the sender's own burst takes;
* the share of datagrams lost;
* the rate delivered, from the first report that met a queue to the last, since the bottleneck's rate shows only while it is busy.

Every 0.2 s, or every round trip if that is longer, the rate is decided anew:

* A queue stands: even the *least* queueing delay of the interval is above the target of 25 ms. That is congestion. The rate falls
  to 90 % of the rate delivered, as in GCC (draft-ietf-rmcat-gcc), and further, by up to a half, until the queue is gone. If nothing
  was lost and less than half of the rate is used, only the second such interval in a row counts.
* Only the largest delay is above the target: a frame's datagrams queue for a moment. The rate stays.
* Neither, and the rate is being used: it grows. It doubles each 0.05 s or round trip until the first congestion (slow start); later
  it grows by 5 % a second, and twice as fast with each second without trouble, up to doubling in a second, as CUBIC does (RFC
  9438).
* Loss without delay is the radio's (RFC 8836, section 4, asks to tell it from congestion) and takes nothing from the rate. But
  short queues and policers lose without delay too: where more is lost than before, `loss_trial` finds out.
* Another flow fills the queue, as TCP does: the delay stays although less was sent for long enough, or the queue grows faster than
  one's own datagrams can make it, or a queue too short to stand loses now and then. Yielding on and on would leave nothing, so the
  rate is what TCP's would be (`competition`), until nobody else is seen, or no queue.
"""

import math
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

from evitif.protocol.rate.base_delay import BaseDelay
from evitif.protocol.rate.competition import TOGETHER, Competition, CrossTraffic, loss_events
from evitif.protocol.rate.loss_trial import LESS, LossTrial, deviation
from evitif.protocol.rate.marks import MarkedPath
from evitif.protocol.rate.report import Report, lost_between, marked_between, passed_between, since
from evitif.vocabulary import SendingState

TARGET_S = 0.025             # queueing delay
BUSY_S = 0.005               # queueing delay at which the bottleneck has not been idle
RECENT_S = 10.0              # that what was carried, and that another flow was there, are remembered
INTERVAL_S, SLOW_START_INTERVAL_S = 0.2, 0.05
BETA = 0.9                   # of what was delivered
DRAIN_S = 0.5                # a standing queue should be gone by then
ALONE, ALONE_S = 0.1, 1.5    # share of the others below which nobody fills the queue, if it is so for that time
MOST_OF_TCP = 0.25           # share lost beyond the radio's with which another flow still fills a queue
UNLIKELY = 0.1               # by which the share that the radio loses grows at most in an interval that met a queue
STRAYED = 4                  # datagrams that are lost and do not come late
OTHERS = 0.2                 # share of the others from which somebody does
GROWTH, MAX_GROWTH = 0.05, 1.0          # a second
PLATEAU_S = 6.0              # for which the rate that a trial has found hardly grows
RADIO_LOSS = 0.02            # share lost without delay that is worth a name
CLEAR_S = 1.0                # without a standing queue: the episode ends
FLOOR_BIT_S, CEILING_BIT_S = 150_000.0, 10e9
INITIAL_DATAGRAMS = 10       # a round trip (RFC 6928)
_DATAGRAM = 1228             # bytes with IP and UDP headers
_UNKNOWN_ROUND_TRIP_S = 0.1
_TRAIN = 8                   # datagrams in an interval that show whether the rate causes delay


@dataclass
class _Episode:
    """A time in which a queue stands, now and again. If it is one's own, it is gone once `drained_s` reaches `delay_s`."""

    delay_s: float             # the longest
    rate_bit_s: float          # that was delivered then
    stood_at: float            # when the queue was last seen
    drained_s: float = 0.0     # how much of it should be gone, by what was sent less than `rate_bit_s`
    stood_s: float = 0.0       # the queue of the interval before
    intervals: int = 0
    resume_bit_s: float = 0.0  # rate to return to when the queue is gone; 0: it does not drain


_Sample = tuple[float, Report]      # queueing delay, report


class CongestionControl:
    """The allowed rate of one session, bit/s with IP and UDP headers.

    :param ceiling_bit_s: never more
    :param follow: whether the rate follows the reports; else it is the ceiling, and only `state` changes
    """

    def __init__(self, ceiling_bit_s: float = CEILING_BIT_S, follow: bool = True):
        self._ceiling = min(ceiling_bit_s, CEILING_BIT_S)
        self._floor = FLOOR_BIT_S if follow else self._ceiling
        self.rate_bit_s = self._bounded(INITIAL_DATAGRAMS * _DATAGRAM * 8 / _UNKNOWN_ROUND_TRIP_S)
        self.state = SendingState.OPEN
        self.queueing_delay_s = math.nan      # least of the last interval
        self.last_queueing_s = math.nan       # of the last report
        self._base = BaseDelay()
        self._interval: list[_Sample] = []    # since the last decision
        self._last: _Sample | None = None     # the newest of the interval before
        self._decided_at = math.nan
        self._bytes = self._datagrams = 0     # sent since the last decision
        self._slow_start = True
        self._radio_loss = 0.0                # share lost while no queue stands, smoothed over as many intervals at first
        self._radio_intervals = 0
        self._radio_burst = math.nan
        self._carried = 0.0                   # bit/s, the most that was carried recently
        self._calm_bit_s = self.rate_bit_s    # before the queue stood that stands; and
        self._calm_loss = 0.0                 # the share lost then, smoothed
        self._longest_s = 0.0                 # queueing delay that was met recently
        self._suspected = False               # a queue stood in the interval before
        self._growth: float | None = None      # when growth began
        self._episode: _Episode | None = None
        self._competition: Competition | None = None
        self._competed_at = -math.inf
        self._cross = CrossTraffic()
        self._trial = LossTrial()
        self._marks = MarkedPath()
        self.marked = False                   # whether the path is known to mark
        self._deficits: deque[float] = deque(maxlen=10)      # datagrams lost by interval; what came late is taken off again
        self._alone_s = self._emptied_s = 0.0      # of competition, for which no other flow was seen, and no queue
        self._idle_expected = self._idle_lost = 0.0      # datagrams while the bottleneck was idle, the older ones forgotten

    def sent(self, datagrams: int, wire_bytes: int) -> None:
        """Note what was sent."""
        self._datagrams += datagrams
        self._bytes += wire_bytes

    def on_round_trip(self, seconds: float) -> None:
        """A round trip was measured: the shortest says how fast to begin."""
        if self._slow_start and not self._trial.running:
            self.rate_bit_s = self._bounded(max(self.rate_bit_s, INITIAL_DATAGRAMS * _DATAGRAM * 8 / max(seconds, 1e-3)))

    def on_report(self, report: Report, mean_burst: float, now: float) -> None:
        """Take a report; `mean_burst`: datagrams lost in a row, NaN where unknown."""
        self.on_round_trip(report.round_trip_s)
        # While another flow fills the queue, the least recent delay is not that of the empty path.
        self.last_queueing_s = self._base.queueing(report, now, frozen=self._competition is not None)
        self._interval.append((self.last_queueing_s, report))
        if self._last is None:
            self._decided_at, self._last = now, self._interval[-1]
        quick = self._slow_start and max(queue for queue, _ in self._interval) <= TARGET_S
        length = max(SLOW_START_INTERVAL_S if quick else INTERVAL_S, report.round_trip_s)
        if now - self._decided_at >= length and len(self._interval) >= (1 if quick else 2):
            self._decide(self._last, mean_burst, now)

    def _decide(self, last: _Sample, mean_burst: float, now: float) -> None:
        newest, elapsed = self._interval[-1][1], now - self._decided_at
        expected, lost = lost_between(last[1], newest)
        used = self._bytes * 8 / elapsed if elapsed > 0 else 0.0
        self._carried = max(used * (1 - lost), self._carried * math.exp(-elapsed / RECENT_S))
        # The time that a burst itself takes is no sign of too high a rate.
        path = max(self.rate_bit_s, self._carried) / 8
        queueing = [max(queue - report.ahead_bytes / path, 0.0) for queue, report in self._interval]
        standing, peak = min(queueing), max(queueing)
        if standing <= TARGET_S and self._competition is None:
            self._radio_burst = mean_burst if lost <= self._radio_loss + UNLIKELY or peak <= TARGET_S else self._radio_burst
            self._radio_intervals += 1
            self._radio_loss = _smoothed(self._radio_loss, lost, peak, self._radio_intervals)
        self.queueing_delay_s = standing
        least = min(queue for queue, _ in self._interval)
        if least <= TARGET_S and self._episode is None and self._competition is None:
            self._calm_bit_s = self.rate_bit_s
        if least <= TARGET_S / 2:
            self._base.clear()
            self._calm_loss = _smoothed(self._calm_loss, lost, peak)
        self._longest_s = max(peak, self._longest_s * math.exp(-elapsed / RECENT_S))
        # A deep queue that has been twice as long loses nothing.
        if peak <= BUSY_S or 2 * peak <= self._longest_s and self._longest_s > 2 * TARGET_S:
            self._idle_expected, self._idle_lost = 0.8 * self._idle_expected + expected, 0.8 * self._idle_lost + lost * expected
        radio = max(self._idle_lost / self._idle_expected if self._idle_expected >= 50 else 0.0, self._trial.trusted)
        excess = _excess(lost, radio, expected, mean_burst)
        reports = [report for _, report in self._interval]
        if least > TARGET_S / 2 and self._base.has_moved(last[1], reports, self._calm_loss, excess > 0, now):
            self._resume()
            self._last, self._decided_at, self._interval = None, now, []
            self._bytes = self._datagrams = 0
            return
        missing = since(last[1].expected, newest.expected) - since(last[1].received, newest.received)
        self._deficits.append(missing - radio * expected)
        self._cross.add([last, *self._interval], radio)
        if self._competition is not None and standing > TARGET_S and excess > MOST_OF_TCP * expected \
                and not self._cross.others(self._interval[-1][1].sent_at) > OTHERS:
            self._stop_competing()      # no other flow lives with such loss
        factor = self._marks.factor(*marked_between(last[1], newest), least, elapsed, max(newest.round_trip_s, 1e-3), now)
        self.marked = self._marks.marks(now)
        if self.marked:
            excess = 0.0      # it would have said so
        if factor < 1 and self._competition is not None:
            excess = 1.0
        if factor < 1 and self._competition is None and standing <= TARGET_S:
            self.rate_bit_s = self._bounded(factor * min(self.rate_bit_s, max(2 * used, FLOOR_BIT_S)))
            self.state, self._slow_start = SendingState.CONGESTED, False
            self._growth = now if factor < BETA else self._growth
        elif self._try(standing, peak, missing, expected, newest.sent_bytes - last[1].sent_bytes, mean_burst, used, elapsed, now):
            pass
        elif self._competition is not None:
            self._competed_at = now
            self._compete(self._competition, last, peak, excess, radio, elapsed, used, now)
        elif standing > TARGET_S and not self._doubted(lost, used):
            self._back_off(standing, peak, min(self._delivered(last, used), self.rate_bit_s), used, elapsed, now)
        elif standing <= TARGET_S and peak > BUSY_S and 0 < excess < MOST_OF_TCP * expected \
                and sum(self._deficits) > STRAYED - 3 * min(self._deficits):
            self._compete(self._start_competing(min(self.rate_bit_s, 1.25 * used)), last, peak, excess, radio, elapsed, used, now)
        elif standing <= TARGET_S:
            self._suspected = False
            self._follow(peak, used, elapsed, now)
        if self.state != SendingState.CONGESTED:
            self.state = SendingState.RADIO_LOSS if lost > RADIO_LOSS else SendingState.OPEN
        self._last, self._decided_at, self._interval = self._interval[-1], now, []
        self._bytes = self._datagrams = 0

    def _delivered(self, last: _Sample, used: float) -> float:
        """What the bottleneck has carried while a queue stood, bit/s: from the first report behind a queue to the last."""
        first = last[1] if last[0] > BUSY_S else self._interval[0][1]
        newest = self._interval[-1][1]
        took = newest.arrived_at - first.arrived_at
        if took <= 0:
            return used
        # What the radio loses has passed the bottleneck; only what is surely lost beyond that has not.
        sent, passed = newest.sent_bytes - first.sent_bytes, passed_between(first, newest, self._radio_loss)
        datagrams = max(passed / _DATAGRAM, 1.0)
        return 8 * min(passed * (1 + 2 * deviation(self._radio_loss, datagrams, self._radio_burst)), sent) / took

    def _try(self, standing: float, peak: float, missing: int, expected: int, sent: int, mean_burst: float, used: float,
             elapsed: float, now: float) -> bool:
        """See whether loss without delay follows the rate; whether a trial decides the rate now."""
        if standing > TARGET_S or self._marks.marks(now):
            self._trial.abort()
        elif self._trial.running:
            rate = self._trial.observe([report for _, report in self._interval], peak > 2 * BUSY_S, mean_burst, now)
            if rate:
                self.rate_bit_s, self.state = self._bounded(rate), SendingState.OPEN
            return True
        elif self._trial.suspects(expected, missing, sent, elapsed, mean_burst, now) \
                and LESS * used > 2 * self._floor and (self._competition is None or self._trial.risen_by() > MOST_OF_TCP):
            rate = self._trial.verdict(now)
            if rate:
                self._stop_competing()
                self.state, self._slow_start, self._growth = SendingState.CONGESTED, False, now + PLATEAU_S
            self.rate_bit_s = self._bounded(rate or self._trial.begin(self.rate_bit_s, now))
            return True
        return False

    def _doubted(self, lost: float, used: float) -> bool:
        """Whether a queue seen for the first time may not be one's own: little of the rate is used, and nothing lost."""
        doubted = not self._suspected and self._episode is None and lost == 0 and used < 0.5 * self.rate_bit_s
        self._suspected = True
        return doubted

    def _back_off(self, standing: float, peak: float, delivered: float, used: float, elapsed: float, now: float) -> None:
        """A queue stands."""
        draining = self._episode is not None and self._episode.resume_bit_s > 0
        if used < 0.5 * self.rate_bit_s and standing <= INTERVAL_S and not self._slow_start and not draining:
            # Less was sent than the path takes. Only the part of the rate above the most carried recently is untried.
            delivered = max(delivered, min(0.5 * self.rate_bit_s / BETA, self._carried))
        self.state, self._slow_start, self._growth = SendingState.CONGESTED, False, None
        if self._episode is None or standing > self._episode.delay_s:
            self._episode = _Episode(peak, max(delivered, 1.0), now)
        episode = self._episode
        episode.intervals += 1
        if episode.intervals == 2 and standing > INTERVAL_S:      # the first began in front of the bottleneck of before
            episode.rate_bit_s = min(episode.rate_bit_s, max(delivered, 1.0))
        overdue = episode.drained_s > 1.25 * episode.delay_s + TARGET_S and standing > 0.7 * episode.stood_s
        if now - self._competed_at <= RECENT_S or overdue or self._cross.others(self._interval[-1][1].sent_at) > OTHERS:
            self._competed_at = now
            self._start_competing(max(self.rate_bit_s, episode.rate_bit_s / 2))
            return
        if episode.resume_bit_s > 0 and standing <= episode.stood_s:      # it drains: the rate sent now is not the path's
            delivered = episode.resume_bit_s / BETA
        # What was sent in this interval shows in the delay of the next.
        episode.drained_s += max(1 - used / episode.rate_bit_s, 0.0) * elapsed
        episode.stood_at = now
        episode.resume_bit_s, episode.stood_s = self._bounded(BETA * delivered), standing
        drain = 1 - (standing - TARGET_S / 2) / DRAIN_S
        self.rate_bit_s = self._bounded(delivered * min(max(drain, 0.5), BETA))

    def _follow(self, peak: float, used: float, elapsed: float, now: float) -> None:
        """No queue stands."""
        self.state = SendingState.OPEN
        if self._episode is not None:
            if self._episode.resume_bit_s > 0:
                self.rate_bit_s = max(self._episode.resume_bit_s, self.rate_bit_s)
                self._episode.resume_bit_s, self._growth = 0.0, None
            if now - self._episode.stood_at >= CLEAR_S:
                self._episode = None
        if peak > TARGET_S:
            self._slow_start, self._growth = False, None
            return
        if used < 0.25 * self.rate_bit_s and self._datagrams < _TRAIN:
            return
        if self._growth is None:
            self._growth = now
        speed = min(GROWTH * 2 ** (now - self._growth), MAX_GROWTH)
        self.rate_bit_s = self._bounded(self.rate_bit_s * (2.0 if self._slow_start else 1 + speed * min(elapsed, 1.0)))

    def _compete(self, competition: Competition, last: _Sample, peak: float, excess: float, radio: float, elapsed: float, used: float,
                 now: float) -> None:
        """Another flow fills the queue."""
        self.state = SendingState.CONGESTED
        newest = self._interval[-1][1].sent_at
        shares, others = self._cross.shares(newest), self._cross.others(newest)
        if math.isnan(shares[0]):
            shares = others, max(1 - others, 0.0)
        self._alone_s = self._alone_s + elapsed if others < ALONE else 0.0
        self._emptied_s = self._emptied_s + elapsed if peak <= BUSY_S else 0.0
        if self._alone_s > ALONE_S or self._emptied_s > CLEAR_S or _drained_alone([last, *self._interval], self.rate_bit_s):
            self._stop_competing()
            return
        round_trip = sum(report.round_trip_s for _, report in self._interval) / len(self._interval)
        losses = max(loss_events([last[1], *(report for _, report in self._interval)], radio, round_trip), excess / TOGETHER, 1.0)
        self.rate_bit_s = self._bounded(competition.decide(losses if excess > 0 else 0.0, elapsed, round_trip, used, shares, now))

    def _start_competing(self, rate_bit_s: float) -> Competition:
        self._competition = Competition(self._bounded(rate_bit_s))
        self.state, self._slow_start, self._growth = SendingState.CONGESTED, False, None
        self._alone_s = self._emptied_s = 0.0
        return self._competition

    def _resume(self) -> None:
        """What stood was no queue: the path has become longer, and carries what it did."""
        self._stop_competing()
        self.rate_bit_s, self._suspected = max(self.rate_bit_s, self._calm_bit_s), False
        self.queueing_delay_s = self.last_queueing_s = 0.0

    def _stop_competing(self) -> None:
        """The queue was its own."""
        self._competition = self._episode = self._growth = None
        self._competed_at, self.state = -math.inf, SendingState.OPEN

    def _bounded(self, bit_s: float) -> float:
        return min(max(bit_s, self._floor), self._ceiling)


def _drained_alone(samples: list[_Sample], rate_bit_s: float) -> bool:
    """Whether the queue shrank as fast as time passed while hardly anything was sent: nobody else fills it."""
    for (queue, first), (later_queue, second) in pairwise(samples):
        took, sent = second.sent_at - first.sent_at, 8 * (second.sent_bytes - first.sent_bytes)
        if took >= INTERVAL_S / 2 and sent < 0.1 * rate_bit_s * took and queue - later_queue > 0.7 * took:
            return True
    return False


def _smoothed(share: float, lost: float, peak: float, intervals: int = 4) -> float:
    """The share that the radio loses; a queue that stood for a part of an interval may have lost the most of what was lost in it."""
    return share + ((lost if peak <= TARGET_S or intervals == 1 else min(lost, share + UNLIKELY)) - share) / min(intervals, 4)


def _excess(lost: float, radio: float, expected: int, mean_burst: float) -> float:
    """Datagrams lost beyond what the radio loses, as far as that is sure; 0: none."""
    excess = (lost - radio) * expected
    return excess if excess > 3 * expected * deviation(radio, max(expected, 1), mean_burst) * (radio > 0) + 0.5 else 0.0


