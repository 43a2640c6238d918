"""When datagrams arrived, on the loop's clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

CLOCK_STEP_S = 0.001            # between two batches; the kernel's stamps of the later one are then not relied on


class ArrivalClock:
    """Brings the kernel's stamps, which are of the system's clock, onto the loop's clock."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._offset = math.nan         # of the last batch
        self._latest = -math.inf

    def offset(self) -> float:
        """What to add to the stamps of the batch that is read next; NaN where the system's clock was set since the last one.

        Call it before reading: a thread that is interrupted in between then takes an arrival for later than it was, never for earlier,
        which the least delay would remember.
        """
        system = time.time()
        offset = self._clock() - system
        steady = abs(offset - self._offset) <= CLOCK_STEP_S
        self._offset = offset
        return offset if steady else math.nan

    def arrived_at(self, stamped_at: float, now: float) -> float:
        """A stamp with the offset added, NaN for none: never after `now`, when it was read, and never before an earlier one."""
        if not stamped_at <= now:       # NaN, too
            stamped_at = now
        self._latest = max(self._latest, stamped_at)
        return self._latest
