"""The figures of an evaluation for people: a table in Markdown and a plot."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from evitif_lab.evaluation import drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Distinguishable with any colour vision (Okabe and Ito, 2008, and Tol, 2021), and by marker as well.
STYLES = {'paldn': ('#D55E00', 'o'), 'omission': ('#0072B2', 's'), 'zero': ('#888888', 'v'), 'mean': ('#56B4E9', '^'),
          'interpolation': ('#009E73', 'D'), 'linear': ('#CC79A7', 'P'), 'surrogate': ('#E69F00', 'X'),
          'srcnn': ('#332288', '<'), 'edsr': ('#882255', '>'), 'tuned-tail': ('#44AA99', 'h')}
OTHER_STYLE = ('#000000', '.')


def losses_in_words(result: dict) -> str:
    """The pattern of loss: 'independent losses', …"""
    if result['pattern'] == 'iid':
        return 'independent losses'
    bursts = f'mean burst {result["burst"]:g}'
    return bursts if result['pattern'] == 'burst' else f'a rate that drifts from 0 to the peak and back, {bursts}'


def tokens_in_words(result: dict) -> str:
    """How tokens travel: 'int8', 'int4 twice', or 'adaptive'."""
    if result['quantisation'] == 'adaptive':
        return 'adaptive'
    return format_in_words(result, result['quantisation'])


def format_in_words(result: dict, quantisation: str) -> str:
    """A quantisation with its copies: 'int8', or 'int4 twice'."""
    copies = result['patch_copies'][quantisation]
    return quantisation + {1: '', 2: ' twice'}.get(copies, f' {copies} times')


def choices_in_words(result: dict) -> str:
    """What tokens travelled as at each rate, the most frequent first; what was under half a percent is left out."""
    return '; '.join(f'{100 * float(rate):g} %: ' + ', '.join(
        format_in_words(result, kind) + (f' ({100 * share:.0f} %)' if share < 0.995 else '') for kind, share in shares.items()
        if share >= 0.005) for rate, shares in result['choices'].items())


def title(method: str) -> str:
    """A method's name as tables and plots have it."""
    return 'PALDN' if method == 'paldn' else method


def plus_minus(value: float, half: float | None) -> str:
    """A figure with half of its interval, where that is known and not nothing."""
    return f'{value:.2f}' + (f' ± {half:.2f}' if half else '')


def markdown(result: dict) -> str:
    """The figures as tables in Markdown: top-1 in percent, and points lost against the uncut model, one line a method."""
    rates = list(next(iter(result['top1'].values()), {}))
    drift = result['pattern'] == 'drift'
    lines = [f'{result["model"]}, cut {result["cut"]}, {tokens_in_words(result)}, {result["images"]} images of '
             f'{result["data"]}, {result["packets_per_frame"]} packets and {result["bytes_per_frame"]:,} bytes a frame, '
             f'{losses_in_words(result)}, {result["seeds"]} {"seed" if result["seeds"] == 1 else "seeds"}; uncut model: '
             f'{100 * result["top1_uncut"]:.2f} %, without loss: {100 * result["top1_lossless"]:.2f} %', '',
             '| top-1 in % | ' + ' | '.join(f'{100 * float(rate):g} % {"peak " if drift else ""}loss' for rate in rates) + ' |',
             '| --- |' + ' ---: |' * len(rates)]
    for name, row in result['top1'].items():
        cells = [plus_minus(100 * cell['mean'], cell['lost_interval95']) for cell in row.values()]
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    lines += ['', '| points lost | ' + ' | '.join(f'{100 * float(rate):g} %' for rate in rates) + ' |',
              '| --- |' + ' ---: |' * len(rates)]
    for name, row in result['top1'].items():
        cells = [plus_minus(cell['lost'], cell['lost_interval95']) for cell in row.values()]
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    if result['quantisation'] == 'adaptive':
        lines += ['', f'Tokens travelled as {choices_in_words(result)}.']
    unanswerable = {rate: share for rate, share in result['frames_unanswerable'].items() if share}
    if unanswerable:
        lines += ['', 'No packet arrives of ' + ', '.join(f'{100 * share:.3g} % of the frames at {100 * float(rate):g} %'
                                                          for rate, share in unanswerable.items())
                  + '; one packet of these is spared.']
    return '\n'.join(lines)


