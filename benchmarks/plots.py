"""Plots of the benchmark's page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evitif_lab.evaluation.drawing import draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ('#d62728', '#1f77b4', '#2ca02c', '#9467bd', '#ff7f0e', '#8c564b', '#17becf', '#7f7f7f', '#bcbd22', '#e377c2')


def lines(path: Path, series: dict[str, list[tuple[float, float]]], *, x: str, y: str, title: str, logarithmic: bool = False,
          logarithmic_x: bool = False, bold: tuple[str, ...] = ()) -> bool:
    """Draw (x, y) points as a line a name into a PNG; False where matplotlib is missing.

    :param bold: names drawn thick
    """
    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for index, (name, points) in enumerate(series.items()):
            if points:
                thick = name in bold
                axes.plot(*zip(*points, strict=True), color=COLOURS[index % len(COLOURS)], linestyle='-' if index < len(COLOURS) else '--',
                          linewidth=3 if thick else 1.3, marker='os^Dv'[index % 5], markersize=5 if thick else 4, label=name,
                          zorder=3 if thick else 2)
        if logarithmic:
            axes.set_yscale('log')
            axes.grid(alpha=0.3, which='minor')
        if logarithmic_x:
            axes.set_xscale('log')
        axes.set(xlabel=x, ylabel=y)
        axes.set_title(title, fontsize=10)
        axes.legend(fontsize=7, loc='center left', bbox_to_anchor=(1.0, 0.5), frameon=False)
    return draw(paint, path, (7.2, 4.4), dpi=130)
