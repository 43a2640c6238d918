"""The size of a model's input as people write it: one number for a square, or height and width, in pixels."""

from __future__ import annotations

import re

MOST_PIXELS = 4096          # of a side
EXPECTED = f'a side such as 224, or height and width such as 352x480, of 1 to {MOST_PIXELS} pixels'
_TEXT = re.compile(r'\s*(-?\d+)\s*(?:[x×*, ]\s*(-?\d+)\s*)?', re.IGNORECASE)


def image_size_of(value: object) -> tuple[int, int]:
    """(height, width) of '352x480', '224', 224, (352, 480), [352, 480] or '[352, 480]'. Raises ValueError, saying what was expected.

    >>> image_size_of('352x480'), image_size_of(224)
    ((352, 480), (224, 224))
    """
    if isinstance(value, str):
        found = _TEXT.fullmatch(value.strip().removeprefix('[').removesuffix(']'))
        sides = [] if found is None else [int(side) for side in found.groups() if side is not None]
    else:
        sides = [value] if isinstance(value, int) else value
    if not isinstance(sides, (list, tuple)) or not 1 <= len(sides) <= 2 or \
            not all(type(side) is int and 1 <= side <= MOST_PIXELS for side in sides):
        raise ValueError(f'image_size is {value!r:.60}: expected {EXPECTED}')
    return sides[0], sides[-1]


def size_text(size: tuple[int, int] | int) -> str:
    """(352, 480) as '352x480', and 224 as '224'."""
    return str(size) if isinstance(size, int) else f'{size[0]}x{size[1]}'