def write_report(result: dict, json_path: Path | str) -> list[str]:
    """Write the table and the plot beside the JSON, with its name; return a sentence about each."""
    made = f'\nMade by `{result["command"]}`.\n' if result['command'] else ''
    return drawing.write_beside(json_path, lambda _: f'{markdown(result)}\n{made}', partial(plot, result))


def plot(result: dict, path: Path | str) -> str:
    """Draw accuracy over loss, a line a method with its 95 % interval, as PNG; return a sentence about it."""
    return drawing.plot(partial(_paint, result), path, (7.2, 4.4), dpi=130)


def _paint(result: dict, figure: Figure) -> None:
    axes = figure.add_subplot()
    axes.axhline(100 * result['top1_uncut'], color='black', linestyle='--', linewidth=1)
    right = max(100 * rate for rate in result['configuration']['loss'])
    ends = [(100 * result['top1_uncut'], 'uncut model', 'black')]
    drawn = [ends[0][0]]
    for name, row in sorted(result['top1'].items(), key=lambda entry: entry[0] == 'paldn'):    # PALDN on top
        colour, marker = STYLES.get(name, OTHER_STYLE)
        points = {100 * float(rate): (100 * cell['mean'], cell['lost_interval95'] or 0.0) for rate, cell in row.items()}
        points.setdefault(0.0, (100 * result['top1_lossless'], 0.0))
        x = sorted(points)
        y, half = ([points[rate][part] for rate in x] for part in (0, 1))
        first = name == 'paldn'
        axes.fill_between(x, [a - b for a, b in zip(y, half, strict=True)], [a + b for a, b in zip(y, half, strict=True)],
                          color=colour, alpha=0.15, linewidth=0)
        axes.plot(x, y, color=colour, marker=marker, markersize=6 if first else 4, linewidth=3 if first else 1.3)
        ends.append((y[-1], title(name), colour))
        drawn += y
    margin = 0.06 * max(max(drawn) - min(drawn), 1.0)       # the lines decide what is shown, not the widest interval
    low, high = min(drawn) - margin, max(drawn) + margin
    axes.set_ylim(low, high)
    axes.set_xlim(-0.02 * right, 1.01 * right)
    ends.sort()
    for (y, text, colour), place in zip(ends, _apart([end[0] for end in ends], 0.055 * (high - low)), strict=True):
        axes.annotate(text, (right, y), xytext=(1.05, place), textcoords=axes.get_yaxis_transform(), color=colour, va='center',
                      annotation_clip=False, arrowprops={'arrowstyle': '-', 'color': colour, 'linewidth': 0.6, 'shrinkB': 5,
                                                           'relpos': (0, 0.5)},
                      fontweight='bold' if text == 'PALDN' else 'normal')
    axes.set_xlabel('highest packet loss of the drift in %' if result['pattern'] == 'drift' else 'packet loss in %')
    axes.set_ylabel('top-1 accuracy in %')
    axes.set_title(f'{result["model"]}, cut after block {result["cut"]}, {tokens_in_words(result)}\n{losses_in_words(result)}',
                   fontsize=10)


def _apart(places: list[float], gap: float) -> list[float]:
    """Ascending places moved as little as possible (least squares) so that neighbours are at least `gap` apart."""
    groups: list[list[float]] = []      # of places that touch: [sum, count], each less what the gaps before it take
    for index, place in enumerate(places):
        groups.append([place - index * gap, 1])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            total, count = groups.pop()
            groups[-1] = [groups[-1][0] + total, groups[-1][1] + count]
    moved = [total / count for total, count in groups for _ in range(int(count))]
    return [place + index * gap for index, place in enumerate(moved)]
