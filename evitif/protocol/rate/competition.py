"""The rate beside a flow that fills the queue, as TCP does until it loses: what TCP itself would send there.

Yielding to such a queue on and on would leave nothing. So, as in Copa's competitive mode (NSDI 2018), the rate is that of a window over
the round trip, which grows by `RENO_ALPHA` datagrams in each round trip and shrinks to `RENO_BETA` for those that lost something: as
fair to Reno as its own one and a half (RFC 9438, section 4.3). A decision may see several round trips; growth and cuts are then slowed
alike, which keeps the balance between them, and so the share, as TFRC does (RFC 5348).

CUBIC takes several times what Reno takes where queue and rate are large. Whoever stands between them has to know which is there. The
reports tell: in a busy bottleneck of capacity C the queueing delay grows by (own rate + other rate) / C - 1, so a line through that
growth over the own rate has the slope 1 / C and begins at the share of the others (the cross traffic of Nimbus, Goyal et al., SIGCOMM
2022). Growth is quickened, up to `MOST_EAGER` times, while the others have more than a half.
"""

import math
from itertools import pairwise

from evitif.protocol.rate.report import Report, lost_between

RENO_BETA, RENO_ALPHA = 0.7, 0.53
MOST_EAGER = 10.0
FEWEST_EAGER, CUBIC_WINDOW = 5.0, 8.0      # at most, where the window is small; datagrams of the window for each time more
SMOOTH = 0.1                 # of the window, by which it grows at most in one interval
TOGETHER = 3                 # datagrams are lost at once, about; where reports are too few to tell
REMEMBERED_S = 3.0           # of the growth of the queue
IDLE_BYTES, IDLE, IDLE_S = 700, 0.25, 0.1      # PINGs alone; of the mean rate; how long
_DATAGRAM_BITS = 8 * 1228
_Sample = tuple[float, Report]


class CrossTraffic:
    """A line through the growth of the queueing delay over the own rate, in segments between two reports of a busy bottleneck."""

    def __init__(self):
        self._weight = self._x = self._y = self._xx = self._xy = 0.0
        self._idle_weight = self._idle_y = 0.0      # of the segments in which next to nothing was sent
        self._newest = -math.inf

    def add(self, samples: list[_Sample], radio_loss: float) -> None:
        """Take the reports of an interval with their queueing delays, in order; `radio_loss`: share that is lost behind the bottleneck."""
        for (queue, first), (later, second) in pairwise(samples):
            took = second.sent_at - first.sent_at
            if took < 0.002 or queue < took:      # it may have been idle in between
                continue
            expected, lost = lost_between(first, second)
            if (lost - radio_loss) * expected > 0.5 + 2 * math.sqrt(radio_loss * expected):      # the queue is full: not all has entered it
                continue
            keep = math.exp(-min(max(took, second.sent_at - self._newest), 100.0) / REMEMBERED_S)
            self._newest = second.sent_at
            x, y = 8e-6 * (second.sent_bytes - first.sent_bytes) / took, 1 + (later - queue) / took
            if second.sent_bytes - first.sent_bytes < IDLE_BYTES and x < IDLE * self._x / max(self._weight, 1e-9):
                y_others = y - x * self._weight / self._x      # PINGs alone fill a part of a slow bottleneck
                self._idle_weight, self._idle_y = keep * keep * self._idle_weight + took, keep * keep * self._idle_y + took * y_others
            self._weight = keep * self._weight + took
            self._x = keep * self._x + took * x
            self._y = keep * self._y + took * y
            self._xx = keep * self._xx + took * x * x
            self._xy = keep * self._xy + took * x * y

    def shares(self, sent_at: float) -> tuple[float, float]:
        """The shares of the bottleneck that others and that oneself has sent until then, NaN where the reports do not tell."""
        if self._weight * math.exp(min(self._newest - sent_at, 0.0) / REMEMBERED_S) < REMEMBERED_S / 4:
            return math.nan, math.nan
        x, y = self._x / self._weight, self._y / self._weight
        spread = self._xx / self._weight - x * x
        if spread < (0.15 * x) ** 2 or x <= 0:
            return math.nan, math.nan
        slope = max((self._xy / self._weight - x * y) / spread, 0.0)
        own = min(slope * x, y)
        return y - own, own


    def others(self, sent_at: float) -> float:
        """The share of the others, NaN where the reports do not tell; also soon after the capacity has changed."""
        if self._idle_weight >= IDLE_S and sent_at - self._newest < REMEMBERED_S:
            return max(self._idle_y / self._idle_weight, 0.0)      # what came while one was silent oneself
        return self.shares(sent_at)[0]


def loss_events(reports: list[Report], radio_loss: float, round_trip: float) -> int:
    """Round trips in which more was lost than the radio loses, as far as that is likely (loss events, RFC 5348, section 5.2)."""
    events, began_at = 0, -math.inf
    for first, second in pairwise(reports):
        expected, lost = lost_between(first, second)
        if second.sent_at > began_at + round_trip and (lost - radio_loss) * expected > 0.5 + 2 * math.sqrt(radio_loss * expected):
            events, began_at = events + 1, first.sent_at
    return events


class Competition:
    """A time in which another flow fills the queue."""

    def __init__(self, rate_bit_s: float):
        self.rate_bit_s = rate_bit_s
        self._eager = 1.0
        self._window = math.nan
        self._cut_at = -math.inf

    def decide(self, losses: float, elapsed: float, round_trip: float, used: float, shares: tuple[float, float], now: float) -> float:
        """The rate after an interval.

        :param losses: round trips in which more was lost than the radio accounts for
        :param round_trip: seconds, queue included
        :param used: bit/s
        """
        round_trip = max(round_trip, 1e-3)
        if math.isnan(self._window):
            self._window = max(self.rate_bit_s * round_trip / _DATAGRAM_BITS, 1.0)
        others, own = shares
        if math.isnan(others):      # a short queue, where Reno and CUBIC take the same
            self._eager = max(self._eager * math.exp(-elapsed), 1.0)
        else:
            self._eager = min(max(self._eager * math.exp(3 * elapsed * (others - own) / max(others + own, 0.1)), 1.0),
                              min(MOST_EAGER, max(self._window / CUBIC_WINDOW, FEWEST_EAGER)))
        round_trips = elapsed / round_trip
        growth = self._eager * RENO_ALPHA * round_trips
        slowed = min(SMOOTH * self._window / growth, 1.0)
        cuts = 0.0
        if losses and now - self._cut_at > round_trip:
            cuts, self._cut_at = min(losses, max(round_trips, 1.0)), now
        if used >= 0.5 * self.rate_bit_s:
            self._window += slowed * growth
        self._window = max(self._window * max(RENO_BETA ** (slowed * cuts), 0.5), 1.0)
        self.rate_bit_s = self._window * _DATAGRAM_BITS / round_trip
        return self.rate_bit_s
