"""Round trip and clock offset between edge and bridge, from the four time stamps of an exchange.

t1: the edge sent, t2: the bridge received, t3: the bridge sent, t4: the edge received. The delay is (t4 - t1) - (t3 - t2), the
offset of the bridge's clock ((t2 - t1) + (t3 - t4)) / 2 (RFC 5905, section 8). The offset is wrong by up to half of the difference
between the two directions, which is smallest where the delay is smallest: of the last eight exchanges the one with the least delay
counts (the clock filter of RFC 5905, section 10).
"""

import math
from collections import deque

FILTER_STAGES = 8      # RFC 5905, section 10
ALPHA, BETA = 1 / 8, 1 / 4      # RFC 6298, section 2.3


class ClockFilter:
    """Follows one link's round trip and clock offset."""

    def __init__(self):
        self._samples: deque[tuple[float, float]] = deque(maxlen=FILTER_STAGES)
        self.round_trip_s = math.nan
        self.round_trip_variation_s = math.nan

    def add(self, t1: float, t2: float, t3: float, t4: float) -> None:
        """Note an exchange, seconds; t1 and t4 on the edge's clock, t2 and t3 on the bridge's."""
        delay = (t4 - t1) - (t3 - t2)
        if delay < 0.0:      # a clock that was set, or a forged exchange
            return
        self._samples.append((delay, ((t2 - t1) + (t3 - t4)) / 2))
        if math.isnan(self.round_trip_s):
            self.round_trip_s, self.round_trip_variation_s = delay, delay / 2
        else:
            self.round_trip_variation_s += BETA * (abs(self.round_trip_s - delay) - self.round_trip_variation_s)
            self.round_trip_s += ALPHA * (delay - self.round_trip_s)

    @property
    def offset_s(self) -> float:
        """The bridge's clock minus the edge's, seconds; NaN before the first exchange."""
        return min(self._samples)[1] if self._samples else math.nan

    def uplink_s(self, t1: float, t2: float) -> float:
        """From the edge to the bridge, seconds; NaN before the first exchange."""
        return max(t2 - self.offset_s - t1, 0.0)      # in this order NaN stays

    def downlink_s(self, t3: float, t4: float) -> float:
        """From the bridge to the edge, seconds; NaN before the first exchange."""
        return max(t4 - (t3 - self.offset_s), 0.0)
