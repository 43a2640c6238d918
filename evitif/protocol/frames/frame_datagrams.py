"""The datagrams of a frame before they are numbered, checked or sealed."""

from __future__ import annotations

import numpy as np

MAX_FILLING = 0.015            # of a frame's bytes, spent to make datagrams one size, so that the kernel takes them as one run


class FrameDatagrams:
    """The datagrams of one frame, in sending order.

    :param datagrams: uint8 [n, largest size], each row up to its size
    :param sizes: bytes of each
    """

    def __init__(self, datagrams: np.ndarray, sizes: list[int]):
        self.datagrams, self.sizes = datagrams, sizes
        self.packets, self.bytes, self.size = len(sizes), sum(sizes), max(sizes)
        self._one_size = min(sizes) == self.size

    def run(self, begin: int, most: int) -> np.ndarray:
        """Datagrams of one size from number `begin` on, at most `most`, uint8 [n, size]."""
        size, most = self.sizes[begin], min(self.packets, begin + most)
        end = most if self._one_size else next((k for k in range(begin, most) if self.sizes[k] != size), most)
        return self.datagrams[begin:end, :size]


def even_sizes(sizes: list[int]) -> list[int]:
    """All as large as the largest if that takes at most MAX_FILLING of their sum more, else as they are."""
    most = max(sizes) * len(sizes)
    return [max(sizes)] * len(sizes) if most - sum(sizes) <= MAX_FILLING * most else sizes
