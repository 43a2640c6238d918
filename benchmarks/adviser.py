"""Whether `evitif compare` foretells what the nodes then do: agreement, bytes and delay of three ways over three links.

The same recording goes through the adviser and through the nodes: camera, edge, link simulator and bridge, each a process. H.264, for
which there is no node, goes over real sockets through the link simulator. Delays mean something on an idle machine only; agreement and
bytes can also be compared on a busy one, by `--rate 1 --deadline 5`.
"""

from __future__ import annotations

import argparse
import math
import shutil
import time
from dataclasses import asdict
from pathlib import Path as File
from typing import Any

import numpy as np
import torch

from benchmarks.part import PartError, command, save, target
from evitif.datasets import DatasetError, MovingFashion
from evitif.recording import Recording
from evitif.recording.images import IMAGE
from evitif.transport.impairment import Impairment
from evitif.vocabulary import Strategy
from evitif_lab.advice.advice import Finding, finding_of, judge
from evitif_lab.advice.evitif_way import EvitifWay
from evitif_lab.advice.rival_ways import Video
from evitif_lab.advice.scene import LEAD, Scene
from evitif_lab.advice.timeline import Fate, Path
from evitif_lab.commands.options import positive, whole
from evitif_lab.evaluation.partial import PartialResult

TITLE = 'What the adviser says, and what the nodes do'
QUICK = 'one link, 60 images'
MODEL = 'artifacts/moving_fashion'
FRAMES, RATE_HZ = 300, 15.0
DEADLINE_S = 0.2
CRF = 24
CAMERA = 'camera/image_raw'
_LIGHT, _BURSTS = Impairment(loss=0.1, delay_s=0.005), Impairment(loss=0.3, burst_length=4, delay_s=0.02)
LINKS = {
    '10 % loss, 5 ms': Path(_LIGHT, _LIGHT),
    '30 % loss in bursts of 4, 20 ms': Path(_BURSTS, _BURSTS),
    '20 % loss, 10 ms, 1 Mbit/s': Path(Impairment(loss=0.2, delay_s=0.01, rate_bit_s=1e6), Impairment(loss=0.2, delay_s=0.01)),
}
SPLIT, SELECTION, H264 = 'split', 'selection', 'H.264'
SETTINGS: dict[str, dict[str, Any]] = {
    SPLIT: {'model': MODEL, 'cut': 3, 'threads': 1},
    SELECTION: {'model': MODEL, 'strategy': str(Strategy.SELECTION), 'threads': 1},
}
SEEDS = (0, 1, 2)       # of the adviser; the nodes play once
WORDS = {True: 'held', False: 'missed', None: 'cannot be told, within what chance does'}
AGREEMENT, BYTES, P50 = 0.01, 0.03, 0.15        # how far they may be apart
SOURCES = ('evitif_lab/advice', 'evitif_lab/rivals', 'benchmarks/adviser_nodes.py', 'benchmarks/adviser_video.py')


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this part alone."""
    parser.add_argument('--frames', type=whole(2 * LEAD), help=f'images (default: {FRAMES})')
    parser.add_argument('--rate', type=positive, help=f'images a second (default: {RATE_HZ:g})')
    parser.add_argument('--deadline', type=positive, metavar='S', help=f'from image to answer (default: {DEADLINE_S:g})')
    parser.add_argument('--link', action='append', choices=tuple(LINKS), help='these links only')


def run(quick: bool, output: File, frames: int | None = None, rate: float | None = None, deadline: float | None = None,
        link: list[str] | None = None) -> dict:
    """Measure what was not measured yet, and write adviser.json. Raises PartError."""
    try:
        import rclpy  # noqa: F401
    except ImportError:
        raise PartError('the nodes need rclpy: expected a sourced ROS 2') from None
    frames, links = frames or (60 if quick else FRAMES), link or [*LINKS][:1 if quick else None]
    rate, deadline = rate or RATE_HZ, deadline or DEADLINE_S
    torch.set_num_threads(1)
    partial = PartialResult(output / 'adviser.json', {'frames': frames, 'rate_hz': rate, 'deadline_s': deadline, 'settings': SETTINGS,
                                                      'links': {name: asdict(path) for name, path in LINKS.items()}})
    known: dict[str, dict] = dict((partial.load() or {}).get('known', {}))
    output.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(output / 'adviser-recording', ignore_errors=True)
    bag, stamps = record(output / 'adviser-recording', frames, rate)
    with Recording.open(str(bag)) as recording:
        scene = Scene(recording, {'model': MODEL}, frames, run=frames)
    for name in links:
        for way in (SPLIT, SELECTION, *([H264] if Video.possible() else [])):
            for side, measure in (('foretold', foretold), ('measured', measured)):
                key = f'{name}; {way}; {side}'
                if key not in known:
                    began = time.monotonic()
                    known[key] = asdict(measure(way, scene, LINKS[name], deadline, bag, stamps, output / 'adviser-logs'))
                    print(f'{key}: {time.monotonic() - began:.0f} s', flush=True)
                    partial.save({'next': len(known), 'known': known})
    figures = [row(name, way, Finding(**known[f'{name}; {way}; foretold']), Finding(**known[f'{name}; {way}; measured']))
               for name in links for way in (SPLIT, SELECTION, H264) if f'{name}; {way}; measured' in known]
    usual = {'frames': FRAMES, 'rate': RATE_HZ, 'deadline': DEADLINE_S}
    given = {name: value for name, value in (('frames', frames), ('rate', rate), ('deadline', deadline)) if value != usual[name]}
    about = {'frames': frames, 'rate_hz': rate, 'deadline_s': deadline, 'judged': int(scene.judged.sum()), 'rows': figures}
    report = save(output, 'adviser', command('adviser', quick, **given),
                  about, verdicts(figures, int(scene.judged.sum())), identity=partial.identity)
    partial.remove()
    return report


def record(folder: File, frames: int, rate_hz: float) -> tuple[File, list[int]]:
    """Write a bag of a made video; its path, and the images' stamps. Raises PartError where Fashion-MNIST is not there."""
    from rosbags.rosbag2 import StoragePlugin, Writer

    from evitif_lab.replay.messages import Messages
    try:
        # As much moves between two images at any rate.
        video = MovingFashion('test', clips=math.ceil(frames / 100), length=100, rate=RATE_HZ)
        images = [video[index].image for index in range(frames)]
    except DatasetError as error:
        raise PartError(str(error)) from None
    messages, first = Messages(), 1_700_000_000_000_000_000
    stamps = [first + round(index * 1e9 / rate_hz) for index in range(frames)]
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(f'/{CAMERA}', IMAGE, typestore=messages.store)
        for stamp, image in zip(stamps, images, strict=True):
            message = messages.message(IMAGE, header=messages.header(stamp, 'camera'), height=image.shape[0], width=image.shape[1],
                                       encoding='rgb8', step=3 * image.shape[1], data=image.reshape(-1))
            writer.write(connection, stamp, messages.serialise(message))
    return folder, stamps


