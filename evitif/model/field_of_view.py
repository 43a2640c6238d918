"""Where each pixel and patch of a model's input lies in the picture that it was made from, and the other way round.

The sizes are rounded as timm's and torchvision's transforms round them, so the map is that of the pixels which the model gets. It never
turns or bends: each axis is scaled and moved by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evitif.vocabulary import Fit

_OWN_SHARE = 0.875          # timm's, where a configuration has no crop_pct
_MODES = {'squash': Fit.SQUASH, 'border': Fit.PAD}      # of timm's crop_mode; all else is the middle


def fit_of(data_config: dict) -> Fit:
    """How this preprocessing brings a picture to the input's size."""
    return _MODES.get(data_config.get('crop_mode') or '', Fit.CROP)


@dataclass(frozen=True)
class FieldOfView:
    """What a model sees of a picture. Coordinates are (x, y) with 0 at the left and top edge, so a pixel's middle is at 0.5.

    :param source: (height, width) of the picture
    :param size: (height, width) of the model's input
    :param box: (left, top, width, height) of the input in the picture's pixels; it reaches beyond the picture where that was padded
    """

    source: tuple[int, int]
    size: tuple[int, int]
    box: tuple[float, float, float, float]

    @classmethod
    def of(cls, data_config: dict, height: int, width: int) -> FieldOfView:
        """Of a picture [height, width] that goes through the preprocessing `data_config` (timm's `create_transform`).

        Raises ValueError for a picture so narrow that not a pixel of its width is left.
        """
        h, w = data_config['input_size'][1:]
        share = float(data_config.get('crop_pct') or _OWN_SHARE)
        scaled = math.floor(h / share), math.floor(w / share)
        fit = fit_of(data_config)
        if fit == Fit.SQUASH:
            rows, columns = scaled
        elif fit == Fit.CROP and scaled[0] == scaled[1]:        # torchvision's Resize of the shorter side
            short, long = scaled[0], int(scaled[0] * max(height, width) / min(height, width))
            rows, columns = (long, short) if width <= height else (short, long)
        else:                                                   # timm's ResizeKeepRatio
            ratios = height / scaled[0], width / scaled[1]
            ratio = max(ratios) if fit == Fit.PAD else min(ratios)
            rows, columns = round(height / ratio), round(width / ratio)
        if not rows or not columns:
            raise ValueError(f'a picture of {height}x{width} pixels is too narrow for a model that sees {h}x{w}')
        (top, scale_y), (left, scale_x) = ((_edge(outer, inner), side / outer) for side, outer, inner in
                                           ((height, rows, h), (width, columns, w)))
        return cls((height, width), (h, w), (left * scale_x, top * scale_y, w * scale_x, h * scale_y))

    # -- points ------------------------------------------------------------------------------------------------------------------

    def to_source(self, points: np.ndarray) -> np.ndarray:
        """Points (x, y) float [..., 2] of the input to those of the picture."""
        left, top, width, height = self.box
        return np.asarray(points, float) / self.size[::-1] * (width, height) + (left, top)

    def to_input(self, points: np.ndarray) -> np.ndarray:
        """Points (x, y) float [..., 2] of the picture to those of the input."""
        left, top, width, height = self.box
        return (np.asarray(points, float) - (left, top)) / (width, height) * self.size[::-1]

    # -- maps --------------------------------------------------------------------------------------------------------------------

    def onto_source(self, values: np.ndarray, fill: float = 0, smooth: bool = False) -> np.ndarray:
        """A map [rows, columns, ...] over the input (of its pixels, its patches, or any other even division of it) as one over the
        picture, [H, W, ...].

        :param fill: where the model did not see the picture
        :param smooth: interpolated linearly between the middles of the cells, as float32, instead of the cell of each pixel
        """
        (rows, inside_y), (columns, inside_x) = (self._cells(axis, values.shape[axis]) for axis in (0, 1))
        if smooth:
            across = np.tensordot(_weights(rows, values.shape[0]), values.astype(np.float32), (1, 0))
            found = np.moveaxis(np.tensordot(_weights(columns, values.shape[1]), across, (1, 1)), 0, 1)
        else:
            found = values[np.floor(rows).clip(0, values.shape[0] - 1).astype(int)][
                :, np.floor(columns).clip(0, values.shape[1] - 1).astype(int)]
        return _where(inside_y[:, None] & inside_x, found, fill)

    def from_source(self, values: np.ndarray, fill: float = 0) -> np.ndarray:
        """A map [H, W, ...] over the picture, such as the class of each pixel, as one over the input's pixels [h, w, ...]: of each the
        value at its middle.

        :param fill: where the input shows no picture
        :raises ValueError: the map is not of the picture's size
        """
        if values.shape[:2] != self.source:
            raise ValueError(f'a map of {values.shape[0]}x{values.shape[1]} for a picture of {self.source[0]}x{self.source[1]}: expected '
                             'the same size')
        (left, top, width, height), (h, w) = self.box, self.size
        rows = np.floor(top + (np.arange(h) + 0.5) * height / h).astype(int)
        columns = np.floor(left + (np.arange(w) + 0.5) * width / w).astype(int)
        found = values[rows.clip(0, self.source[0] - 1)][:, columns.clip(0, self.source[1] - 1)]
        shown = ((rows >= 0) & (rows < self.source[0]))[:, None] & (columns >= 0) & (columns < self.source[1])
        return _where(shown, found, fill)

    def seen(self) -> np.ndarray:
        """Which pixels of the picture the model sees, bool [H, W]."""
        return self._cells(0, 1)[1][:, None] & self._cells(1, 1)[1]

    def pictured(self, grid: tuple[int, int]) -> np.ndarray:
        """The share of each patch of a `grid` (rows, columns) that shows the picture, float [rows, columns]; 1 where nothing is padded."""
        shares = []
        for axis, cells in enumerate(grid):
            start, length = self.box[1 - axis], self.box[3 - axis]
            edges = start + np.arange(cells + 1) * length / cells
            shares.append(np.diff(edges.clip(0, self.source[axis])) * cells / length)
        return shares[0][:, None] * shares[1]

    def _cells(self, axis: int, cells: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each pixel's middle along an axis of the picture: its place among so many cells of the input, and whether it is in one."""
        start, length = self.box[1 - axis], self.box[3 - axis]
        places = (np.arange(self.source[axis]) + 0.5 - start) / length * cells
        return places, (places >= 0) & (places < cells)


def _edge(outer: int, inner: int) -> int:
    """Where the middle `inner` of `outer` pixels begins; negative where `inner` are more: then so many are padded before them."""
    return -((inner - outer) // 2) if inner > outer else round((outer - inner) / 2)


def _where(inside: np.ndarray, values: np.ndarray, fill: float) -> np.ndarray:
    """`values` [H, W, ...] where `inside` [H, W]."""
    if inside.all():
        return values
    return np.where(inside.reshape(inside.shape + (1,) * (values.ndim - 2)), values, np.asarray(fill, values.dtype))


def _weights(places: np.ndarray, cells: int) -> np.ndarray:
    """Linear interpolation between the middles of cells, float32 [places, cells]; the outer cells go on to the edge."""
    return np.maximum(0, 1 - np.abs((places - 0.5).clip(0, cells - 1)[:, None] - np.arange(cells))).astype(np.float32)
