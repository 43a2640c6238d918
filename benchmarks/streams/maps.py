"""Masks and depth over a bad link: what loss costs, and the bytes on the wire beside H.264 with parity, on the same frames and losses.

Edge and bridge run as they are, in simulated time, with the settings that they have by themselves; the head's map travels back. H.264 sends
the whole picture, and the whole model and the same head look at what was decoded. A map counts if it is on the robot by the deadline;
else the last one stands. Of the jobs those come first whose figures are asked for most; `--minutes` ends a run, the same command goes on.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.part import ROOT, PartError, command, machine, save, sources_digest
from benchmarks.streams.cells import chosen, distinct, least_bytes
from benchmarks.streams.clips import NO_ANSWER, VIT_TINY, standing
from benchmarks.streams.codecs import Parity, Video
from benchmarks.streams.contestant import DEADLINE_S, Contestant
from benchmarks.streams.contestants import PARITIES
from benchmarks.streams.map_clips import MapSplit, PlaceClip, PlaceSource
from benchmarks.streams.traces import Link
from evitif.files import read_json
from evitif.heads import read_head
from evitif.heads.artifact import head_folder
from evitif_lab.commands.options import positive, positive_int, real, whole
from evitif_lab.commands.progress import Progress
from evitif_lab.evaluation.partial import PartialResult
from evitif_lab.evaluation.suite import IMAGENET_CHECKPOINT
from evitif_lab.rivals.h264 import MISSING, Coding, av
from evitif_lab.trials.place_figures import describe

TITLE = 'Masks and depth over a bad link'
QUICK = 'few frames, links and settings'
SOURCES = ('evitif/heads', 'evitif/model', 'evitif/recovery', 'evitif/protocol', 'evitif/pipeline', 'evitif/settings')
QUICK_FRAMES, MOST_FRAMES = 12, 10_000
LINKS = (*(Link(f'{100 * loss:g} %', loss) for loss in (0.6, 0.05, 0.3, 0.8, 0.0, 0.1)),
         *(Link(f'{100 * loss:g} % in bursts of 8', loss, 8.0) for loss in (0.3, 0.6, 0.8)))
FIRST = (slice(0, 2), slice(2, 4), slice(4, None))      # of the links, those measured together
EVITIF, H264 = 'evitif', 'H.264 4:2:0'
ALONE = {'zero': 'evitif, lost tokens zero', 'mean': 'evitif, lost tokens the mean', 'memory': 'evitif, the last known token'}
MARGINS = (0.03, 0.002)             # beside the default
CRFS = (22, 30, 26, 34, 18)
LOST = (1.0, 2.0)                   # points, for which bytes are compared
COMPARED = ('5 %', '10 %', '30 %', '60 %', '80 %', '30 % in bursts of 8', '60 % in bursts of 8', '80 % in bursts of 8')
_MEASURES = {'miou': 'mIoU', 'delta1': 'δ < 1.25'}


def contestants() -> Iterator[Contestant]:
    """All of them, those first whose figures are asked for most."""
    yield Contestant(EVITIF, 'as it is', 'default', MapSplit({}, {}))
    for margin in MARGINS[:1]:
        yield _evitif(margin)
    protections = {name: parity for name, parity in PARITIES.items() if parity is not None}
    for crf, (name, parity) in itertools.product(CRFS[:2], protections.items()):
        yield _h264(crf, name, parity)
    for recovery, title in ALONE.items():
        yield Contestant(title, 'as it is', 'default', MapSplit({}, {'recovery': recovery}))
    for margin in MARGINS[1:]:
        yield _evitif(margin)
    for crf, (name, parity) in itertools.product(CRFS[2:], protections.items()):
        yield _h264(crf, name, parity)


def _evitif(margin: float) -> Contestant:
    return Contestant(EVITIF, 'as it is', f'accuracy margin {margin:g}', MapSplit({'accuracy_margin': margin}, {}))


def _h264(crf: int, name: str, parity: Parity) -> Contestant:
    return Contestant(f'{H264}, {name}', 'key frame every 30', f'CRF {crf}', Video(Coding(420, crf, 30), parity))


def jobs(quick: bool, seeds: int) -> list[tuple[Contestant, Link, int]]:
    """All runs; a link that loses nothing has one seed."""
    groups = (LINKS[:1],) if quick else tuple(LINKS[at] for at in FIRST)
    found = [(contestant, link, seed) for seed in range(seeds) for links in groups for contestant in contestants() for link in links
             if seed == 0 or link.loss > 0]
    found.sort(key=lambda job: (job[2], job[0].family != EVITIF or job[0].setting != 'default'))        # what it loses as it is comes first
    if av is None:
        found = [job for job in found if not job[0].family.startswith(H264)]
    return found[:4] if quick else found


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this part."""
    parser.add_argument('--head', default='data/heads/segmentation', metavar='FOLDER',
                        help='a head for masks or depth (default: %(default)s)')
    parser.add_argument('--model', default=VIT_TINY, help='its backbone (default: %(default)s)')
    parser.add_argument('--checkpoint', metavar='FILE', help=f'weights of a timm model (default: {IMAGENET_CHECKPOINT} for {VIT_TINY})')
    parser.add_argument('--data', default='data/camvid', metavar='FOLDER',
                        help='frames that follow one another, and what is known of them (default: %(default)s)')
    parser.add_argument('--void', type=whole(0, 255), metavar='ID', help='the id that means no class, beside 255')
    parser.add_argument('--fit', default='squash', choices=('auto', 'crop', 'pad', 'squash'), help="how a picture comes to the head's size")
    parser.add_argument('--rate-hz', type=positive, default=15.0, help='frames a second (default: %(default)s)')
    parser.add_argument('--frames', type=positive_int, help='of the first so many (default: all)')
    parser.add_argument('--seeds', type=positive_int, default=1, help='repetitions with other losses (default: %(default)s)')
    parser.add_argument('--minutes', type=real(above=True),
                        help='end after so many, with what is measured by then; the same command goes on')


