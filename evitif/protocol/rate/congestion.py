"""How fast frames may be sent: delay tells congestion from radio loss.

The receiver reports (PONG) say when a PING arrived, and how many datagrams did. From that come the queueing delay, which is the
one-way delay above the least of the last ten seconds, as in BBR (draft-ietf-ccwg-bbr) and Copa (NSDI 2018), less what the sender's
own burst takes; what is lost; and the rate at which data is delivered, which is what the bottleneck carries only while it is busy: it
is counted from the first report that met a queue to the last. The offset between the clocks drops out. After each interval of 0.2 s, or
a round trip where that is longer, the rate is decided anew:

* The *least* queueing delay of the interval is above the target of 25 ms, so a queue stands: congestion. The rate falls to 90 %
  of what was delivered meanwhile, as in GCC (draft-ietf-rmcat-gcc), and until the queue has gone below that, by up to a half.
  Where nothing was lost and less than half of the rate is used, only the second such interval in a row counts.
* Only the largest delay is above the target: a frame's datagrams queue for a moment. The rate stays.
* Neither, and the rate is being used: it grows. It doubles each 0.05 s or round trip until the first congestion (slow start), later by 5 %
  a second, and twice as fast with each second that all goes well, up to doubling in a second, as CUBIC does (RFC 9438).
* Loss without delay is the radio's (RFC 8836, section 4, asks that it be told from congestion) and takes nothing from the rate.
  Where the share that is lost has risen by ten points, in at most eight seconds in which the rate grew by a quarter, the growth
  is taken back: short queues and policers lose without delay.
* Delay that has not gone although less was sent for long enough: another flow fills the queue, as TCP does. Yielding on and on
  would leave nothing, so, as in Copa's competitive mode, the rate then follows loss, as Reno does (RFC 5681): half a datagram
  a round trip more in each, 30 % less for a loss, which is as fair as one and a half (RFC 9438, section 4.3). Every five
  seconds it is halved for two intervals to see whether the queue was its own; a queue that is seen empty twice is nobody's.
"""

import math
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

from evitif.vocabulary import SendingState

TARGET_S = 0.025             # queueing delay
BUSY_S = 0.005               # queueing delay at which the bottleneck has not been idle
BASE_WINDOW_S = 10.0         # of the least delay; BBR's and Copa's
INTERVAL_S, SLOW_START_INTERVAL_S = 0.2, 0.05
BETA = 0.9                   # of what was delivered
DRAIN_S = 0.5                # in which a standing queue is to be gone
RENO_BETA, RENO_ALPHA = 0.7, 0.53       # as fair to Reno as its own 1/2 and 1: alpha = 3 (1 - beta) / (1 + beta) (RFC 9438, section 4.3)
GROWTH, MAX_GROWTH = 0.05, 1.0          # a second
RADIO_LOSS = 0.02            # share lost without delay that is worth a name
LOSS_RISE, COMPARE_S = 0.1, 8.0         # share more lost than at most so long ago
CLEAR_S = 1.0                # without a standing queue end an episode
PROBE_EVERY_S = 5.0
FLOOR_BIT_S, CEILING_BIT_S = 150_000.0, 10e9
INITIAL_DATAGRAMS = 10       # a round trip (RFC 6928)
_DATAGRAM = 1228             # bytes with IP and UDP headers
_UNKNOWN_ROUND_TRIP_S = 0.1
_TRAIN = 8                   # datagrams in an interval that show whether the rate causes delay


@dataclass(frozen=True)
class Report:
    """What one PONG tells. `sent_at` is on the edge's clock, `arrived_at` on the bridge's, seconds."""

    sent_at: float
    arrived_at: float
    round_trip_s: float
    expected: int              # datagrams, cumulative
    received: int
    sent_bytes: int            # on the wire when the PING went out, cumulative, IP and UDP headers included
    ahead_bytes: int           # what a burst had sent of it ahead of the allowed rate


@dataclass
class _Episode:
    """A time in which a queue stands, now and again. Were it one's own, it would be gone as soon as `drained_s` is `delay_s`."""

    delay_s: float             # the longest
    rate_bit_s: float          # that was delivered then
    stood_at: float            # when the queue was last seen
    drained_s: float = 0.0     # how much of it would be gone, by what was sent less than `rate_bit_s`


