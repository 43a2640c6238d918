"""Video over a bad link: cost for the bytes on the wire, evitif beside H.264 and stills with parity, on the same frames and losses.

A contestant is a function of a clip and a trace of losses (`benchmarks.streams.contestant`). Of the jobs those come first whose figures
are asked for most, so that a run that is ended by `--minutes` has them; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.part import PartError, command, machine, save, sources_digest
from benchmarks.streams import video_page
from benchmarks.streams.clips import CLIPS, NO_ANSWER, Clip, standing
from benchmarks.streams.contestant import DEADLINE_S, Contestant
from benchmarks.streams.contestants import contestants
from benchmarks.streams.h264 import MISSING, av
from benchmarks.streams.statistics import BLOCK, interval95
from benchmarks.streams.targets import targets_of
from benchmarks.streams.traces import LINKS, Link
from evitif_lab.commands.options import real
from evitif_lab.commands.progress import Progress
from evitif_lab.evaluation.partial import PartialResult

TITLE = 'Video over a bad link'
QUICK = 'short clips, few contestants, four links'
SOURCES = ('evitif/model', 'evitif/recovery', 'evitif/protocol', 'evitif/pipeline', 'evitif/settings')
SEEDS = 2
QUICK_FRAMES = 20
# Places in LINKS: the rates of the targets first.
ORDER = ((0, 1, 3, 4), (2, 7, 8, 9, 10), (5, 6))
QUICK_LINKS = (0, 3, 7, 9)

section, summary = video_page.section, video_page.summary


@dataclass(frozen=True)
class Job:
    """One run of a contestant."""

    clip: str
    contestant: Contestant
    link: Link
    seed: int

    @property
    def key(self) -> str:
        """Its name among the results."""
        return f'{self.clip} | {self.contestant.name} | {self.link.name} | {self.seed}'


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this part."""
    parser.add_argument('--minutes', type=real(above=True),
                        help='end after so many, with what is measured by then; the same command goes on')


def jobs(clips: list[str], quick: bool) -> Iterator[Job]:
    """All runs; a link that loses nothing has one seed."""
    groups = (QUICK_LINKS,) if quick else ORDER
    for seed in range(1 if quick else SEEDS):
        for places in groups:
            for contestant in contestants(quick):
                for place in places:
                    if seed == 0 or LINKS[place].loss > 0:
                        for clip in clips:
                            yield Job(clip, contestant, LINKS[place], seed)


def run(quick: bool, output: Path, minutes: float | None = None) -> dict:
    """
    The part of `make bench`; goes on where it was interrupted.

    :raises PartError: no clip is there
    """
    torch.set_num_threads(1)
    clips, left_out = {}, {} if av is not None else {'H.264': MISSING}
    for source in CLIPS:
        try:
            clips[source.name] = Clip(source, QUICK_FRAMES if quick else None)
        except (ValueError, OSError) as error:
            left_out[source.name] = str(error)
            print(f'{source.name} was left out: {error}', flush=True)
    if not clips:
        raise PartError('; '.join(f'{name}: {reason}' for name, reason in left_out.items()))
    todo = [*jobs([*clips], quick)]
    partial = PartialResult(output / 'video.json', {
        'clips': {name: len(clip.frames) for name, clip in clips.items()}, 'quick': quick, 'machine': machine(),
        'sources': sources_digest((*SOURCES, 'benchmarks/streams'))})
    state = partial.load() or {'next': 0, 'runs': {}}
    began = saved = time.monotonic()
    with Progress(todo, desc='runs', unit='run') as bar:
        for job in bar:
            if minutes is not None and time.monotonic() - began > 60 * minutes:
                break
            if job.key in state['runs']:
                continue
            state['runs'][job.key] = outcome_of(job, clips[job.clip])
            state['next'] = len(state['runs'])
            if time.monotonic() - saved > 5:
                partial.save(state)
                saved = time.monotonic()
    complete = all(job.key in state['runs'] for job in todo)
    (partial.remove if complete else lambda: partial.save(state))()
    more = {} if minutes is None else {'minutes': f'{minutes:g}'}
    about = {name: {'frames': len(clip.frames), 'rate_hz': clip.rate_hz, 'model': clip.source.model, 'cut': clip.model.parameters.cut,
                    'data': clip.source.data} for name, clip in clips.items()}
    cells = cells_of(todo, state['runs'], clips)
    return save(output, 'video', command('video', quick, **more), {'cells': cells, 'clips': about},
                targets_of(cells) if complete and not quick else [], left_out=left_out, deadline_s=DEADLINE_S, block=BLOCK,
                measured={'runs': sum(job.key in state['runs'] for job in todo), 'of': len(todo)})


def outcome_of(job: Job, clip: Clip) -> dict:
    """One run: the answer that stands at each frame, and what it took."""
    result = job.contestant.run(clip, job.link.trace(job.seed, len(clip.frames), clip.rate_hz))
    return {'answers': standing(result.answers).tolist(), 'answered': (result.answers != NO_ANSWER).astype(int).tolist(),
            'repeated': 0.0 if result.repeated is None else float(result.repeated.mean()),
            'bytes': float(result.bytes.mean()), 'packets': float(result.packets.mean())}


def cells_of(todo: list[Job], runs: dict[str, dict], clips: dict[str, Clip]) -> list[dict]:
    """For each clip, link and contestant that was measured: means over seeds and frames with their 95 % intervals."""
    groups: dict[tuple, list[Job]] = {}
    for job in todo:
        if job.key in runs:
            groups.setdefault((job.clip, job.link.name, job.contestant.name), []).append(job)
    return [cell_of([runs[job.key] for job in group], group[0], clips[group[0].clip]) for group in groups.values()]


def cell_of(runs: list[dict], job: Job, clip: Clip) -> dict:
    """The means of one contestant's seeds."""
    answers = np.array([run['answers'] for run in runs])
    values = {'cost': np.stack([clip.cost(each) for each in answers]), 'agreement': (answers == clip.answers).astype(float),
              'answered': np.array([run['answered'] for run in runs], float)}
    return {'clip': job.clip, 'link': job.link.name, 'family': job.contestant.family, 'variant': job.contestant.variant,
            'setting': job.contestant.setting, 'seeds': len(runs), 'bytes': round(float(np.mean([run['bytes'] for run in runs])), 1),
            'packets': round(float(np.mean([run['packets'] for run in runs])), 2),
            'repeated': rounded(np.mean([run['repeated'] for run in runs])),
            **{name: rounded(value.mean()) for name, value in values.items()},
            **{f'{name}_interval95': [*map(rounded, interval95(value))] for name, value in values.items()}}


def rounded(value: float) -> float:
    """To five digits behind the point."""
    return round(float(value), 5)
