"""A scene in which garments move over a textured background, seen by a camera that looks at one after the other.

Everything is a closed function of the time, so any frame is rendered without those before it. One unit is a pixel of a picture of 64
pixels; a larger picture shows the same scene in more pixels.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import cv2
import numpy as np

from evitif.datasets.fashion_mnist import CLASS_NAMES

VIEW = 64                   # units that the camera sees across, at a zoom of 1
CANVAS = 112                # units; garments bounce off its edges, and the texture repeats beyond
BACKGROUND = len(CLASS_NAMES)
_MARGIN = 14.0              # units that a garment's centre keeps from the edge
_PATCH = 30                 # a garment of 28 pixels with a border
_PAN_S = 1.6                # that the camera takes to turn from one garment to the next
_WITH_HOLES = (CLASS_NAMES.index('Sandal'), CLASS_NAMES.index('Bag'))       # one sees through straps and below handles
_MIDDLE = 0.2               # of the picture's side: standard deviation of what counts as its middle


class Scene:
    """One clip's world, made from a seed: which garments, their ways, the background, the camera's way and its sensor.

    :param grey: garments uint8 [n, 28, 28], of which `class_ids` [n] are the classes
    :param size: side of the pictures, pixels
    """

    def __init__(self, grey: np.ndarray, class_ids: np.ndarray, seed: Sequence[int], size: int):
        self._seed, self._size = tuple(seed), size
        random = np.random.default_rng(self._seed)
        count = int(random.integers(4, 8))
        chosen = random.integers(len(grey), size=count)
        self.class_ids = class_ids[chosen].astype(np.int64)
        self._patches = [_patch(grey[index], int(class_ids[index]), random) for index in chosen]
        self._scales = random.uniform(1.0, 1.5, count)
        self._starts = random.uniform(0, CANVAS, (count, 2))
        headings, speeds = random.uniform(0, 2 * math.pi, count), random.uniform(3, 13, count)     # units a second
        self._velocities = np.stack((np.cos(headings), np.sin(headings)), 1) * speeds[:, None]
        self._swings = _Waves(random, count, amplitudes=(0.05, 0.25), frequencies=(0.1, 0.5))      # radians
        self._texture = _texture(random, round(CANVAS * max(1.0, size / VIEW)))
        self._dwell = random.uniform(2.4, 4.0)
        self._wobble = _Waves(random, 2, amplitudes=(0.8, 2.8), frequencies=(0.1, 0.5))           # units
        self._shake = _Waves(random, 2, amplitudes=(0.08, 0.35), frequencies=(2.0, 6.0))
        self._turn = _Waves(random, 1, amplitudes=(0.02, 0.1), frequencies=(0.1, 0.4))             # radians
        self._zoom = _Waves(random, 1, amplitudes=(0.03, 0.15), frequencies=(0.1, 0.4))            # of its logarithm
        self._flicker = _Waves(random, 1, amplitudes=(0.005, 0.03), frequencies=(0.3, 4.0))
        self._read_noise, self._shot_noise = random.uniform(0.6, 1.7), random.uniform(0.003, 0.012)
        middle = np.exp(-0.5 * ((np.arange(size) - (size - 1) / 2) / (_MIDDLE * size))**2)
        self._weights = np.outer(middle, middle).ravel()

    def render(self, time: float, number: int) -> tuple[np.ndarray, int, np.ndarray]:
        """The picture uint8 [size, size, 3] RGB at `time` seconds, the class in view, and each pixel's class uint8 [size, size].

        `number` is the frame's, of which the sensor's noise follows. The class in view is that of the garment with most pixels, where
        those in the middle count more; if the camera sees none, that of the garment it is looking for.
        """
        aim, nearest = self._aim(time)
        view = self._view(time, aim)
        picture = self._background(view)
        owner = np.full((self._size, self._size), -1)
        for index in range(len(self._patches)):
            self._draw(picture, owner, index, time, view)
        seen = np.bincount(owner.ravel() + 1, self._weights, len(self._patches) + 1)[1:]
        class_id = int(self.class_ids[seen.argmax() if seen.any() else nearest])
        return self._expose(picture, time, number), class_id, np.append(self.class_ids, BACKGROUND).astype(np.uint8)[owner]

    def _position(self, index: int, time: float) -> np.ndarray:
        """A garment's centre: it goes straight on and bounces off the canvas's edges."""
        span = CANVAS - 2 * _MARGIN
        way = (self._starts[index] + self._velocities[index] * time) % (2 * span)
        return _MARGIN + np.minimum(way, 2 * span - way)

    def _target(self, turn: int) -> int:
        """Which garment the camera looks at after so many turns."""
        return int(np.random.default_rng((*self._seed, 1, turn)).integers(len(self._patches)))

    def _aim(self, time: float) -> tuple[np.ndarray, int]:
        """What the camera's middle shows, and the garment that it looks at or turns to."""
        turn = int(time // self._dwell)
        target = self._target(turn)
        share = min(1.0, (time - turn * self._dwell) / _PAN_S) if turn else 1.0
        share = share * share * (3 - 2 * share)
        aim = share * self._position(target, time)
        if share < 1:
            aim = aim + (1 - share) * self._position(self._target(turn - 1), time)
        return aim + self._wobble.at(time) + self._shake.at(time), target

    def _view(self, time: float, aim: np.ndarray) -> np.ndarray:
        """The affine map [3, 3] from the picture's pixels to units of the canvas."""
        scale = VIEW / self._size * math.exp(float(self._zoom.at(time)[0]))
        turn, middle = float(self._turn.at(time)[0]), (self._size - 1) / 2
        return _affine(turn, scale, aim) @ _affine(0.0, 1.0, (-middle, -middle))

    def _background(self, view: np.ndarray) -> np.ndarray:
        fine = len(self._texture) / CANVAS
        to_texture = np.diag((fine, fine, 1.0)) @ view
        return cv2.warpAffine(self._texture, to_texture[:2], (self._size, self._size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                              borderMode=cv2.BORDER_WRAP)

    def _draw(self, picture: np.ndarray, owner: np.ndarray, index: int, time: float, view: np.ndarray) -> None:
        """Lay a garment over the picture, and its number over the pixels' owners."""
        to_canvas = _affine(float(self._swings.at(time)[index]), self._scales[index], self._position(index, time)) @ _TO_MIDDLE
        to_picture = np.linalg.inv(view) @ to_canvas
        corners = to_picture[:2] @ _CORNERS
        left, top = np.maximum(np.floor(corners.min(1)).astype(int), 0)
        right, bottom = np.minimum(np.ceil(corners.max(1)).astype(int) + 1, self._size)
        if left >= right or top >= bottom:
            return
        to_patch = np.linalg.inv(to_picture) @ _affine(0.0, 1.0, (left, top))
        drawn = cv2.warpAffine(self._patches[index], to_patch[:2], (int(right - left), int(bottom - top)),
                               flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT)
        part, alpha = picture[top:bottom, left:right], drawn[:, :, 3:]
        part *= 1 - alpha
        part += drawn[:, :, :3]
        owner[top:bottom, left:right][alpha[:, :, 0] > 0.5] = index

    def _expose(self, picture: np.ndarray, time: float, number: int) -> np.ndarray:
        """Flicker, and the sensor's noise: a constant part, and one that grows with the light."""
        random = np.random.default_rng((*self._seed, 2, number))
        light = picture * np.float32(255 * (1 + float(self._flicker.at(time)[0]) + 0.003 * random.standard_normal()))
        noise = random.standard_normal(picture.shape, np.float32)
        noise *= np.sqrt(self._read_noise**2 + self._shot_noise * np.maximum(light, 0), dtype=np.float32)
        return np.clip(np.rint(light + noise), 0, 255).astype(np.uint8)


class _Waves:
    """`count` values that swing around 0, each the sum of three sines."""

    def __init__(self, random: np.random.Generator, count: int, amplitudes: tuple[float, float], frequencies: tuple[float, float]):
        shape = (count, 3)
        self._amplitudes = random.uniform(*amplitudes, shape) / math.sqrt(3)
        self._rates = 2 * math.pi * random.uniform(*frequencies, shape)
        self._phases = random.uniform(0, 2 * math.pi, shape)

    def at(self, time: float) -> np.ndarray:
        """The values [count] at `time` seconds."""
        return (self._amplitudes * np.sin(self._rates * time + self._phases)).sum(1)


def _affine(angle: float, scale: float, shift: Sequence[float] | np.ndarray) -> np.ndarray:
    """Turn, scale, then shift, as a matrix [3, 3]."""
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]], [0.0, 0.0, 1.0]])


