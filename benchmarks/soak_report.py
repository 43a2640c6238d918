"""What a soak's ledger says, against the targets: as JSON, Markdown and a plot."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.part import target
from benchmarks.soak_ledger import ANSWERED, EXPIRED, LOCAL, SUBMITTED, Ledger
from evitif.files import write_json, write_text
from evitif_lab.evaluation.drawing import draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECOVERY_S = 2.0
GROWTH = 0.02           # of the resident memory, over the quiet last fifth of the frames
IN_FLIGHT_S = 0.7       # the answer deadline, and how old an edge's last word on its counts may be
LEAST_QUIET = 2000      # frames of it that are needed to say something about memory


def judge(ledger: Ledger, state: dict, events: list, settings: dict) -> dict:
    """The report: counts, targets with what was measured, samples of memory (frame, edge, bridge and this process in bytes)."""
    frames, lives = ledger.frames, ledger.lives[:state['life']]
    edges, clean = (lives['bridge'] == 0) & (lives['received'] > 0), lives['ended'] == 1
    outcome = {name: int(np.count_nonzero(frames['outcome'] == code)) for name, code in
               (('answered', ANSWERED), ('answered locally', LOCAL), ('expired', EXPIRED), ('without an outcome', SUBMITTED))}
    sums = [_sum_is_right(frames[frames['life'] == index], life) for index, life in enumerate(lives) if edges[index] and clean[index]]
    left = {index: int(np.count_nonzero((frames['life'] == index) & (frames['outcome'] == SUBMITTED))) for index in np.flatnonzero(edges)}
    counted = {index: int(lives['replaced'][index] + lives['unsent'][index] + lives['failed'][index]) for index in left}
    killed = [index for index in left if not clean[index]]
    on_their_way = sum(max(0, left[index] - counted[index]) for index in killed)
    answered_at = np.sort(frames['ended_at'][frames['outcome'] == ANSWERED])
    cuts = [_until(answered_at, at) for at in state['cuts']]
    bridges = [_until(answered_at, at) for at in lives['ready_at'][lives['bridge'] == 1] if at > 0]
    restarts = sum(kind not in ('cut', 'move') for _, kind in events[:state['next']])
    memory = np.array(state['memory'], float).reshape(-1, 4)
    growth = {side: _growth(memory[:, column], memory[:, 0], settings['frames'])
              for column, side in ((1, 'edge'), (2, 'bridge'), (3, 'link simulator'))}
    slope = {side: _slope(memory[:, column], memory[:, 0], settings['frames']) for column, side in ((1, 'edge'), (2, 'bridge'))}
    doubles = int(np.count_nonzero(frames['predictions'] > 1))
    wrong = int(frames['wrong'].sum())

    targets = [
        target('frames', settings['frames'], sum(outcome.values()), sum(outcome.values()) == settings['frames']),
        target('restarts', settings['restarts'], restarts, restarts >= settings['restarts']),
        target('frames answered twice', 0, doubles, doubles == 0),
        target('wrong answers', 0, wrong, wrong == 0, 'each recomputed from its image and the tokens that arrived'),
        target('lives of the edge whose sum is right', len(sums), sum(sums), all(sums),
               'of those that were told to end; received = answered + expired + unsent + replaced + failed'),
        target('frames without an outcome that no edge counted as unsent, replaced or failed', 0,
               sum(max(0, left[index] - counted[index]) for index in left if clean[index]),
               all(left[index] <= counted[index] for index in left if clean[index]),
               f'of {outcome["without an outcome"]} without an outcome'),
        target('frames on their way when their edge was killed', f'at most {IN_FLIGHT_S} s of frames for each',
               on_their_way, on_their_way <= len(killed) * settings['rate'] * IN_FLIGHT_S, f'{len(killed)} edges were killed'),
        target('s to the first answer after a cut', RECOVERY_S, _worst(cuts), all(value <= RECOVERY_S for value in cuts),
               f'the longest of {len(cuts)}'),
        *(target(f'memory of the {side}: growth over the last fifth', GROWTH, growth[side], growth[side] <= GROWTH,
                 f'share; slope {slope[side]:.1f} bytes a frame' if side in slope else 'share') for side in growth
          if np.isfinite(growth[side]))]
    return {'settings': settings, 'seconds': round(state['seconds'], 1), 'outcomes': outcome,
            'lives': {'edge': int(edges.sum()), 'bridge': len(bridges)}, 'moves': state['moves'],
            's to the first answer after the bridge listens': {'median': _median(bridges), 'longest': _worst(bridges)},
            's to the first answer after each cut': [round(value, 3) for value in cuts], 'targets': targets,
            'memory': [[int(value) for value in sample] for sample in memory[::max(1, len(memory) // 500)]]}


def _sum_is_right(frames: np.ndarray, life: np.void) -> bool:
    counts = {name: int(life[name]) for name in ('received', 'replaced', 'failed', 'unsent', 'answered', 'expired', 'local')}
    return bool(len(frames) == counts['received'] == sum(counts[name] for name in ('replaced', 'failed', 'unsent', 'answered', 'expired'))
            and np.count_nonzero(frames['outcome'] == ANSWERED) == counts['answered']
            and np.count_nonzero(frames['outcome'] == LOCAL) == counts['local'])


def _until(answered_at: np.ndarray, moment: float) -> float:
    """Seconds from `moment` to the first answer after it; NaN, which holds nowhere, where there was none."""
    index = np.searchsorted(answered_at, moment)
    return float(answered_at[index] - moment) if index < len(answered_at) else float('nan')


def _worst(values: list[float]) -> float | None:
    return round(max(values), 3) if values else None


def _median(values: list[float]) -> float | None:
    return round(float(np.nanmedian(values)), 3) if values else None


def _quiet(sizes: np.ndarray, at: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    kept = (at >= 0.85 * frames) & (sizes > 0) & (0.15 * frames >= LEAST_QUIET)      # after the last restart has settled
    return sizes[kept], at[kept]


def _growth(sizes: np.ndarray, at: np.ndarray, frames: int) -> float:
    sizes, _ = _quiet(sizes, at, frames)
    half = len(sizes) // 2
    return round(float(np.median(sizes[half:]) / np.median(sizes[:half]) - 1), 4) if half else float('nan')


def _slope(sizes: np.ndarray, at: np.ndarray, frames: int) -> float:
    sizes, at = _quiet(sizes, at, frames)
    return float(np.polyfit(at, sizes, 1)[0]) if len(set(at)) > 2 else float('nan')


def write_report(report: dict, folder: Path) -> None:
    """soak.json, soak.md and soak.png; prints the table."""
    write_json(folder / 'soak.json', report)
    rows = [f'| {row["name"]} | {row["target"]} | {row["measured"]} | {"yes" if row["holds"] else "**no**"} | {row["note"]} |'
            for row in report['targets']]
    outcomes = ', '.join(f'{count:,} {name}' for name, count in report['outcomes'].items())
    text = '\n'.join(['# Soak', '', f'Edge and bridge are restarted, moved and cut off while frames flow. `{report["command"]}` took '
                      f'{report["seconds"]:.0f} s with seed {report["settings"]["seed"]}. The frames: {outcomes}.', '',
                      '| | target | measured | holds | |', '| --- | --- | --- | --- | --- |', *rows, '',
                      '![memory of the processes over the frames](soak.png)', ''])
    write_text(folder / 'soak.md', text)
    print(text)
    draw(partial(_paint, np.array(report['memory'], float)), folder / 'soak.png', (8, 3.5), dpi=100)


def _paint(memory: np.ndarray, figure: Figure) -> None:
    axes = figure.add_subplot()
    for column, name in ((1, 'edge'), (2, 'bridge'), (3, 'link simulator')):
        axes.plot(memory[:, 0], memory[:, column] / 2**20, '.', markersize=2, label=name)
    axes.set(xlabel='frames submitted', ylabel='resident memory, MiB', title='Memory while edge and bridge are restarted')
    axes.set_ylim(bottom=0)
    axes.legend()
