"""What the robot says of a frame that no answer came for: the last answer, how old it is, and how sure that leaves it.

If all packets of a frame are lost, the bridge has never heard of it. So it is the robot that remembers: the answer whose image is nearest
in time still says something, the less the faster the scene changes, which every answer tells (`evitif.recovery.memory`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from evitif.protocol.wire.answer import Answer
from evitif.recovery.memory import MOTION, certainty_of
from evitif.vocabulary import RecoveryName


@dataclass(frozen=True)
class Remembered:
    """An answer to an image near in time."""

    class_ids: tuple[int, ...]
    scores: tuple[float, ...]       # less sure than they were
    age_s: float                    # between the two images, and of the memory that it rested on itself


class AnswerMemory:
    """The last answer.

    :param limit_s: between its image and the one that is asked about, at most; 0: nothing is remembered
    :param classes: of the model
    """

    def __init__(self, limit_s: float, classes: int):
        self._limit, self._classes = limit_s, classes
        self._stamp_ns = 0
        self._last: Answer | None = None
        self._class_ids: tuple[int, ...] = ()
        self._scores: tuple[float, ...] = ()

    def keep(self, stamp_ns: int, class_ids: tuple[int, ...], scores: tuple[float, ...], answer: Answer) -> None:
        """An answer came, to the image of this stamp."""
        if self._last is None or stamp_ns > self._stamp_ns or self._stamp_ns - stamp_ns > 1e9 * self._limit:
            self._stamp_ns, self._class_ids, self._scores, self._last = stamp_ns, class_ids, scores, answer

    def recall(self, stamp_ns: int) -> Remembered | None:
        """What to say of the image of this stamp; None where there is no answer near enough to say anything."""
        if self._last is None:
            return None
        between = abs(stamp_ns - self._stamp_ns) / 1e9
        age = between + (self._last.memory_age_s if self._last.recovery == RecoveryName.MEMORY else 0.0)
        motion = MOTION if math.isnan(self._last.motion) else self._last.motion
        if between > self._limit or not (certainty := certainty_of(between, motion)):
            return None
        return Remembered(self._class_ids, tuple(certainty * score + (1 - certainty) / self._classes for score in self._scores), age)