def foretold(way: str, scene: Scene, path: Path, deadline_s: float, *_: object) -> Finding:
    """By the adviser."""
    one = Video(H264, 1.0, CRF) if way == H264 else EvitifWay(way, own_settings(way, deadline_s))
    one.prepare(scene)
    return judge(one, scene, path, deadline_s, SEEDS)


def own_settings(way: str, deadline_s: float) -> dict[str, Any]:
    """Of edge and bridge."""
    return {**SETTINGS[way], 'answer_deadline': max(deadline_s, 0.5)}


def measured(way: str, scene: Scene, path: Path, deadline_s: float, bag: File, stamps: list[int], logs: File) -> Finding:
    """By the nodes, or over real sockets."""
    if way == H264:
        from benchmarks.adviser_video import real_video
        return judge(real_video(way, CRF, scene), scene, path, deadline_s, seeds=(7,))
    from benchmarks.adviser_nodes import play
    heard, began = play(bag, own_settings(way, deadline_s), path, 7, logs)
    fates = [Fate(heard.class_ids.get(stamp, -1) if heard.after_s.get(stamp, math.inf) <= deadline_s else -1,
                  heard.after_s.get(stamp, math.inf)) for stamp in stamps]
    each = heard.bytes_between(began + LEAD / scene.rate_hz, began + len(stamps) / scene.rate_hz) / (len(stamps) - LEAD)
    for fate in fates:
        fate.bytes = round(each)
    return finding_of(way, [fate for fate, counts in zip(fates, scene.judged, strict=True) if counts], scene.answers[scene.judged], [], 0.0,
                      scene, deadline_s)


