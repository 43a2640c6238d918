"""Whether bridges of a new version answer as those of now: kept images are asked of both, as a robot would."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from evitif_fleet.configuration import FleetConfiguration

MOST_IMAGES = 200
ANSWER_S, CONNECT_S = 2.0, 20.0
PROBE = 'evitif-probe'       # the robot that asks; it needs a key where each robot has its own


def agreement(fleet: FleetConfiguration, directories: str, old: tuple[str, dict[str, Any]], new: tuple[str, dict[str, Any]]
              ) -> tuple[float | None, str]:
    """The share of the kept images that both bridges, each a name and its settings, give the same class; None where none are kept. And why
    the new one cannot be asked, or ''."""
    if not fleet.update.images:
        return None, ''
    images = _images(Path(fleet.update.images))
    answers = [_answers(fleet, directories, name, settings, images) for name, settings in (old, new)]
    known = [(before, after) for before, after in zip(*answers, strict=True) if before is not None]
    if not known:
        return None, f'bridge {old[0]} answered none of {len(images)} kept images'
    if not any(after for _, after in known):
        return None, f'bridge {new[0]} answered none of {len(images)} kept images'
    return sum(before == after for before, after in known) / len(known), ''


def _images(folder: Path) -> list[np.ndarray]:
    from PIL import Image
    paths = sorted(path for path in folder.rglob('*') if path.suffix.lower() in ('.png', '.jpg', '.jpeg', '.webp'))[:MOST_IMAGES]
    if not paths:
        raise ValueError(f'{folder} has no images; expected some to check an update by')
    return [np.asarray(Image.open(path).convert('RGB')) for path in paths]


def _answers(fleet: FleetConfiguration, directories: str, bridge: str, settings: dict[str, Any], images: list[np.ndarray]
             ) -> list[str | None]:
    """The class of each image by one bridge; None where no answer came."""
    from evitif.api import run_edge
    from evitif.settings import BRIDGE_SETTINGS, EDGE_SETTINGS, settings_of
    strategy = fleet.bridges.strategy
    common = {each.name for each in settings_of(EDGE_SETTINGS[strategy])} & {each.name for each in settings_of(BRIDGE_SETTINGS[strategy])}
    about = {name: value for name, value in settings.items() if name in common}
    key_file = fleet.key_file
    if key_file and Path(key_file).is_dir():
        key_file = str(Path(key_file) / f'{PROBE}.key')
    found: dict[int, str] = {}
    arrived = threading.Condition()

    def answered(prediction: Any) -> None:
        with arrived:
            if prediction.how == 'off-board':
                found[prediction.capture_stamp_ns] = prediction.labels[0]
            arrived.notify_all()
    with run_edge(answered, strategy=strategy, **about, key_file=key_file, unsealed=fleet.unsealed, robot_name=PROBE,
                  bridge_host=directories, bridge_name=bridge, answer_memory=0.0) as edge:
        threading.Event().wait(0.1)
        for _ in range(int(10 * CONNECT_S)):
            if edge.statistics().state == 'connected':
                break
            threading.Event().wait(0.1)
        for number, image in enumerate(images, 1):
            edge.submit(image, 1000 * number)
            with arrived:
                arrived.wait_for(lambda number=number: 1000 * number in found, ANSWER_S)
    return [found.get(1000 * number) for number in range(1, len(images) + 1)]
