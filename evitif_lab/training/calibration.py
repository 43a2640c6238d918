"""Choose η and δ of strategy selection for a wished accuracy or a wished byte rate, on training images alone.

Where the light model's folder says that its training left some of them out, it is these. A large model that has seen them
looks better than it is: a random crop of each is taken, half of its area to the whole, which takes part of that away. What is
expected in points is unbiased only where the large model's training left out the same images.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from evitif.datasets import ImageDataset, Sample, open_images
from evitif.files import read_json
from evitif.model.build import build_model, read_description
from evitif.model.device import place
from evitif.model.folder import find_model_folder
from evitif.model.transform_code import RATES
from evitif.selection import gate
from evitif.selection.artifact import FILE, Selection, SelectionArtifact, save_selection
from evitif.wording import shortened
from evitif_lab.commands.configuration import PairChoice, option
from evitif_lab.commands.options import positive, positive_int, rate, real, seed, share
from evitif_lab.plain import plain
from evitif_lab.training.calibration_split import training_split
from evitif_lab.training.finished import differs
from evitif_lab.trials.front import PRIOR_WEIGHTS, Point, cheapest, points
from evitif_lab.trials.images import Seen, random_crop
from evitif_lab.trials.selection import Trial, fit_temperature, selected, softmax, specs
from evitif_lab.writable import require_writable

LEAST_AREA = 0.5
BYTES, COST = 'bytes', 'cost'
GATE_RULE = 'min-entropy'


@dataclass(frozen=True, kw_only=True)
class Calibration(PairChoice):
    """The configuration of one calibration; printed at its start and saved with its result."""

    data: str = option(help='a folder with train/ in the ImageFolder layout')
    output: str | None = option(None, "folder of selection.json (default: the light model's)")
    points: float = option(0.5, 'of accuracy that may be lost against the large model, in percent', real(0, 100))
    bytes: float | None = option(None, 'on the wire for an image on average, instead: as accurate as that allows', positive)
    minimise: str = option(BYTES, "for the wished accuracy: bytes, or the paper's cost", choices=(BYTES, COST))
    score_rule: str = option('last', None, choices=('last', 'rollout', 'selective'))
    delta: tuple[float, ...] | list[float] = option((0.5, 0.7, 0.8, 0.9, 0.95), 'to choose from', rate, nargs='+')
    quantisation: tuple[str, ...] | list[str] = option(('klt1', 'klt1.5', 'klt2'), 'of patches, to choose from', nargs='+')
    held_out: float | None = option(None, "of the training images (default: what the light model's training left out)", share,
                                    metavar='SHARE')
    images: int | None = option(None, 'of these, at most (default: all)', positive_int)
    seed: int = option(0, None, seed)

    def __post_init__(self):
        for name in self.quantisation:
            if name not in RATES:
                raise ValueError(f'quantisation of patches is {name!r}: expected some of {", ".join(RATES)}')
        if self.minimise not in (BYTES, COST):
            raise ValueError(f'minimise is {self.minimise!r}: expected {BYTES} or {COST}')
        if not self.points >= 0 or self.bytes is not None and not self.bytes > 0:
            raise ValueError(f'points is {self.points:g} and bytes {self.bytes}: expected at least 0 and more than 0')


class CroppedImages:
    """A data set with a random crop in the place of each image; the same crop whenever it is asked for."""

    def __init__(self, dataset: ImageDataset, like: dict, seed: int):
        self._dataset, self._seen, self._seed = dataset, Seen(like), seed
        self.class_names = dataset.class_names

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        sample, random = self._dataset[index], np.random.default_rng((self._seed, index))
        return replace(sample, image=random_crop(Image.fromarray(sample.image), self._seen, random, LEAST_AREA))


def calibrate(configuration: Calibration, command: str = '') -> tuple[Path, SelectionArtifact]:
    """Calibrate, write `selection.json` and return its path and content.

    :raises ValueError: or one of its kinds, for models, data or values that cannot be used
    """
    c, began = configuration, time.monotonic()
    folder = find_model_folder(c.light) if c.output is None else Path(c.output)
    if folder is None:
        raise ValueError(f'{c.light!r} is not a model folder: expected --output, a folder for {FILE}')
    place(c.device, c.precision)
    require_writable(folder)
    light, large = specs(c)
    held_out = c.held_out or _left_out(c.light)
    if not held_out:
        raise ValueError(f'the training of {c.light!r} left no images for calibration: expected a light model trained with --held-out, '
                         'or --held-out SHARE of images that it has seen')
    built = build_model(large)
    dataset = CroppedImages(open_images(c.data, 'train', class_names=built.class_names), built.data_config, c.seed)
    trial = Trial(light, large, dataset, training_split(len(dataset), held_out)[1][:c.images], c.device, c.precision)
    logits, scores = trial.glances(c.score_rule)
    temperature = fit_temperature(logits, trial.ids)
    own = softmax(logits, temperature)
    uncertainty = gate.uncertainty(own, GATE_RULE)
    alone = {'light': trial.accuracy(own.argmax(1)), 'large': trial.accuracy(trial.whole().argmax(1))}
    wished = alone['large'] - c.points / 100
    found: list[Point] = []
    for quantisation in c.quantisation:
        patches = trial.coded(quantisation)
        for delta in c.delta:
            sent = selected(scores, delta)
            answers = trial.answers(patches, sent, title=f'{quantisation}, delta {delta:g}')
            for weight in PRIOR_WEIGHTS:
                found += points(trial, own, uncertainty, answers, sent, delta=delta, quantisation=quantisation, prior_weight=weight)
    if c.bytes is not None:
        best = max((point for point in found if point.bytes <= c.bytes), key=lambda point: (point.top1, -point.bytes), default=None)
        if best is None:
            raise ValueError(f'no setting takes at most {c.bytes:g} bytes for an image: expected at least '
                             f'{min(point.bytes for point in found):.0f}, or smaller values of delta')
    else:
        best = cheapest(found, wished, c.minimise)
        if best is None:
            highest = max(found, key=lambda point: point.top1)
            raise ValueError(f'no setting is within {c.points:g} points of the large model\'s {100 * alone["large"]:.2f} %: expected '
                             f'at least {100 * (alone["large"] - highest.top1):.2f} points, or higher values of delta and quantisation')
    settings = Selection(trial.classes, best.delta, min(best.eta, gate.highest_eta(trial.classes, GATE_RULE)), c.score_rule,
                         GATE_RULE, temperature, best.prior_weight, best.quantisation)
    artifact = SelectionArtifact(settings, c.light, trial.light_fingerprint, c.large, trial.large_fingerprint, {
        'expected': {**{key: value if isinstance(value, str) else round(value, 4) for key, value in best.as_dict().items()},
                     'images': len(trial), 'top1_light': round(alone['light'], 4), 'top1_large': round(alone['large'], 4)},
        'seed': c.seed,
        'made_by': {'command': command, 'configuration': plain(asdict(c)), 'torch': torch.__version__,
                    'seconds': round(time.monotonic() - began, 1)}})
    path = folder / FILE
    _tell_what_is_replaced(path, artifact)
    save_selection(path, artifact)
    return path, artifact


def _tell_what_is_replaced(path: Path, artifact: SelectionArtifact) -> None:
    try:
        made_by = dict(read_json(path)['made_by'])
    except (OSError, ValueError, KeyError, TypeError):
        return
    different = differs(made_by, artifact.description['made_by']['configuration'], {})
    print(f'{path} is replaced' + (f': it is of another calibration ({shortened("; ".join(different), 300)})' if different else ''),
          flush=True)


def _left_out(light: str) -> float | None:
    """The share of the training images that the training of a model folder left out; None where there is none."""
    folder = find_model_folder(light)
    return None if folder is None else read_description(folder).get('made_by', {}).get('configuration', {}).get('held_out')
