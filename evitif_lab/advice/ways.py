"""Which ways of sending are compared. A further one is one more entry here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evitif.model.folder import artifact_folders
from evitif.partition import read_partition
from evitif.vocabulary import Strategy
from evitif_lab.advice.advice import Way
from evitif_lab.advice.evitif_way import EvitifWay
from evitif_lab.advice.rival_ways import Jpeg, RobotAlone, Video

MARGINS = (0.002, 0.01, 0.03)       # accuracy_margin: as it is by default, and coarser
CRFS = (16, 24, 30)                 # libx264's quality: nearly as it was, usual, poor
QUALITIES = (90, 50)                # of JPEG
USUAL_DEADLINE_S = 0.5              # `answer_deadline`, as it is by default


def ways_of(model: dict[str, Any], slower: float, deadline_s: float, light_model: str = '') -> Iterator[Way]:
    """All of them for a model.

    :param model: its parameters, as edge and bridge take them
    :param slower: how many times slower than this machine the robot computes
    :param deadline_s: by which an answer counts
    :param light_model: of `selection`; '': the one that lies beside the model, if there is one
    """
    model = {**model, 'answer_deadline': max(deadline_s, USUAL_DEADLINE_S)}
    cuts = [model['cut']] if model.get('cut') is not None else cuts_of(model['model'])
    for cut in cuts or [None]:
        for margin in MARGINS:
            where = 'split' if cut is None else f'split at cut {cut}'
            yield EvitifWay(f'evitif, {where}, accuracy_margin {margin:g}', {**model, 'cut': cut, 'accuracy_margin': margin}, slower)
    uncut = {name: value for name, value in model.items() if name != 'cut'}
    yield EvitifWay('evitif, selection without a light model', {**uncut, 'strategy': Strategy.SELECTION}, slower)
    if light := light_model or light_model_of(model['model']):
        yield EvitifWay(f'evitif, selection with {Path(light).name}', {**uncut, 'strategy': Strategy.SELECTION, 'light_model': light},
                        slower)
    for folder, devices in partitions_of(model['model']):
        settings = {'strategy': Strategy.PARTITION, 'partition': str(folder), 'answer_deadline': model['answer_deadline']}
        yield EvitifWay(f'evitif, {folder.name} of {len(devices)} devices', settings, slower, devices)
    if Video.possible():
        for crf in CRFS:
            yield Video(f'H.264, adaptive parity, CRF {crf}', slower, crf)
    for quality in QUALITIES:
        yield Jpeg(f'JPEG {quality}, best effort', slower, quality, reliable=False)
    yield Jpeg(f'JPEG {QUALITIES[0]}, reliable, in order', slower, QUALITIES[0], reliable=True)
    yield RobotAlone('the robot alone', slower)


def light_model_of(model: str) -> str:
    """The folder of the light model beside a model's folder; '' where there is none."""
    folder = Path(f'{model.rstrip("/")}_light')
    return str(folder) if (folder / 'selection.json').is_file() else ''


def partitions_of(model: str) -> list[tuple[Path, tuple[str, ...]]]:
    """The partitions in a model's folder, each with the names of its devices."""
    return [(path.parent, tuple(entry.name for entry in read_partition(str(path.parent)).devices))
            for path in sorted(Path(model).glob('*/partition.json'))]


def cuts_of(model: str) -> list[int]:
    """The cuts for which an entropy code lies beside a model."""
    found = {int(match[1]) for folder in artifact_folders(model) if folder.is_dir() for path in folder.iterdir()
             if (match := re.fullmatch(r'entropy-cut(\d+)\.json', path.name))}
    return sorted(found)
