"""What a head says of one image, and the bytes of it that travel to the robot. NumPy alone: a robot needs no more.

Each kind of result packs itself into bytes and is read from them; the protocol does not look inside.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np


class Result(ABC):
    """Of one image, by one head."""

    @abstractmethod
    def pack(self) -> bytes:
        """What travels in the ANSWER; empty where the result travels in another way."""


@dataclass(frozen=True)
class Classes(Result):
    """The most likely classes of a head's labels, most likely first, with their probabilities."""

    class_ids: tuple[int, ...]
    scores: tuple[float, ...]

    _ROW = np.dtype([('class_id', '>u4'), ('score', '>f4')])

    def pack(self) -> bytes:
        """u32 and f32 of each, big-endian, as an ANSWER's own classes."""
        return np.array(list(zip(self.class_ids, self.scores, strict=True)), self._ROW).tobytes()

    @classmethod
    def unpack(cls, content: bytes, classes: int) -> Classes:
        """Read what `pack` wrote. Raises ValueError where it is no such thing."""
        if not content or len(content) % cls._ROW.itemsize:
            raise ValueError(f'{len(content)} bytes: expected a multiple of {cls._ROW.itemsize} for classes and scores')
        rows = np.frombuffer(content, cls._ROW)
        if (rows['class_id'] >= classes).any() or not ((rows['score'] >= 0) & (rows['score'] <= 1.0001)).all():
            raise ValueError(f'classes or scores that cannot be: expected classes below {classes} and probabilities')
        return cls(tuple(rows['class_id'].tolist()), tuple(rows['score'].tolist()))


@dataclass(frozen=True, eq=False)
class Embedding(Result):
    """A vector float32 [D] of length 1."""

    vector: np.ndarray

    def pack(self) -> bytes:
        """int8 of each value, the largest is 127: the cosine to what it was stays above 0.999."""
        return np.rint(self.vector * (127 / max(float(np.abs(self.vector).max()), 1e-12))).astype(np.int8).tobytes()

    @classmethod
    def unpack(cls, content: bytes) -> Embedding:
        """Read what `pack` wrote. Raises ValueError where it is no such thing."""
        vector = np.frombuffer(content, np.int8).astype(np.float32)
        if not (length := float(np.linalg.norm(vector))):
            raise ValueError(f'{len(content)} bytes that are no direction: expected a vector')
        return cls(vector / length)


def top_classes(probabilities: np.ndarray, k: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """The k most likely class ids with their probabilities, most likely first."""
    k = min(k, len(probabilities))
    best = np.argpartition(-probabilities, k - 1)[:k]
    best = best[np.argsort(-probabilities[best], kind='stable')]
    return tuple(int(index) for index in best), tuple(float(probabilities[index]) for index in best)
