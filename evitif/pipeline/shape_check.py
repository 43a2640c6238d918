"""Whether a robot's images lie where its model's input stands: then height and width of `image_size` were taken for each other."""

from __future__ import annotations

import logging
from collections.abc import Callable

from evitif.image_size import size_text


class ShapeCheck:
    """:param size: (height, width) of the model's input"""

    def __init__(self, size: tuple[int, int]):
        self._size, self._asked = size, False

    def check(self, height: int, width: int, log: Callable[[int, str], None]) -> None:
        """Log the remark on an image, if there is one."""
        if remark := self.remark(height, width):
            log(logging.WARNING, remark)

    def remark(self, height: int, width: int) -> str:
        """A sentence for the log if the first image [height, width] lies across the input; '' else, and for all later images."""
        (rows, columns), asked, self._asked = self._size, self._asked, True
        if asked or (height - width) * (rows - columns) >= 0:
            return ''
        return (f'the images are {size_text((height, width))} pixels (height and width), the model sees {size_text(self._size)}: if '
                f'image_size is the wrong way round, set it to {size_text((columns, rows))} on edge and bridge')
