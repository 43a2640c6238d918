"""What heads say of each place, and how it travels to the robot: in parts that each decode alone, the uncertain ones last.

A *cell* is the place of one patch of the backbone; a map has scale x scale places in each cell, and one confidence for the cell. What does
not arrive is unknown, with confidence 0.
"""

from __future__ import annotations

import struct
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np

from evitif.heads import level_code, mask_code
from evitif.heads.results import Result
from evitif.mask_colours import UNLABELLED

MOST_BYTES = 1000                   # of a whole map; one that takes more is made coarser
NEAREST_M, STEP = 0.1, 1.025        # depth 1 of 255, and the factor from one to the next: to 53 m
_LEVELS = 8                         # of confidence
_CELLS, _PLACES = 255, 1 << 20      # rows and columns of cells, and places, at most
_Map = TypeVar('_Map', bound='PlaceMap')
# rows and columns of cells, scale, first row and rows of this part, u8 each; bytes of the map u16; then these, and those of the confidence
_PART = struct.Struct('>BBBBBH')


@dataclass(frozen=True, eq=False)
class PlaceMap(Result):
    """Values uint8 [rows * scale, columns * scale] and the confidence uint8 [rows, columns] of the cells, 255 is sure."""

    values: np.ndarray
    confidence: np.ndarray

    UNKNOWN: ClassVar[int]

    def __post_init__(self):
        rows, columns = self.confidence.shape
        height, width = self.values.shape
        if self.values.dtype != np.uint8 or self.confidence.dtype != np.uint8 or not 0 < max(rows, columns) <= _CELLS \
                or (height, width) != (rows * self.scale, columns * self.scale):
            raise ValueError(f'a map of {self.values.dtype} {list(self.values.shape)} with a confidence of {self.confidence.dtype} '
                             f'{list(self.confidence.shape)}: expected uint8, and a whole number of places in each of at most '
                             f'{_CELLS} x {_CELLS} cells')

    @property
    def scale(self) -> int:
        """Places along the side of a cell."""
        return self.values.shape[0] // self.confidence.shape[0]

    def pack(self) -> bytes:
        """Nothing: it travels in parts."""
        return b''

    def parts(self, room: int) -> list[bytes]:
        """The map in parts of at most `room` bytes, the most certain first; made coarser until it takes MOST_BYTES.

        Raises ValueError where a row of cells takes more.
        """
        coded = self._cut(0, len(self.confidence), room)
        if sum(len(content) for _, content in coded) > MOST_BYTES and self.scale > 1:
            return self.coarser().parts(room)
        return [content for _, content in sorted(coded, key=lambda part: -part[0])]

    def coarser(self: _Map) -> _Map:
        """Half of the places in each direction, or one a cell where the scale is odd."""
        step = 2 if self.scale % 2 == 0 else self.scale
        return type(self)(np.ascontiguousarray(self.values[step // 2::step, step // 2::step]), self.confidence)

    def _cut(self, first: int, last: int, room: int) -> list[tuple[float, bytes]]:
        """The rows of cells from `first` to `last` in as many parts as it takes, each with its mean confidence."""
        places, sure = self.values[first * self.scale:last * self.scale], self.confidence[first:last]
        coded = self._encode(places)
        head = _PART.pack(*self.confidence.shape, self.scale, first, last - first, len(coded)) if len(coded) <= 0xFFFF else b''
        content = head + coded + level_code.encode(_to_levels(sure))
        if head and len(content) <= room:
            return [(float(sure.mean()), content)]
        if last - first == 1:
            raise ValueError(f'a row of a map takes {len(content)} bytes: expected at most {room}')
        middle = (first + last) // 2
        return self._cut(first, middle, room) + self._cut(middle, last, room)

    @classmethod
    def join(cls: type[_Map], parts: Sequence[bytes]) -> _Map:
        """The map of those parts that arrived, at least one. Raises ValueError where they are none of one map."""
        found = [_Part.read(content) for content in parts]
        shape = found[0].shape
        if any(part.shape != shape for part in found):
            raise ValueError('parts of maps of different sizes')
        rows, columns, scale = shape
        values = np.full((rows * scale, columns * scale), cls.UNKNOWN, np.uint8)
        confidence = np.zeros((rows, columns), np.uint8)
        for part in found:
            last = part.first + part.rows
            values[part.first * scale:last * scale] = cls._decode(part.coded, part.rows * scale, columns * scale)
            confidence[part.first:last] = _from_levels(level_code.decode(part.confidence, part.rows, columns))
        return cls(values, confidence)

    @staticmethod
    @abstractmethod
    def _encode(values: np.ndarray) -> bytes: ...

    @staticmethod
    @abstractmethod
    def _decode(content: bytes, height: int, width: int) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Mask(PlaceMap):
    """The class of each place, UNLABELLED where nothing is known."""

    UNKNOWN: ClassVar[int] = UNLABELLED
    _encode = staticmethod(mask_code.encode)
    _decode = staticmethod(mask_code.decode)


@dataclass(frozen=True, eq=False)
class DepthMap(PlaceMap):
    """The distance of each place in steps of 2.5 %: value v is NEAREST_M * STEP ** (v - 1) metres, 0 is unknown."""

    UNKNOWN: ClassVar[int] = 0
    _encode = staticmethod(level_code.encode)
    _decode = staticmethod(level_code.decode)

    @classmethod
    def of(cls, metres: np.ndarray, confidence: np.ndarray) -> DepthMap:
        """Of metres float [h, w]; not finite or not positive is unknown, farther than the farthest is that."""
        known = np.isfinite(metres) & (metres > 0)
        steps = 1 + np.log(np.where(known, metres, NEAREST_M) / NEAREST_M) / np.log(STEP)
        return cls(np.where(known, np.clip(np.rint(steps), 1, 255), 0).astype(np.uint8), confidence)

    def metres(self) -> np.ndarray:
        """float32 [h, w], NaN where it is unknown."""
        return self.in_metres(self.values)

    @staticmethod
    def in_metres(values: np.ndarray) -> np.ndarray:
        """The same of any values uint8."""
        return _METRES[values]


_METRES = np.array([np.nan, *(NEAREST_M * STEP**step for step in range(255))], np.float32)


@dataclass(frozen=True)
class _Part:
    shape: tuple[int, int, int]         # rows and columns of cells, scale
    first: int
    rows: int
    coded: bytes
    confidence: bytes

    @classmethod
    def read(cls, content: bytes) -> _Part:
        if len(content) < _PART.size:
            raise ValueError(f'{len(content)} bytes: too few for a part of a map')
        rows, columns, scale, first, count, size = _PART.unpack_from(content)
        end = _PART.size + size
        if not rows * columns * scale * count or first + count > rows or rows * columns * scale**2 > _PLACES or len(content) < end:
            raise ValueError(f'a part of {count} rows from {first} of {rows} x {columns} cells, scale {scale}, that cannot be')
        return cls((rows, columns, scale), first, count, content[_PART.size:end], content[end:])


def _to_levels(confidence: np.ndarray) -> np.ndarray:
    return (confidence.astype(np.uint16) * _LEVELS // 256).astype(np.uint8)


def _from_levels(levels: np.ndarray) -> np.ndarray:
    if levels.max() >= _LEVELS:
        raise ValueError(f'a confidence of level {levels.max()}: expected less than {_LEVELS}')
    return (levels.astype(np.uint16) * 255 // (_LEVELS - 1)).astype(np.uint8)