# From a patch's pixels to units around its middle, and its corners.
_TO_MIDDLE = _affine(0.0, 1.0, [(1 - _PATCH) / 2] * 2)
_CORNERS = np.array([[0, _PATCH - 1, 0, _PATCH - 1], [0, 0, _PATCH - 1, _PATCH - 1], [1, 1, 1, 1]], float)


def _patch(grey: np.ndarray, class_id: int, random: np.random.Generator) -> np.ndarray:
    """A garment in a colour of its own: float32 [30, 30, 4], RGB from 0 to 1 times opacity, and opacity."""
    grey = np.pad(grey, 1)
    opaque = (grey > 12).astype(np.uint8)
    if class_id not in _WITH_HOLES:         # black cloth is not a hole
        outside = opaque.copy()
        cv2.floodFill(outside, None, (0, 0), 2)
        opaque = (outside != 2).astype(np.uint8)
    light = np.array(colorsys.hsv_to_rgb(random.random(), random.uniform(0, 0.8), random.uniform(0.75, 1)), np.float32)
    shade = random.uniform(0.0, 0.25) + (1 - random.uniform(0.0, 0.25)) * grey[:, :, None].astype(np.float32) / 255
    colour = np.clip(shade, 0, 1).astype(np.float32) * light * opaque[:, :, None]
    return np.dstack((colour, opaque)).astype(np.float32)


def _texture(random: np.random.Generator, size: int) -> np.ndarray:
    """A background that repeats: noise with the spectrum of natural images (Field 1987), and flat regions with edges; RGB [n, n, 3]."""
    base = np.array(colorsys.hsv_to_rgb(random.random(), random.uniform(0.1, 0.5), random.uniform(0.25, 0.8)), np.float32)
    other = np.clip(base + random.uniform(-0.3, 0.3, 3), 0, 1).astype(np.float32)
    regions = _noise(random, size, random.uniform(1.6, 2.2)) > random.uniform(-0.8, 0.8)
    shades = _noise(random, size, random.uniform(0.9, 1.3))[:, :, None] * random.uniform(0.06, 0.14)
    tints = np.dstack([_noise(random, size, 1.3) for _ in range(3)]) * random.uniform(0.01, 0.04)
    return np.clip(np.where(regions[:, :, None], other, base) + shades + tints, 0, 1).astype(np.float32)


def _noise(random: np.random.Generator, size: int, fall: float) -> np.ndarray:
    """Gaussian noise [size, size] of mean 0 and variance 1 that repeats, with amplitudes that fall as 1 / frequency^`fall`."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = math.inf
    field = np.fft.irfft2(np.fft.rfft2(random.standard_normal((size, size))) / frequency**fall, (size, size))
    return (field / field.std()).astype(np.float32)
