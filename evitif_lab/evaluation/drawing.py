"""What the plots of the evaluations have in common: matplotlib where it is, a grid, and a file that is the same each time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from evitif.files import replacing


def draw(paint: Callable, path: Path | str, size: tuple[float, float], dpi: int) -> str:
    """Have `paint(figure)` draw on a figure of `size` inches and write it as PNG, below folders that need not be there yet.

    Returns a sentence for the user: where the plot is, or that there is none because matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return 'no plot was drawn, since matplotlib is missing: `pip install matplotlib` brings it'
    figure = Figure(figsize=size, dpi=dpi, layout='constrained')
    FigureCanvasAgg(figure)
    paint(figure)
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    with replacing(path) as new:
        figure.savefig(new, format='png', metadata={'Software': None})
    return f'the plot is in {path}'
