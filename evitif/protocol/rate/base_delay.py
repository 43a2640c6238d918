"""The one-way delay of the empty path: what is above it is queue.

It is the least delay of the last ten seconds, as in BBR (draft-ietf-ccwg-bbr) and Copa (NSDI 2018); the offset between the clocks drops
out. A path that becomes longer (roaming, handover, a clock that is set) looks like a queue at first. These tell them apart:

* A queue is no longer than the round trip in which it is met.
* A bottleneck with a queue is busy: one's own queue shrinks by the time in which less is sent than has arrived before, and if it is
  full, what arrives stays the same. If the delay does neither, it is not one's own queue.
* The queue of another flow moves. If the least delay of every interval stays within 5 ms for a second, nothing fills and empties it;
  three seconds where more is lost than before.
"""

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

from evitif.protocol.rate.report import Report, passed_between

WINDOW_S = 10.0              # of the least delay; BBR's and Copa's
FLAT_S = 0.005               # by which the least delays of a level may differ
LEVEL_S, LEVEL_INTERVALS = 1.0, 4       # that a level lasts before it is believed,
LOSSY_LEVEL_S = 3.0          # and if more is lost meanwhile than before, as TCP in a short queue does
UNSHRUNK_S = 0.01            # by which one's own queue would have shrunk, and the delay did not


@dataclass
class _Level:
    """Intervals with the same least delay."""

    least: float               # seconds, with the clocks' offset
    most: float                # of the intervals' least delays
    since: float
    intervals: int = 0
    loses_more: bool = False
    passed_bit_s: float = 0.0      # the most that has passed the bottleneck: the path takes at least this
    unshrunk_s: float = 0.0


class BaseDelay:
    """Follows the delay of one session's empty path."""

    def __init__(self):
        self._least: deque[tuple[float, float]] = deque()      # (when, one-way delay) of the least ones, ascending
        self._level: _Level | None = None

    def queueing(self, report: Report, now: float, frozen: bool) -> float:
        """The queueing delay of a report, seconds; `frozen`: what was least stays so however old it is."""
        delay = report.delay_s
        while self._least and self._least[-1][1] >= delay:
            self._least.pop()
        self._least.append((now, delay))
        while not frozen and self._least[0][0] < now - WINDOW_S:
            self._least.popleft()
        return min(delay - self._least[0][1], max(report.round_trip_s, 0.0))

    def has_moved(self, last: Report, reports: list[Report], radio_loss: float, loses_more: bool, now: float) -> bool:
        """Whether the delay that stands is the path's, after an interval of `reports` that followed `last`. If so it is the base now.

        :param radio_loss: share that is lost behind the bottleneck
        :param loses_more: whether surely more is lost: a queue may be full
        """
        least = min(report.delay_s for report in reports)
        level = self._level
        if level is None or not level.most - FLAT_S <= least <= level.least + FLAT_S:
            level = self._level = _Level(least, least, now)
        level.least, level.most = min(level.least, least), max(level.most, least)
        level.intervals += 1
        level.loses_more |= loses_more
        first = last if last.delay_s >= level.least else reports[0]      # before that, the bottleneck may have been a faster one
        took = reports[-1].arrived_at - first.arrived_at
        if took > 0:
            level.passed_bit_s = max(level.passed_bit_s, 8 * passed_between(first, reports[-1], radio_loss) / took)
        for first, second in [*pairwise([last, *reports]), (last, reports[-1])]:
            took = second.sent_at - first.sent_at
            sent = 8 * (second.sent_bytes - first.sent_bytes)
            unsent = took - sent / level.passed_bit_s if level.passed_bit_s else took
            level.unshrunk_s = max(level.unshrunk_s, unsent - (first.delay_s - second.delay_s))
        lasts = LOSSY_LEVEL_S if level.loses_more else LEVEL_S
        if now - level.since < lasts or level.intervals < LEVEL_INTERVALS or level.unshrunk_s < UNSHRUNK_S:
            return False
        self._least = deque([(now, level.least)])
        self._level = None
        return True

    def clear(self) -> None:
        """No delay stands."""
        self._level = None
