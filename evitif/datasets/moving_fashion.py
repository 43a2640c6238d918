"""Moving-fashion: labelled video that every machine can make. Garments of Fashion-MNIST move over a textured background.

After Moving MNIST (Srivastava et al., arXiv 1502.04681), with a camera that pans, zooms, turns and shakes, garments that cover each
other, flicker, and a sensor's noise. A clip follows from seed, split and number alone. Garments of the split `train` are those of
Fashion-MNIST's training images, of `test` those of its test images: they never mix.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evitif.datasets.errors import DatasetError
from evitif.datasets.fashion_mnist import CLASS_NAMES, FILES, FashionMnist
from evitif.datasets.moving_scene import VIEW, Scene
from evitif.datasets.sample import Sample

RATE_HZ = 30.0
MASK_NAMES = (*CLASS_NAMES, 'background')
_FORMAT = 1                 # of the scenes: other ones are another data set
# Clips, frames of each, frames a second.
_CLIPS = {'train': (6_000, 10, 2.0), 'test': (50, 200, RATE_HZ)}
_SMALLEST, _LARGEST = 16, 1024
_KEPT = 4                   # scenes in memory


class Frame(NamedTuple):
    """One picture of a video: uint8 [H, W, 3] RGB, the id of the class in view, and each pixel's class uint8 [H, W] by MASK_NAMES."""

    image: np.ndarray
    class_id: int
    mask: np.ndarray


class MovingFashion:
    """Clips of moving garments: one by one as videos of any length, or all their frames in order as a data set.

    >>> for image, class_id, mask in MovingFashion('train', rate=30).video(3, 300): ...

    :param split: `train` or `test`
    :param clips: how many clips the data set has, `length` how many frames each; a video may have any number and length
    :param rate: frames a second; None: 30, and of the split `train` 2, since pictures to train with had better differ
    :param size: side of the pictures, pixels
    :param seed: another one makes other clips
    :param folder: of Fashion-MNIST; None: where `FashionMnist` finds it
    :raises DatasetError: Fashion-MNIST is not there, or a value is out of its range
    """

    name = 'moving-fashion'
    class_names: tuple[str, ...] = CLASS_NAMES
    mask_names: tuple[str, ...] = MASK_NAMES

    def __init__(self, split: str = 'test', clips: int | None = None, length: int | None = None, rate: float | None = None,
                 size: int = VIEW, seed: int = 0, folder: Path | str | None = None):
        if split not in _CLIPS:
            raise DatasetError(f'{self.name} has the splits train and test, not {split!r}')
        usual = _CLIPS[split]
        self.split, self.size, self.seed = split, size, seed
        self.clips, self.length, self.rate = (default if given is None else given
                                              for given, default in zip((clips, length, rate), usual, strict=True))
        for what, value, low, high in (('clips', self.clips, 1, 10**9), ('length', self.length, 1, 10**9), ('rate', self.rate, 1e-3, 1e6),
                                       ('size', size, _SMALLEST, _LARGEST), ('seed', seed, 0, 2**32 - 1)):
            if not low <= value <= high:
                raise DatasetError(f'{what} of {self.name} is {value:g}: expected {low:g} to {high:g}')
        self._garments = FashionMnist(split, folder)
        self._scene = lru_cache(_KEPT)(self._make_scene)

    @property
    def recipe(self) -> tuple:
        """Everything but the garments that decides the frames."""
        return _FORMAT, self.split, self.clips, self.length, self.rate, self.size, self.seed

    @property
    def garments(self) -> FashionMnist:
        """The garments that may occur."""
        return self._garments

    def __len__(self) -> int:
        return self.clips * self.length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        clip, number = divmod(index, self.length)
        image, class_id, mask = self.frame(clip, number)
        return Sample(image, class_id, CLASS_NAMES[class_id], f'{self.split}-{clip:04d}-{number:05d}', mask)

    def frame(self, clip: int, number: int) -> Frame:
        """Frame `number` of a clip, without those before it."""
        return Frame(*self._scene(clip).render(number / self.rate, number))

    def video(self, clip: int, length: int | None = None) -> Iterator[Frame]:
        """The frames of a clip in their order, `length` of them or without an end."""
        return (self.frame(clip, number) for number in (itertools.count() if length is None else range(length)))

    def _make_scene(self, clip: int) -> Scene:
        return Scene(self._garments.grey, self._garments.class_ids, (self.seed, [*FILES].index(self.split), clip), self.size)
