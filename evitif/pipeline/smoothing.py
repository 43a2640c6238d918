"""Answers that do not flicker: probabilities filtered over the time of each stream, exponentially, until the scene changes.

A frame dt seconds after the last moves the filtered probabilities by 1 - exp(-dt / T) of the way to its own, T the time constant. So
what is seen newly shows T seconds later on average, and half of it after 0.7 T. A change of scene, of camera, a stamp that goes back and a
long gap begin anew.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import torch

from evitif.bounded import BoundedDict

GAP = 10        # time constants after which nothing of what was is left


class _Stream:
    def __init__(self):
        self.stamp_ns = 0
        self.filtered: dict[str, torch.Tensor] = {}     # by head; '' is the model's own classifier


class Smoothing:
    """The filters of all sessions, at most `most`. `forget` may come from another thread.

    :param constant_s: T, more than 0
    """

    def __init__(self, constant_s: float, most: int):
        self._constant = constant_s
        self._streams: BoundedDict[int, _Stream] = BoundedDict(most)
        self._lock = threading.Lock()

    def frame(self, session_id: int, stamp_ns: int, same_scene: bool) -> Callable[[str, torch.Tensor], torch.Tensor]:
        """The filter of a frame: takes what said so ('' or a head's name) and its probabilities, and returns the filtered ones."""
        with self._lock:
            stream = self._streams.pop(session_id, None) or _Stream()
            self._streams[session_id] = stream
        passed, stream.stamp_ns = (stamp_ns - stream.stamp_ns) / 1e9, stamp_ns
        if not same_scene or not 0 < passed <= GAP * self._constant:
            stream.filtered.clear()
        step = 1 - math.exp(-max(passed, 0.0) / self._constant)

        def smoothed(name: str, probabilities: torch.Tensor) -> torch.Tensor:
            before = stream.filtered.get(name)
            if before is not None and before.shape == probabilities.shape:
                probabilities = before + step * (probabilities - before)
            stream.filtered[name] = probabilities
            return probabilities
        return smoothed

    def forget(self, session_id: int) -> None:
        """A session has ended."""
        with self._lock:
            self._streams.pop(session_id, None)
