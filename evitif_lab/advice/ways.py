"""Which ways of sending are compared. A further one is one more entry here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from evitif.model.folder import artifact_folders
from evitif.vocabulary import Strategy
from evitif_lab.advice.advice import Way
from evitif_lab.advice.evitif_way import EvitifWay
from evitif_lab.advice.rival_ways import Jpeg, RobotAlone, Video

MARGINS = (0.002, 0.01, 0.03)       # accuracy_margin: as it is by default, and coarser
CRFS = (16, 24, 30)                 # libx264's quality: nearly as it was, usual, poor
QUALITIES = (90, 50)                # of JPEG
USUAL_DEADLINE_S = 0.5              # `answer_deadline`, as it is by default


def ways_of(model: dict[str, Any], slower: float, deadline_s: float) -> Iterator[Way]:
    """All of them for a model.

    :param model: its parameters, as edge and bridge take them
    :param slower: how many times slower than this machine the robot computes
    :param deadline_s: by which an answer counts
    """
    model = {**model, 'answer_deadline': max(deadline_s, USUAL_DEADLINE_S)}
    cuts = [model['cut']] if model.get('cut') is not None else cuts_of(model['model'])
    for cut in cuts or [None]:
        for margin in MARGINS:
            where = 'split' if cut is None else f'split at cut {cut}'
            yield EvitifWay(f'evitif, {where}, accuracy_margin {margin:g}', {**model, 'cut': cut, 'accuracy_margin': margin}, slower)
    yield EvitifWay('evitif, selection without a light model',
                    {name: value for name, value in model.items() if name != 'cut'} | {'strategy': Strategy.SELECTION}, slower)
    if Video.possible():
        for crf in CRFS:
            yield Video(f'H.264, adaptive parity, CRF {crf}', slower, crf)
    for quality in QUALITIES:
        yield Jpeg(f'JPEG {quality}, best effort', slower, quality, reliable=False)
    yield Jpeg(f'JPEG {QUALITIES[0]}, reliable, in order', slower, QUALITIES[0], reliable=True)
    yield RobotAlone('the robot alone', slower)


def cuts_of(model: str) -> list[int]:
    """The cuts for which an entropy code lies beside a model."""
    found = {int(match[1]) for folder in artifact_folders(model) if folder.is_dir() for path in folder.iterdir()
             if (match := re.fullmatch(r'entropy-cut(\d+)\.json', path.name))}
    return sorted(found)