def run(quick: bool, output: Path, head: str, model: str, checkpoint: str | None, data: str, void: int | None, fit: str, rate_hz: float,
        frames: int | None, seeds: int, minutes: float | None) -> dict:
    """
    The part of `evitif bench`; goes on where it was interrupted.

    :raises PartError: the head, its backbone or the frames are not there
    """
    torch.set_num_threads(1)
    try:
        clip = PlaceClip(source_of(head, model, checkpoint, data, void, fit, rate_hz, QUICK_FRAMES if quick else frames))
    except (ValueError, OSError) as error:
        raise PartError(f'{error}; docs/heads.md says how a head is trained') from None
    name = f'maps_{Path(head).name}'
    todo = jobs(quick, seeds)
    partial = PartialResult(output / f'{name}.json', {
        'head': read_head(head).digest, 'data': data, 'frames': len(clip.frames), 'rate_hz': rate_hz, 'quick': quick, 'machine': machine(),
        'sources': sources_digest((*SOURCES, 'benchmarks/streams'))})
    state = partial.load() or {'next': 0, 'runs': {}}
    began = time.monotonic()
    for contestant, link, seed in Progress(todo, desc='runs', unit='run'):
        if minutes is not None and time.monotonic() - began > 60 * minutes:
            break
        key = f'{contestant.name} | {link.name} | {seed}'
        if key not in state['runs']:
            result = contestant.run(clip, link.trace(seed, len(clip.frames), rate_hz))
            figures = clip.figures(standing(result.answers))
            state['runs'][key] = {'value': round(figures.value, 5), 'bytes': round(float(result.bytes.mean()), 1),
                                  'packets': round(float(result.packets.mean()), 2),
                                  'answered': round(float((result.answers != NO_ANSWER).mean()), 4)}
            state['next'] = len(state['runs'])
            partial.save(state)
    complete = state['next'] == len(todo)
    (partial.remove if complete else lambda: partial.save(state))()
    exact = clip.figures(clip.answers)
    options = {'head': head, 'model': model, 'data': data, **({} if void is None else {'void': void}), 'fit': fit,
               'rate-hz': f'{rate_hz:g}', 'seeds': seeds}
    return save(output, name, command('maps', quick, **options), {'cells': cells_of(todo, state['runs'], exact.value),
                                                                  'exact': exact.figures()},
                left_out={} if av is not None else {'H.264': MISSING}, deadline_s=DEADLINE_S, measure=exact.measure, head=Path(head).name,
                model=model, cut=clip.model.parameters.cut, data=data, frames=len(clip.frames), rate_hz=rate_hz, seeds=seeds,
                measured={'runs': state['next'], 'of': len(todo)})


