"""How many bits of a 16-bit sample carry the picture, and how such samples become 8 bits.

A 10- or 12-bit sensor is often published in 16 bits with the upper ones zero, and neither ROS's encodings nor PNG and TIFF say so. Read as
16 bits the image is nearly black.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

_DARK_BITS = 3          # an image with all values below 1/8 of the range is nearly black
_DARK_IMAGES = 10       # in a row, before the warning
_DARK_GRID = 64         # rows and columns that are examined


class SignificantBits:
    """The significant bits of one stream or data set; `bits` is 0 while nothing is known.

    Bits that are not given follow from the largest value so far, rounded up to an even number, at least 8. They never go down: a dark image
    after a bright one is dark. `say` gets a sentence each time they are found or rise, and once if values are too large for the given ones.
    """

    def __init__(self, bits: int = 0, say: Callable[[str], None] = lambda sentence: None):
        self.given = bits > 0
        self.bits = bits
        self.darkness = ''          # a sentence, while the images are nearly black
        self._say = say
        self._said_too_large = False
        self._dark_images = 0

    def to_8_bits(self, samples: np.ndarray) -> np.ndarray:
        """Unsigned samples of more than 8 bits to uint8 of the same shape; values above the significant bits become 255."""
        highest = int(samples.max())
        if not self.given:
            self._find(highest)
        if self.bits == 0:          # all zero until now
            return np.zeros(samples.shape, np.uint8)
        if self.bits > 8:
            self._judge(samples, self.bits)
        if highest >> self.bits:
            self._say_too_large(highest)
            samples = np.minimum(samples, (1 << self.bits) - 1)
        shift = np.right_shift if self.bits >= 8 else np.left_shift
        return shift(samples, abs(self.bits - 8), out=np.empty(samples.shape, np.uint8), casting='unsafe')

    def _say_too_large(self, highest: int) -> None:
        if not self._said_too_large:
            self._said_too_large = True
            self._say(f'values up to {highest} do not fit in {self.bits} significant bits and become white')

    def _find(self, highest: int) -> None:
        bits = bits_of(highest)
        if bits <= self.bits:
            return
        before, self.bits = self.bits, bits
        self._say(f'{bits} significant bits in samples of more than 8 bits, found from values up to {highest}'
                       + (f' ({before} until now)' if before else ''))

    def judge_reduced(self, samples: np.ndarray) -> None:
        """Watch uint8 samples that another program made of 16 bits: they cannot be scaled any more, but `darkness` can say so."""
        self._judge(samples, 8, 'whoever made 8 bits of 16 took the wrong ones: let the driver publish 8 bits, or compress with png')

    def _judge(self, samples: np.ndarray, bits: int, remedy: str = '') -> None:
        """Count the images in a row of which all but a thousandth lies in the lowest eighth of the range."""
        some = samples[::max(1, samples.shape[0] // _DARK_GRID), ::max(1, samples.shape[1] // _DARK_GRID)]
        dark = np.count_nonzero(some >> (bits - _DARK_BITS)) * 1000 <= some.size
        self._dark_images = self._dark_images + 1 if dark else 0
        if self._dark_images < _DARK_IMAGES:
            self.darkness = ''
            return
        if not remedy:
            used = max(8, bits_of(int(np.sort(some, axis=None)[some.size * 999 // 1000 - 1])))
            remedy = f'if the sensor has {used} bits, set significant_bits to {used}'
        self.darkness = f'the images are nearly black: their values lie in the lowest eighth of {bits} bits; {remedy}'


def bits_of(highest: int) -> int:
    """The bits that values up to `highest` take, as sensors have them: an even number, at least 8; 0 for 0."""
    bits = highest.bit_length()
    return max(8, bits + bits % 2) if bits else 0


def to_rgb(samples: np.ndarray, significant: SignificantBits) -> np.ndarray:
    """Samples [H, W] or [H, W, 3], uint8 or wider, to uint8 [H, W, 3] RGB; grey is repeated."""
    if samples.dtype != np.uint8:
        samples = significant.to_8_bits(samples)
    return samples if samples.ndim == 3 else cv2.cvtColor(samples, cv2.COLOR_GRAY2RGB)
