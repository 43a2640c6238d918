"""Types of arguments on the command line. Each refuses in one sentence what is no number, is not finite or is out of its range, so the
parser tells the user before the command reads anything."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

from evitif.image_size import EXPECTED, image_size_of
from evitif.wording import shortened

MOST = 2**31 - 1            # of counts, steps and pixels: more is a typing mistake, and overflows somewhere
MOST_FLOAT = 1e12


def whole(least: int = 0, most: int = MOST) -> Callable[[str], int]:
    """A type of whole numbers from `least` to `most`."""
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            between = f'from {least} to {most}' if most != MOST or value > most else f'of at least {least}'
            raise argparse.ArgumentTypeError(f'{shortened(text, 40)!r} is not a whole number {between}')
        return value
    return convert


def real(least: float = 0.0, most: float = MOST_FLOAT, above: bool = False, below: bool = False) -> Callable[[str], float]:
    """A type of finite numbers from `least` to `most`, without the ends where `above` and `below` say so."""
    low = f'more than {least:g}' if above else f'at least {least:g}'
    high = f'{"less than" if below else "at most"} {most:g}'

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and least <= value <= most) or above and value == least or below and value == most:
            expected = low if most == MOST_FLOAT and not value > most else f'{low} and {high}'
            raise argparse.ArgumentTypeError(f'{shortened(text, 40)!r} is not a finite number of {expected}')
        return value
    return convert


def image_size(text: str) -> tuple[int, int] | int:
    """A type of image sizes: `352x480`, which is height and width, or one number for a square."""
    try:
        height, width = image_size_of(text)
        return height if height == width else (height, width)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{shortened(text, 40)!r} is not {EXPECTED}') from None


positive_int = whole(1)
not_negative_int = whole(0)
seed = whole(0, 2**32 - 1)                          # as NumPy's
rate = real(0, 1)                                   # a share, both ends included
rate_below_one = real(0, 1, below=True)
share = real(0, 1, above=True, below=True)
positive = real(0, above=True)
not_negative = real(0)
