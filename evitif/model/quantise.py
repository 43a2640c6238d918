"""Tokens to bytes and back, each token alone, so that each can be decoded alone: fp16, int8 and int4 for any model, and the transform codes
klt2, klt1.5, … klt0.125 (bits for each channel) for a model that has one fitted (`transform_code`).

A token [D] is cut into `groups` equal channel slices (one, unless a slice would not fit into a datagram); each slice becomes a row:

| kind | row | error of a value, range = max - min of the slice |
| --- | --- | --- |
| fp16 | D/groups little-endian binary16 | relative 2^-11, absolute 2^-25 near zero |
| int8 | minimum and step as binary16, then one byte a value | at most 0.51 step, step <= 1.002 range / 255 + 2^-8 |minimum| / 255 |
| int4 | minimum and step as binary16, then two values a byte, the first in the low half | likewise with 15, of the turned slice |

ViTs have a few channels far larger than the others; with 15 steps between a token's extremes all others would become noise. So int4 turns
a slice first: fixed signs, then the orthonormal DCT-II over its channels, a rotation that spreads large values over all channels and is
undone afterwards (QuaRot, Ashkboos et al., arXiv 2404.00456, with the DCT instead of Hadamard's matrix, because it exists for any width). A
factor of 1 / sqrt(channels) keeps every turned value below the largest original one.

Minimum and step are rounded to binary16 outwards before the values are quantised against them, so nothing saturates and the error is half a
step. Values that are not finite or beyond binary16's range (±65,504) are refused: no trained ViT has them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from evitif.model.transform_code import RATES, TransformCode, code_row_bytes
from evitif.vocabulary import ROWS

_LEVELS = {'int8': 255, 'int4': 15}
_SMALLEST_STEP = np.float16(6.104e-05)  # the smallest normal binary16
_LIMIT = 65504.0


@dataclass(frozen=True)
class TokenQuantiser:
    """Quantises tokens of `channels` values in `groups` slices as `kind`. Raises ValueError naming what does not fit."""

    kind: str
    channels: int
    groups: int = 1
    code: TransformCode | None = None       # of the kinds that are transform codes

    def __post_init__(self):
        _require_known(self.kind)
        if self.kind in RATES and (self.code is None or self.code.channels != self.channels or self.groups > 1):
            raise ValueError(f'{self.kind} needs a transform code for {self.channels} channels in one group')
        if self.groups < 1 or self.channels % self.groups:
            raise ValueError(f'{self.channels} channels cannot be cut into {self.groups} equal groups')
        if row_bytes(self.kind, self.slice_channels) is None:
            raise ValueError(f'int4 packs two values a byte: {self.slice_channels} channels a group is odd')

    @property
    def slice_channels(self) -> int:
        """Values of one slice."""
        return self.channels // self.groups

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return row_bytes(self.kind, self.slice_channels)

    def quantise(self, tokens: np.ndarray) -> np.ndarray:
        """float [N, channels] (of a transform code, whole frames) to uint8 rows [N * groups, row_bytes]; row = token * groups + group."""
        if tokens.ndim != 2 or tokens.shape[1] != self.channels:
            raise ValueError(f'expected tokens of shape [N, {self.channels}], got {list(tokens.shape)}')
        if self.code is not None:
            return self.code.encode(tokens, self.row_bytes)
        values = np.ascontiguousarray(tokens, np.float32).reshape(-1, self.slice_channels)
        if self.kind == 'int4' and np.isfinite(values).all():
            values = values @ rotation(self.slice_channels)
        low, high = values.min(1, keepdims=True), values.max(1, keepdims=True)
        if not (np.isfinite(low).all() and np.isfinite(high).all() and low.min() >= -_LIMIT and high.max() <= _LIMIT):
            raise ValueError('tokens hold values that are not finite or beyond ±65504: they cannot be quantised')
        if self.kind == 'fp16':
            return values.astype('<f2').view(np.uint8)
        levels = _LEVELS[self.kind]
        low16 = low.astype(np.float16)
        low16 = np.where(low16.astype(np.float32) > low, np.nextafter(low16, np.float16(-np.inf)), low16)
        low16 = np.maximum(low16, np.float16(-_LIMIT))
        step = (high - low16.astype(np.float32)) / levels
        step16 = np.maximum(step.astype(np.float16), _SMALLEST_STEP)
        step16 = np.where(step16.astype(np.float32) < step, np.nextafter(step16, np.float16(np.inf)), step16)
        scaled = (values - low16.astype(np.float32)) * (1 / step16.astype(np.float32))
        codes = np.clip(np.rint(scaled), 0, levels).astype(np.uint8)
        rows = np.empty((len(values), self.row_bytes), np.uint8)
        rows[:, 0:2] = low16.astype('<f2').view(np.uint8)
        rows[:, 2:4] = step16.astype('<f2').view(np.uint8)
        rows[:, 4:] = codes if self.kind == 'int8' else codes[:, 0::2] | codes[:, 1::2] << 4
        return rows

    def dequantise(self, rows: np.ndarray) -> np.ndarray:
        """uint8 rows [N * groups, row_bytes] to float32 tokens [N, channels]. Raises ValueError on another shape.

        Rows of any bytes are decoded without an exception; values that are not finite become 0.
        """
        if rows.ndim != 2 or rows.shape[1] != self.row_bytes or len(rows) % self.groups:
            raise ValueError(f'expected rows of shape [N * {self.groups}, {self.row_bytes}], got {list(rows.shape)}')
        rows = np.ascontiguousarray(rows, np.uint8)
        if self.code is not None:
            return self.code.decode(rows)
        if self.kind == 'fp16':
            values = rows.view('<f2').astype(np.float32)
        else:
            parameters = np.ascontiguousarray(rows[:, :4]).view('<f2').astype(np.float32)
            codes = rows[:, 4:]
            if self.kind == 'int4':
                codes = np.stack((codes & 15, codes >> 4), axis=2).reshape(len(rows), -1)
            with np.errstate(invalid='ignore', over='ignore'):
                values = codes.astype(np.float32) * parameters[:, 1:2] + parameters[:, 0:1]
        if not np.isfinite(values).all():
            values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        if self.kind == 'int4':
            values = values @ rotation(self.slice_channels).T * np.float32(self.slice_channels)
        return values.reshape(-1, self.channels)


@functools.cache
def rotation(channels: int) -> np.ndarray:
    """float32 [channels, channels]: a signed orthonormal DCT-II, times 1 / sqrt(channels). The same on every machine."""
    n = np.arange(channels)
    matrix = np.cos(np.pi * (n[:, None] + 0.5) * n / channels) * np.sqrt(np.where(n == 0, 1, 2) / channels)
    signs = np.where(np.mod((n + 1) * 0.6180339887498949, 1) < 0.5, 1, -1)        # no period, so no channel of the DCT
    return (signs[:, None] * matrix / np.sqrt(channels)).astype(np.float32)


def row_bytes(kind: str, slice_channels: int) -> int | None:
    """Bytes of the row of a slice; None where `kind` cannot write it: int4 packs pairs. Raises ValueError for an unknown kind."""
    _require_known(kind)
    if kind == 'int4' and slice_channels % 2:
        return None
    if kind in RATES:
        return code_row_bytes(kind, slice_channels)
    return {'fp16': 2 * slice_channels, 'int8': 4 + slice_channels, 'int4': 4 + slice_channels // 2}[kind]


def _require_known(kind: str) -> None:
    if kind not in ROWS:
        raise ValueError(f'quantisation {kind!r} is unknown (expected {", ".join(ROWS)})')
