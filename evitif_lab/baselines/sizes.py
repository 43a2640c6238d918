"""How large a network a number of multiply-adds buys."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from evitif.recovery import LearnedRecovery, Paldn, Sequence
from evitif_lab.baselines.convolution import Edsr, Srcnn

MAX_WIDTH = 4096        # tried for a network
WIDTHS = (*range(1, 8), *range(8, MAX_WIDTH + 1, 8))

# Other options and ascending widths of the kinds that come in sizes; what stands first is tried first.
SIZES: dict[type[LearnedRecovery], list[tuple[dict, Iterable[int]]]] = {
    Paldn: [({'depth': 2}, range(32, MAX_WIDTH + 1, 8)), ({'depth': 1}, range(16, MAX_WIDTH + 1, 8))],
    Srcnn: [({}, WIDTHS)],
    Edsr: [({}, WIDTHS)],
}


def sized(kind: type[LearnedRecovery], sequence: Sequence, multiply_adds: float) -> LearnedRecovery:
    """Build the widest network of a kind that takes at most so many multiply-adds for one image.

    A kind that comes in one size is built in that; if even the smallest takes more, that one is built.
    """
    if kind not in SIZES:
        return kind(sequence)
    for options, widths in SIZES[kind]:
        width = _widest(kind, sequence, multiply_adds, widths, options)
        if width is not None:
            return kind(sequence, width=width, **options)
    return kind(sequence, width=next(iter(widths)), **options)


def _widest(kind: type[LearnedRecovery], sequence: Sequence, multiply_adds: float, widths: Iterable[int], options: dict) -> int | None:
    """The last of the ascending `widths` with which a `kind` takes at most `multiply_adds`; None if the first takes more."""
    fits = None
    for width in widths:
        with torch.device('meta'):      # counted, not filled
            if kind(sequence, width=width, **options).multiply_adds() > multiply_adds:
                break
        fits = width
    return fits
