"""Has the bridge fallen silent? Sooner than the link counts as lost, so that a robot of a fleet can turn to another bridge meanwhile.

Each PING asks for a PONG. If none came after so many that chance alone would hardly lose them all, the bridge is suspected. That costs
little when it is wrong: the session goes on until another bridge has given one.
"""

import math

LEAST_S, FIRST_S = 0.04, 0.25      # waited for a PONG at least, and while the round trip is not known: a hiccup takes so long
CHANCE = 0.01                # that all PONGs were lost
MOST_ASKED = 12
PROBE_S = 0.02               # between PINGs once one was not answered in time


class Silence:
    """The PINGs since the bridge was last heard."""

    def __init__(self) -> None:
        self._first, self._asked = math.inf, 0

    def ask(self, now: float) -> None:
        """A PING leaves."""
        self._first, self._asked = min(self._first, now), self._asked + 1

    def heard(self) -> None:
        """The bridge said something new."""
        self._first, self._asked = math.inf, 0

    def probes_at(self, round_trip_s: float, variation_s: float) -> float:
        """When the first PING should have been answered, seconds on the clock of `ask`; infinite where none waits."""
        known = 2 * round_trip_s + 4 * variation_s
        return self._first + (FIRST_S if math.isnan(known) else max(LEAST_S, known))

    def suspicious(self, now: float, probes_at: float, uplink_loss: float, downlink_loss: float) -> bool:
        """Whether the bridge is suspected; losses 0..1, NaN unknown."""
        fails = 1.0 - math.prod(1.0 - (0.0 if math.isnan(loss) else loss) for loss in (uplink_loss, downlink_loss))
        enough = 2 if fails < CHANCE else min(MOST_ASKED, math.ceil(math.log(CHANCE) / math.log(min(fails, 0.99))) + 1)
        return now >= probes_at and self._asked >= enough
