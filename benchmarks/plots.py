"""Plots of the benchmark's page."""

from __future__ import annotations

from pathlib import Path

COLOURS = ('#d62728', '#1f77b4', '#2ca02c', '#9467bd', '#ff7f0e', '#8c564b', '#17becf', '#7f7f7f', '#bcbd22', '#e377c2')


def lines(path: Path, series: dict[str, list[tuple[float, float]]], *, x: str, y: str, title: str, logarithmic: bool = False,
          logarithmic_x: bool = False, bold: tuple[str, ...] = ()) -> bool:
    """
    Draw (x, y) points as a line a name into a PNG; False where matplotlib is missing.

    :param bold: names drawn thick
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(7.2, 4.4), dpi=130, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for index, (name, points) in enumerate(series.items()):
        if points:
            thick = name in bold
            axes.plot(*zip(*points, strict=True), color=COLOURS[index % len(COLOURS)], linestyle='-' if index < len(COLOURS) else '--',
                      linewidth=3 if thick else 1.3, marker='os^Dv'[index % 5], markersize=5 if thick else 4, label=name,
                      zorder=3 if thick else 2)
    if logarithmic:
        axes.set_yscale('log')
    if logarithmic_x:
        axes.set_xscale('log')
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3, which='both' if logarithmic else 'major')
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(fontsize=7, loc='center left', bbox_to_anchor=(1.0, 0.5), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={'Software': None})
    return True
