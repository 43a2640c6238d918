"""Marks instead of loss: a bottleneck with ECN says that its queue grows (RFC 3168), the earlier and more often the better (RFC 9331).

A path is known to mark from the first mark on, for `REMEMBERED_S`. Where queues are kept within milliseconds, marks are many and small
things: the rate falls by half of their smoothed share, once in a round trip (DCTCP, RFC 8257, section 3.3; Prague). Where the queue is
longer when marks come, whoever marks means a loss each (RFC 3168), and the rate falls as for one (RFC 8511).

What a path does to the field is checked by what arrives (RFC 9000, section 13.4): where ECT(1) does not, because it is bleached, there
are no marks and nothing changes; where what is marked is dropped, nothing is marked (`evitif.protocol.edge.marking`). Where all is marked
although next to nothing is sent, marks say nothing and are not believed.
"""

import math

REMEMBERED_S = 30.0
GAIN = 1 / 16                # of the smoothed share, in each round trip or interval
SHALLOW_S = 0.005            # least queueing delay up to which marks are a scalable control's
CLASSIC_BETA = 0.8           # RFC 8511
MANGLED, MANGLED_S = 0.95, 5.0      # share of marks that no control leads to, if it lasts


class MarkedPath:
    """Follows the marks of one session."""

    def __init__(self):
        self._share = 1.0            # smoothed; the first mark counts as much as any can (RFC 8257, section 3.3)
        self._marked_at = self._cut_at = -math.inf
        self._mangled_s = 0.0

    def marks(self, now: float) -> bool:
        """Whether the path is known to mark: what it loses without marks is no congestion."""
        return now - self._marked_at < REMEMBERED_S and self._mangled_s < MANGLED_S

    def factor(self, capable: int, marked: int, queueing_s: float, elapsed: float, round_trip: float, now: float) -> float:
        """What an interval makes of the rate, 1: nothing. Of `capable` datagrams that came, `marked` say that congestion was met."""
        if not capable:
            return 1.0
        share = min(marked / capable, 1.0)
        self._mangled_s = self._mangled_s + elapsed if share >= MANGLED else 0.0
        self._share += min(GAIN * max(elapsed / round_trip, 1.0), 1.0) * (share - self._share)
        if marked:
            self._marked_at = now
        if not marked or not self.marks(now) or now - self._cut_at < round_trip:
            return 1.0
        self._cut_at = now
        return 1 - self._share / 2 if queueing_s <= SHALLOW_S else min(CLASSIC_BETA, 1 - self._share / 2)