def row(link: str, way: str, foretold: Finding, measured: Finding) -> dict:
    """One line of the table."""
    return {'link': link, 'way': way, 'foretold': asdict(foretold), 'measured': asdict(measured)}


def apart(row: dict) -> tuple[float, float, float]:
    """By how much a line's figures are apart: agreement, of 1; bytes and p50, relative to what was measured."""
    foretold, measured = row['foretold'], row['measured']
    return (abs(foretold['right'] - measured['right']), abs(foretold['bytes'] / measured['bytes'] - 1),
            math.inf if None in (foretold['p50_s'], measured['p50_s']) else abs(foretold['p50_s'] / measured['p50_s'] - 1))


def chance(row: dict, judged: int) -> float:
    """By how much the agreement of the two sides differs by the draw of the losses alone (95 %), of 1."""
    share = min(max((row['foretold']['right'] + row['measured']['right']) / 2, 0.01), 0.99)
    return 1.96 * math.sqrt(share * (1 - share) / judged * (1 + 1 / len(SEEDS)))


def verdicts(rows: list[dict], judged: int) -> list[dict]:
    """The three targets, each by its worst line. An agreement that is apart by no more than chance can be is not judged."""
    worst = np.max([apart(row) for row in rows], axis=0)
    limits = (('agreement', AGREEMENT, 'points'), ('bytes', BYTES, '%'), ('p50', P50, '%'))
    found = [target(name, f'at most {100 * limit:g} {unit}', f'{100 * value:.1f} {unit}', bool(value <= limit))
             for (name, limit, unit), value in zip(limits, worst, strict=True)]
    if not found[0]['holds'] and all(apart(row)[0] <= max(AGREEMENT, chance(row, judged)) for row in rows):
        found[0] |= {'holds': None, 'note': 'within what two draws of losses differ by'}
    return found


def section(result: dict, images: File) -> str:
    """Its page, in Markdown."""
    figures = result['figures']
    judged = figures['judged']
    noise = 100 * max(chance(row, judged) for row in figures['rows'])
    lines = [f'# {TITLE}', '',
             f'Made by `{result["command"]}`; do not edit. {figures["frames"]} images of moving-fashion at {figures["rate_hz"]:g} Hz, '
             f'{judged} of them judged; an answer counts within {1e3 * figures["deadline_s"]:.0f} ms. Foretold by `evitif compare` / '
             f'measured over the nodes (H.264: over real sockets). The draw of losses moves agreement by up to {noise:.1f} points.', '',
             '| link | way | agreement | bytes a frame | p50 |', '| --- | --- | ---: | ---: | ---: |']
    for each in figures['rows']:
        cells = [(f'{100 * one["right"]:.1f} %', f'{one["bytes"]:,.0f}', '–' if one['p50_s'] is None else f'{1e3 * one["p50_s"]:.1f} ms')
                 for one in (each['foretold'], each['measured'])]
        lines.append(f'| {each["link"]} | {each["way"]} | ' + ' | '.join(' / '.join(pair) for pair in zip(*cells, strict=True)) + ' |')
    lines += ['', *(f'- {entry["name"]}: {entry["measured"]} apart at most ({entry["target"]}): '
                    f'{WORDS[entry["holds"]]}' for entry in result['targets'])]
    return '\n'.join(lines) + '\n'