def source_of(head: str, model: str, checkpoint: str | None, data: str, void: int | None, fit: str, rate_hz: float,
              frames: int | None) -> PlaceSource:
    """Frames, model and head. Raises ArtifactError where there is no such head."""
    about, folder = read_head(head), head_folder(head)
    if checkpoint is None and model == VIT_TINY:
        checkpoint = str(ROOT / IMAGENET_CHECKPOINT)
    cut = int(read_json(folder / 'head.json').get('cut', min(about.reading.blocks)))
    return PlaceSource(about.name, data, rate_hz, frames or MOST_FRAMES, model, cut, checkpoint, head=str(folder),
                       image_size=about.reading.image_size, fit=fit, void=void)


def cells_of(todo: list[tuple[Contestant, Link, int]], runs: dict[str, dict], exact: float) -> list[dict]:
    """For each link and contestant that was measured: means over seeds; `cost` is the points that are lost."""
    groups: dict[tuple[str, str], list[tuple[Contestant, Link, dict]]] = {}
    for contestant, link, seed in todo:
        if (one := runs.get(f'{contestant.name} | {link.name} | {seed}')) is not None:
            groups.setdefault((link.name, contestant.name), []).append((contestant, link, one))
    cells = []
    for group in groups.values():
        contestant, link, _ = group[0]
        mean = {name: float(np.mean([one[name] for _, _, one in group])) for name in ('value', 'bytes', 'packets', 'answered')}
        cells.append({'link': link.name, 'family': contestant.family, 'variant': contestant.variant, 'setting': contestant.setting,
                      'seeds': len(group), 'cost': round(100 * (exact - mean['value']), 2), **mean})
    return cells


def section(result: dict, images: Path) -> str:
    """Its page, in Markdown."""
    cells, measure = result['figures']['cells'], _MEASURES[result['measure']]
    measured = result['measured']
    links = [link.name for link in LINKS if link.name in distinct(cells, 'link')]
    links.sort(key=lambda name: ('bursts' in name, float(name.partition(' ')[0])))
    lines = [f'`{result["head"]}` on {result["model"]}, cut {result["cut"]}, {result["data"]}: {result["frames"]} frames at '
             f'{result["rate_hz"]:g} Hz, {result["seeds"]} seeds of the losses. {measured["runs"]} of {measured["of"]} runs were measured. '
             f'A map counts if it is on the robot within {1e3 * result["deadline_s"]:g} ms; else the last one stands. Bytes are of the IP '
             f'packets of the uplink. The head on the frames as they are, maps as they travel: {describe(result["figures"]["exact"])}', '',
             f'Points of {measure} lost, and bytes of a frame, with the settings that edge and bridge have by themselves:', '',
             '| | ' + ' | '.join(links) + ' |', '| --- |' + ' ---: |' * len(links)]
    for family in (EVITIF, *ALONE.values()):
        of = {cell['link']: cell for cell in chosen(cells, family=family, setting='default')}
        if of:
            lines.append(f'| {family} | ' + ' | '.join(
                f'{of[link]["cost"]:.1f} ({of[link]["bytes"] / 1000:.1f} k)' if link in of else '' for link in links) + ' |')
    compared = [link for link in links if link in COMPARED]
    for points in LOST:
        lines += ['', f'Bytes of a frame for at most {points:g} points of {measure} lost (–: no setting gets there):', '',
                  '| | ' + ' | '.join(compared) + ' |', '| --- |' + ' ---: |' * len(compared)]
        for family in distinct(cells, 'family'):
            if family not in ALONE.values():
                sizes = {link: chosen(cells, family=family, link=link) for link in compared}
                lines.append(f'| {family} | ' + ' | '.join(
                    '' if not found else '–' if (size := least_bytes(found, points)) is None else f'{size:,.0f}'
                    for found in sizes.values()) + ' |')
    lines += ['', 'All that was measured:', '', f'| | setting | link | bytes | packets | answered | {measure} | points lost |',
              '| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |']
    lines += [f'| {cell["family"]} | {cell["setting"]} | {cell["link"]} | {cell["bytes"]:,.0f} | {cell["packets"]:.1f} | '
              f'{100 * cell["answered"]:.1f} % | {100 * cell["value"]:.1f} % | {cell["cost"]:.1f} |' for cell in cells]
    return '\n'.join([*lines, '', f'Made by `{result["command"]}`.'])
