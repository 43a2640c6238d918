"""What reports have in common: plots by matplotlib where it is, the same file each time, and the table and plot beside a JSON file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from evitif.files import replacing, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Paint = Callable[['Figure'], None]


def draw(paint: Paint, path: Path | str, size: tuple[float, float], dpi: int) -> bool:
    """Let `paint` draw on a figure of `size` inches and write it as PNG; makes missing folders. False where matplotlib is missing."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=size, dpi=dpi, layout='constrained')
    FigureCanvasAgg(figure)
    paint(figure)
    for axes in figure.axes:
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    with replacing(path) as new:
        figure.savefig(new, format='png', metadata={'Software': None})
    return True


def plot(paint: Paint, path: Path | str, size: tuple[float, float], dpi: int) -> str:
    """As `draw`; returns a sentence for the user: where the plot is, or that there is none."""
    if draw(paint, path, size, dpi):
        return f'the plot is in {path}'
    return 'no plot was drawn, since matplotlib is missing: `pip install matplotlib` brings it'


def write_beside(json_path: Path | str, table: Callable[[Path], str], draw_plot: Callable[[Path], str]) -> list[str]:
    """Write a table in Markdown and a plot beside a JSON file, with its name; return a sentence about each.

    :param table: the Markdown, given the plot's path
    :param draw_plot: draws into that path and returns a sentence
    """
    markdown, png = Path(json_path).with_suffix('.md'), Path(json_path).with_suffix('.png')
    write_text(markdown, table(png))
    return [f'the table is in {markdown}', draw_plot(png)]
