"""How long answers take, and so when one that has not come can no longer be expected.

Mean and variation are followed as TCP follows its round trip (RFC 6298), and for the same purpose, except that nothing is sent again: the
robot says something else instead of waiting. A hiccup on either side is waited for, except where a newer frame was answered: a bridge
answers a robot's frames in their order, so only reordering can still bring the answer (compare RFC 9002, section 6.1).
"""

import math

from evitif.protocol.rate.clock import ALPHA, BETA

LEAST_S = 0.1           # that is waited where no newer frame was answered: a hiccup takes so long
LEAST_MORE = 1 / 8      # of the mean, that is waited beyond it (RFC 9002, section 6.1.2)


class AnswerTimes:
    """Of one edge's frames, from being sent to being answered, late answers too; seconds."""

    def __init__(self) -> None:
        self._mean, self._variation = math.inf, 0.0

    def add(self, seconds: float) -> None:
        """A frame was answered so long after it was sent."""
        if math.isinf(self._mean):
            self._mean, self._variation = seconds, seconds / 2
        else:
            self._variation += BETA * (abs(self._mean - seconds) - self._variation)
            self._mean += ALPHA * (seconds - self._mean)

    @property
    def longest_s(self) -> float:
        """After so long no answer is expected; infinite before the first one."""
        return max(self.overtaken_s, LEAST_S)

    @property
    def overtaken_s(self) -> float:
        """The same for a frame whose successor was answered."""
        return self._mean + max(4 * self._variation, LEAST_MORE * self._mean)