class CongestionControl:
    """The allowed rate of one session, bit/s with IP and UDP headers; starts anew with each.

    :param ceiling_bit_s: never more
    :param follow: whether the rate follows the reports; else it is the ceiling, and only the state tells
    """

    def __init__(self, ceiling_bit_s: float = CEILING_BIT_S, follow: bool = True):
        self._ceiling = min(ceiling_bit_s, CEILING_BIT_S)
        self._floor = FLOOR_BIT_S if follow else self._ceiling
        self.rate_bit_s = self._bounded(INITIAL_DATAGRAMS * _DATAGRAM * 8 / _UNKNOWN_ROUND_TRIP_S)
        self.state = SendingState.OPEN
        self.queueing_delay_s = math.nan      # least of the last interval
        self.last_queueing_s = math.nan       # of the last report
        self._delays: deque[tuple[float, float]] = deque()      # (when, one-way delay) of the least ones, ascending
        self._interval: list[tuple[float, Report]] = []         # (queueing delay, report) since the last decision
        self._last: tuple[float, Report] | None = None          # the newest of the interval before
        self._decided_at = math.nan
        self._bytes = self._datagrams = 0     # sent since the last decision
        self._slow_start = True
        self._calm_since = math.nan           # when growth began
        self._grown_from: tuple[float, float, float] | None = None      # rate and share lost, and when
        self._risen = 0                       # intervals in a row in which the loss was above what it was then
        self._resume: float | None = None     # rate to take up when the queue is gone
        self._radio_loss = 0.0                # smoothed, while no queue stands, and
        self._radio_burst = math.nan
        self._carried = 0.0                   # bit/s, the most of late
        self._suspected = False               # a queue stood in the interval before
        self._stood = 0.0                     # the standing queue of the interval before
        self._episode: _Episode | None = None
        self._reno_since: float | None = None
        self._competed_at = self._cut_at = -math.inf
        self._probe_at = math.inf
        self._probed = 0                      # intervals of a probe that are left
        self._emptied = 0                     # intervals in a row in which the queue was empty

    def sent(self, datagrams: int, wire_bytes: int) -> None:
        """Note what was sent."""
        self._datagrams += datagrams
        self._bytes += wire_bytes

    def on_round_trip(self, seconds: float) -> None:
        """A round trip was measured: the shortest says how fast to begin."""
        if self._slow_start:
            self.rate_bit_s = self._bounded(max(self.rate_bit_s, INITIAL_DATAGRAMS * _DATAGRAM * 8 / max(seconds, 1e-3)))

    def on_report(self, report: Report, mean_burst: float, now: float) -> None:
        """Take a report; `mean_burst`: datagrams lost in a row, NaN where unknown."""
        self.on_round_trip(report.round_trip_s)
        delay = report.arrived_at - report.sent_at
        while self._delays and (self._delays[-1][1] >= delay):
            self._delays.pop()
        self._delays.append((now, delay))
        # While another flow keeps the queue filled, what is least of late is not the path without a queue.
        while self._reno_since is None and self._delays[0][0] < now - BASE_WINDOW_S:
            self._delays.popleft()
        self.last_queueing_s = delay - self._delays[0][1]
        self._interval.append((self.last_queueing_s, report))
        if self._last is None:
            self._decided_at, self._last = now, self._interval[-1]
        quick = self._slow_start and max(queue for queue, _ in self._interval) <= TARGET_S
        length = max(SLOW_START_INTERVAL_S if quick else INTERVAL_S, report.round_trip_s)
        if now - self._decided_at >= length and len(self._interval) >= (1 if quick else 2):
            self._decide(mean_burst, now)

    def _decide(self, mean_burst: float, now: float) -> None:
        newest, elapsed = self._interval[-1][1], now - self._decided_at
        expected, lost = _lost(self._last[1], newest)
        used = self._bytes * 8 / elapsed if elapsed > 0 else 0.0
        self._carried = max(used * (1 - lost), self._carried * math.exp(-elapsed / BASE_WINDOW_S))
        # A burst's own time on the path is no sign of too high a rate.
        path = max(self.rate_bit_s, self._carried) / 8
        queueing = [max(queue - report.ahead_bytes / path, 0.0) for queue, report in self._interval]
        standing, peak = min(queueing), max(queueing)
        if standing <= TARGET_S and self._reno_since is None:
            self._radio_loss += (lost - self._radio_loss) / 4
            self._radio_burst = mean_burst
        self.queueing_delay_s = standing
        if self._reno_since is not None:
            self._compete(standing, peak, lost, elapsed, newest.round_trip_s, self._delivered(used), used, now)
        elif standing > TARGET_S and not self._doubted(lost, used):
            self._back_off(standing, peak, min(self._delivered(used), self.rate_bit_s), used, elapsed, now)
        elif standing <= TARGET_S:
            self._suspected = False
            self._follow(peak, lost, expected, mean_burst, used, elapsed, now)
        if self.state != SendingState.CONGESTED:
            self.state = SendingState.RADIO_LOSS if lost > RADIO_LOSS else SendingState.OPEN
        self._last, self._decided_at, self._interval = self._interval[-1], now, []
        self._bytes = self._datagrams = 0

    def _delivered(self, used: float) -> float:
        """What the bottleneck has carried while a queue stood, bit/s: from the first report behind a queue to the last."""
        first = self._last[1] if self._last[0] > BUSY_S else self._interval[0][1]
        newest = self._interval[-1][1]
        took = newest.arrived_at - first.arrived_at
        if took <= 0:
            return used
        expected, lost = _lost(first, newest)
        # What the radio loses has been through the bottleneck; only what is surely lost beyond has not.
        surely = max(lost - _deviation(expected, self._radio_burst), 0.0)
        passed = min((1 - surely) / max(1 - self._radio_loss, 0.05), 1.0)
        return passed * 8 * (newest.sent_bytes - first.sent_bytes) / took

    def _doubted(self, lost: float, used: float) -> bool:
        """Whether what stands for a first interval may not be one's own queue: little of the rate is used, and nothing lost."""
        doubted = not self._suspected and self._episode is None and lost == 0 and used < 0.5 * self.rate_bit_s
        self._suspected = True
        return doubted

    def _back_off(self, standing: float, peak: float, delivered: float, used: float, elapsed: float, now: float) -> None:
        if used < 0.5 * self.rate_bit_s and standing <= INTERVAL_S and not self._slow_start and self._resume is None:
            # Less was sent than the path would have taken; what was allowed beyond the most that was carried of late nobody has tried.
            delivered = max(delivered, min(0.5 * self.rate_bit_s / BETA, self._carried))
        self.state, self._slow_start, self._grown_from = SendingState.CONGESTED, False, None
        if self._episode is None or standing > self._episode.delay_s:
            self._episode = _Episode(peak, delivered, now)
        episode = self._episode
        overdue = episode.drained_s > 1.25 * episode.delay_s + TARGET_S and standing > 0.7 * self._stood
        if now - self._competed_at <= BASE_WINDOW_S or overdue:
            self._reno_since, self._competed_at, self._probe_at = now, now, now + PROBE_EVERY_S
            self.rate_bit_s = self._bounded(max(self.rate_bit_s, episode.rate_bit_s / 2))
            return
        if self._resume is not None and standing <= self._stood:      # it drains: what is sent now says nothing of the path
            delivered = self._resume / BETA
        # What was sent in this interval shows in the delay of the next.
        episode.drained_s += max(1 - used / episode.rate_bit_s, 0.0) * elapsed
        episode.stood_at = now
        self._resume, self._stood = self._bounded(BETA * delivered), standing
        drain = 1 - (standing - TARGET_S / 2) / DRAIN_S
        self.rate_bit_s = self._bounded(delivered * min(max(drain, 0.5), BETA))

    def _follow(self, peak: float, lost: float, expected: int, mean_burst: float, used: float, elapsed: float, now: float) -> None:
        """No queue stands."""
        self.state = SendingState.OPEN
        if self._episode is not None and now - self._episode.stood_at >= CLEAR_S:
            self._episode = None
        if self._resume is not None:
            self.rate_bit_s, self._resume = max(self._resume, self.rate_bit_s), None
            self._grown_from = None
        if peak > TARGET_S:
            self._slow_start, self._grown_from = False, None
            return
        if used < 0.25 * self.rate_bit_s and self._datagrams < _TRAIN:
            return
        if self._grown_from is None:
            self._grown_from, self._calm_since = (self.rate_bit_s, lost, now), now
        rate, before, since = self._grown_from
        risen = self.rate_bit_s > 1.25 * rate and lost > before + LOSS_RISE + 3 * _deviation(expected, mean_burst)
        self._risen = self._risen + 1 if risen else 0
        if self._risen >= 2:
            self._risen = 0
            self.rate_bit_s, self._slow_start, self._grown_from = self._bounded(BETA * rate), False, None
            self.state = SendingState.CONGESTED
            return
        if not risen and now - since > COMPARE_S:      # the radio's loss changes too
            self._grown_from = self.rate_bit_s, lost, now
        speed = min(GROWTH * 2 ** (now - self._calm_since), MAX_GROWTH)
        grown = self.rate_bit_s * (2.0 if self._slow_start else 1 + speed * min(elapsed, 1.0))
        self.rate_bit_s = self._bounded(grown)

    def _compete(self, standing: float, peak: float, lost: float, elapsed: float, round_trip: float, delivered: float, used: float,
                 now: float) -> None:
        """With a flow that fills the queue."""
        used = min(delivered, used)
        self.state = SendingState.CONGESTED
        self._emptied = self._emptied + 1 if standing <= BUSY_S else 0
        if self._drained_alone():
            self.rate_bit_s = self._bounded(BETA * min(delivered, self.rate_bit_s))
            self._stop_competing()
            return
        if self._emptied >= 2 and not self._probed:      # nobody fills the queue; were that wrong, the next one that stands would tell
            self._reno_since = self._episode = self._grown_from = self._resume = None
            self.state = SendingState.OPEN
            return
        if self._probed:
            self._probed -= 1
            if standing < TARGET_S:
                self._stop_competing()
            elif not self._probed:
                self.rate_bit_s, self._resume, self._probe_at = self._resume, None, now + PROBE_EVERY_S
            return
        self._competed_at = now
        if now >= self._probe_at:
            self._resume, self._probed = self.rate_bit_s, 2
            self.rate_bit_s = self._bounded(0.5 * min(self.rate_bit_s, used))
        elif lost > 0 and peak > TARGET_S:
            if now - self._cut_at > 2.5 * INTERVAL_S:      # once for what is lost when the queue overflows
                self.rate_bit_s, self._cut_at = self._bounded(RENO_BETA * self.rate_bit_s), now
        elif used >= 0.5 * self.rate_bit_s:
            growth = RENO_ALPHA * _DATAGRAM * 8 * elapsed / max(round_trip, 1e-3) ** 2
            self.rate_bit_s = self._bounded(self.rate_bit_s + min(growth, self.rate_bit_s / 4))

    def _drained_alone(self) -> bool:
        """Whether the queue went down as fast as time passed while next to nothing was sent: nobody else fills it."""
        for (queue, first), (later_queue, second) in pairwise([self._last, *self._interval]):
            took, sent = second.sent_at - first.sent_at, 8 * (second.sent_bytes - first.sent_bytes)
            if took >= INTERVAL_S / 2 and sent < 0.1 * self._episode.rate_bit_s * took and queue - later_queue > 0.7 * took:
                return True
        return False

    def _stop_competing(self) -> None:
        """The queue was its own."""
        self._reno_since = self._episode = self._grown_from = self._resume = None
        self._competed_at, self._probed, self.state = -math.inf, 0, SendingState.OPEN

    def _bounded(self, bit_s: float) -> float:
        return min(max(bit_s, self._floor), self._ceiling)


def _lost(first: Report, last: Report) -> tuple[int, float]:
    """Of what was sent between two reports: datagrams, and the share of them that was lost."""
    expected, received = last.expected - first.expected, last.received - first.received
    return expected, min(max(1 - received / expected, 0.0), 1.0) if expected > 0 else 0.0


def _deviation(datagrams: float, mean_burst: float) -> float:
    """Standard deviation, at most, of the difference of two shares lost of so many datagrams, in runs of mean length `mean_burst`."""
    return math.sqrt(2 * 0.25 / max(datagrams, 1) * (mean_burst if mean_burst >= 1 else 1.0))
