"""The figures of `evitif evaluate heads` for people: tables in Markdown and a plot."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from evitif_lab.evaluation import drawing
from evitif_lab.evaluation.report import OTHER_STYLE, STYLES, plus_minus
from evitif_lab.trials.place_figures import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MEASURES = {'miou': 'mIoU', 'delta1': 'δ < 1.25'}
_PATTERNS = {'iid': 'independent losses', 'burst': 'bursts of 8 packets'}
_WAYS = {'memory': 'last known token', 'linear': 'completion in space and time', 'mean': "mean of the frame's tokens", 'paldn': 'PALDN'}


def markdown(result: dict) -> str:
    """What is reached without loss, and the points that are lost with it, one line a method."""
    measure = _MEASURES[result['measure']]
    sizes = result['bytes']
    lines = [f'`{result["head"]}`, a head of the task {result["task"]} on {result["model"]}, cut {result["cut"]}, pictures of '
             f'{result["image_size"]} pixels; {result["data"]}: {result["frames"]} frames at {result["rate_hz"]:g} Hz, {result["judged"]} '
             f'judged, {result["seeds"]} seeds of the losses.', '', f'Without loss: {describe(result["exact"])}', '',
             f'Coded, a map takes {sizes["mean"]:.0f} bytes, {sizes["most"]} at most.', '',
             f'Points of {measure} lost, tokens sent once and exact:', '']
    places = list(result['lost'])
    names = list(dict.fromkeys(name for cells in result['lost'].values() for name in cells))
    lines += ['| lost tokens | ' + ' | '.join(_place(place) for place in places) + ' |', '| --- |' + ' ---: |' * len(places)]
    for name in names:
        cells = [result['lost'][place].get(name) for place in places]
        lines.append(f'| {_WAYS.get(name, name)} | ' + ' | '.join(
            '–' if cell is None else plus_minus(cell['lost_points'], cell['interval95_points']) for cell in cells) + ' |')
    return '\n'.join([*lines, '', f'Made by `{result["command"]}`.', ''])


def write_report(result: dict, json_path: str) -> list[str]:
    """Write table and plot beside the JSON file; a sentence about each."""
    return drawing.write_beside(json_path, lambda png: f'{markdown(result)}\n![The same as a plot]({Path(png).name})\n',
                                lambda png: drawing.plot(partial(_paint, result=result), png, (8, 3.6), 120))


def _place(place: str) -> str:
    pattern, rate = place.split()
    return f'{100 * float(rate):g} %, {_PATTERNS[pattern]}'


def _paint(figure: Figure, result: dict) -> None:
    patterns = list(dict.fromkeys(place.split()[0] for place in result['lost']))
    axes = figure.subplots(1, len(patterns), sharey=True, squeeze=False)[0]
    for axis, pattern in zip(axes, patterns, strict=True):
        places = [place for place in result['lost'] if place.split()[0] == pattern]
        rates = [100 * float(place.split()[1]) for place in places]
        for name in dict.fromkeys(name for place in places for name in result['lost'][place]):
            colour, marker = STYLES.get(name, OTHER_STYLE)
            axis.plot(rates, [result['lost'][place][name]['lost_points'] for place in places], color=colour, marker=marker,
                      label=_WAYS.get(name, name))
        axis.set_title(_PATTERNS[pattern])
        axis.set_xlabel('packets lost, %')
        axis.invert_yaxis()
    axes[0].set_ylabel(f'points of {_MEASURES[result["measure"]]} lost')
    axes[0].legend(fontsize=8)
