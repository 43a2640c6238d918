"""Strategy selection judged: accuracy against the share of patches and against bytes on the wire, with and without loss,
beside JPEG and WebP of the whole image, and what each of its parts is worth.

Bytes are of UDP payload in both directions on a sealed link, for an image on average; one that the robot answers takes none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from evitif.datasets import open_images
from evitif.files import write_json
from evitif.model.build import build_model
from evitif.model.device import place
from evitif.model.folder import artifact_beside, find_model_folder
from evitif.model.transform_code import RATES
from evitif.protocol.wire.datagram import UNIT_INDEX
from evitif.recovery import METHODS, load_recovery
from evitif.selection import gate
from evitif.selection.artifact import FILE, Selection, load_selection
from evitif.selection.choice import select_within
from evitif.selection.scores import RULES
from evitif.selection.sending import copies_for
from evitif_lab.baselines import LEARNED
from evitif_lab.commands.configuration import PairChoice, option
from evitif_lab.commands.options import not_negative, positive_int, rate, share
from evitif_lab.commands.progress import Progress
from evitif_lab.data.identity import digest_of
from evitif_lab.evaluation.codecs import LOSSLESS, OPTIONS, mosaics_through, through
from evitif_lab.evaluation.partial import PartialResult, require_report
from evitif_lab.evaluation.statistics import half_interval95
from evitif_lab.trials.front import PRIOR_WEIGHTS, Point, points
from evitif_lab.trials.selection import Trial, fused_classes, selected, softmax, specs
from evitif_lab.trials.wire_bytes import DATAGRAM_ROOM, SelectedFrames, answer_bytes, image_bytes_on_wire, image_datagrams

FORMAT = 2                  # of the procedure
ALLOWED = 0.005             # of top-1 that the codec may cost
QUALITIES = {'WebP': (10, 30, 50, 60, 70, 80, 90, 95, 100, LOSSLESS), 'JPEG': (30, 50, 65, 80, 90, 95)}
PIXELS = 'pixels'
ABLATION_SHARE = 0.5        # of the patches, and of the images, where rules are compared


@dataclass(frozen=True, kw_only=True)
class SelectionEvaluation(PairChoice):
    """What to measure; saved with the result. Raises ValueError for a value out of its range."""

    data: str = option(help='a folder in the ImageFolder layout')
    artifact: str | None = option(None, "what was calibrated (default: selection.json in the light model's folder)", metavar='JSON')
    delta: tuple[float, ...] | list[float] = option((0.5, 0.7, 0.85, 0.95, 1.0), 'to sweep', rate, nargs='+')
    eta: tuple[float, ...] | list[float] | None = option(None, 'to sweep (default: those that ask about 10 to 100 %% of the images)',
                                                         not_negative, nargs='+')
    quantisation: tuple[str, ...] | list[str] = option((PIXELS, 'klt1', 'klt1.5', 'klt2'), 'of patches, to sweep', nargs='+',
                                                       metavar='KIND')
    loss: tuple[float, ...] | list[float] = option((0.3, 0.6), 'packet error rates beside 0', share, nargs='+', metavar='RATE')
    seeds: int = option(5, 'repetitions where there is chance', positive_int)
    images: int | None = option(None, 'judge by so many images, drawn over all classes (default: all)', positive_int)
    json: str | None = option(None, 'write the figures there, and beside it a table (.md) and a plot (.png); an interrupted measurement '
                              'goes on from there', metavar='FILE')

    def __post_init__(self):
        for name in self.quantisation:
            if name not in (PIXELS, *RATES):
                raise ValueError(f'quantisation of patches is {name!r}: expected some of {PIXELS}, {", ".join(RATES)}')
        for loss in self.loss:
            if not 0 < loss < 1:
                raise ValueError(f'loss is {loss:g}: expected more than 0, which is measured anyway, and less than 1')
        for delta in self.delta:
            if not 0 <= delta <= 1:
                raise ValueError(f'delta is {delta:g}: expected a share of the scores from 0 to 1')
        if any(not eta >= 0 for eta in self.eta or ()):
            raise ValueError(f'eta is {list(self.eta)}: expected at least 0')


def evaluate_selection(configuration: SelectionEvaluation, command: str = '') -> dict:
    """Measure and return, and write where asked, the figures; goes on where an interrupted measurement ended.

    Raises ValueError or one of its kinds for models, an artifact or data that cannot be used.
    """
    return Measurement(configuration).measure(command)


class Measurement:
    """The two models, their settings and the images, ready to be measured."""

    def __init__(self, configuration: SelectionEvaluation):
        c = self.configuration = configuration
        require_report(c.json)
        place(c.device, c.precision)
        light, large = specs(c)
        dataset = open_images(c.data, 'test', class_names=build_model(large).class_names)
        chosen = np.random.default_rng(0).permutation(len(dataset))[:c.images]
        self.trial = trial = Trial(light, large, dataset, chosen, c.device, c.precision)
        self.settings, self.artifact = _settings(c, trial)
        gate.require_eta(max(c.eta or (0.0,)), trial.classes, self.settings.gate_rule)
        self._glances: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.identity = {'format': FORMAT, 'light': trial.light_fingerprint, 'large': trial.large_fingerprint,
                         'code': trial.code.code.digest, 'data': c.data, 'pictures': digest_of(dataset), 'images': len(trial),
                         'settings': asdict(self.settings),
                         'delta': list(c.delta), 'eta': c.eta and list(c.eta), 'quantisation': list(c.quantisation),
                         'loss': list(c.loss), 'seeds': c.seeds, 'precision': c.precision}

    def measure(self, command: str = '') -> dict:
        """Measure and return, and write where asked, the figures; goes on where an interrupted measurement ended."""
        c, trial, settings = self.configuration, self.trial, self.settings
        partial = PartialResult(c.json, self.identity)
        state = partial.load() or {'next': 0, 'seconds': 0.0, 'stages': {}}

        def stage(name: str, work: Callable[[], dict]) -> dict:
            if name not in state['stages']:
                began = time.monotonic()
                state['stages'][name] = work()
                state['seconds'] += time.monotonic() - began
                state['next'] = len(state['stages'])
                partial.save(state)
            return state['stages'][name]

        logits, self.scores = self._glance(settings.score_rule)
        self.own = softmax(logits, settings.temperature)
        self.uncertainty = gate.uncertainty(self.own, settings.gate_rule)
        alone = stage('alone', lambda: {'light': trial.accuracy(self.own.argmax(1)), 'large': trial.accuracy(trial.whole().argmax(1))})
        codecs = {codec: stage(codec, lambda codec=codec: self._codec(codec)) for codec in QUALITIES}
        front = [point for quantisation in c.quantisation for delta in c.delta
                 for point in stage(f'{quantisation} {delta:g}', lambda q=quantisation, d=delta: self._front(q, d))]
        calibrated = stage('calibrated', self._calibrated)
        losses = {f'{rate:g}': stage(f'loss {rate:g}', lambda rate=rate: self._lossy(rate)) for rate in c.loss}
        ablation = {what: stage(f'ablation {what}', work) for what, work in
                    (('scores', self._scores), ('gates', self._gates), ('recovery', self._recoveries), ('forms', self._forms))}
        result = {'light': trial.light.name, 'large': trial.large.name, 'fingerprints': [trial.light_fingerprint, trial.large_fingerprint],
                  'parameters': [_parameters(trial.light.module), _parameters(trial.large.module)], 'data': c.data,
                  'images': len(trial), 'classes': trial.classes, 'patches': trial.patches, 'seeds': c.seeds,
                  'settings': asdict(settings), 'expected': self.artifact, 'top1': alone,
                  'codecs': codecs, 'reference': {codec: reference(codecs[codec], alone['large']) for codec in codecs},
                  'answer_bytes': answer_bytes(trial.classes, trial.patches), 'front': front, 'calibrated': calibrated,
                  'loss': losses, 'ablation': ablation, 'seconds': round(state['seconds'], 1), 'torch': torch.__version__,
                  'command': command, 'configuration': {**asdict(c), 'json': Path(c.json).name if c.json else None},
                  'identity': self.identity}
        if c.json:
            write_json(c.json, result)
        partial.remove()
        return result

    def _glance(self, rule: str) -> tuple[np.ndarray, np.ndarray]:
        if rule not in self._glances:
            self._glances[rule] = self.trial.glances(rule)
        return self._glances[rule]

    def _codec(self, codec: str) -> list[dict]:
        """Of each quality the accuracy of the large model and the bytes, with the parity that each loss asks for."""
        trial, views, found = self.trial, self.trial.views(), []
        for quality in QUALITIES[codec]:
            decoded = [through(view, codec, quality) for view in Progress(views, desc=f'{codec} {quality}', leave=False)]
            pictures, sizes = zip(*decoded, strict=True)
            top1 = trial.accuracy(trial.whole(trial.of_views(pictures)).argmax(1))
            row = {'quality': quality, 'top1': top1, 'file_bytes': float(np.mean(sizes))}
            for loss in (0.0, *self.configuration.loss):
                uplink = float(np.mean([image_bytes_on_wire(size, loss) for size in sizes]))
                row[f'bytes at {loss:g}'] = uplink + answer_bytes(trial.classes, 0, loss)
                row[f'arrive at {loss:g} without parity'] = float(np.mean([(1 - loss)**image_datagrams(size) for size in sizes]))
            found.append(row)
        return found

    def _front(self, quantisation: str, delta: float) -> list[dict]:
        """Points for several thresholds and weights of the prior."""
        trial, settings = self.trial, self.settings
        sent = selected(self.scores, delta)
        patches = trial.coded(None if quantisation == PIXELS else quantisation)
        logits = trial.answers(patches, sent, title=f'{quantisation}, delta {delta:g}')
        return [point.as_dict() for weight in sorted({*PRIOR_WEIGHTS, settings.prior_weight})
                for point in points(trial, self.own, self.uncertainty, logits, sent, delta=delta, quantisation=quantisation,
                                    prior_weight=weight, etas=self.configuration.eta)]

    def _calibrated(self) -> dict:
        """The calibrated setting without loss: as patches travel and, for the paper's cost, with their pixels as they are."""
        trial, settings = self.trial, self.settings
        sent, found = selected(self.scores, settings.delta), {}
        for name, quantisation in (('coded', settings.quantisation), (PIXELS, PIXELS)):
            logits = trial.answers(trial.coded(None if name == PIXELS else quantisation), sent, title=f'calibrated, {name}')
            (point,) = points(trial, self.own, self.uncertainty, logits, sent, delta=settings.delta, quantisation=quantisation,
                              prior_weight=settings.prior_weight, etas=[settings.eta])
            found[name] = point.as_dict()
        return found

    def _lossy(self, rate: float) -> dict:
        """The calibrated setting on a link that loses packets independently; an image of which nothing arrives is the robot's."""
        trial, settings = self.trial, self.settings
        sent, asked = selected(self.scores, settings.delta), np.flatnonzero(self.uncertainty >= settings.eta)
        frames = SelectedFrames(trial.code.stream_parameters(settings.quantisation), rate)
        patches = trial.coded(settings.quantisation)
        reply = answer_bytes(trial.classes, trial.patches, rate)
        runs, lost, silent, uplink = [], [], [], []
        for seed in range(self.configuration.seeds):
            random, received = np.random.default_rng(seed), np.zeros_like(sent)
            for index in asked:
                ranked = select_within(self.scores[index], int(sent[index].sum()))
                for units in frames.packets(ranked):
                    if random.random() >= rate:
                        received[index, units] = True
            heard = asked[received[asked].any(1)]
            predicted = self.own.argmax(1)
            if len(heard):
                logits = trial.answers(patches, received, heard, title=f'loss {rate:g}, seed {seed}')
                predicted[heard] = fused_classes(logits, self.own[heard], settings.prior_weight)
            runs.append(trial.accuracy(predicted))
            lost.append(1 - received[asked].sum() / max(1, sent[asked].sum()))
            silent.append(1 - len(heard) / max(1, len(asked)))
            uplink.append(sum(frames.bytes(int(sent[index].sum())) for index in asked) / len(trial))
        return {'top1': float(np.mean(runs)), 'interval95': half_interval95(runs), 'runs': runs, 'copies': copies_for(rate),
                'patches_lost': float(np.mean(lost)), 'nothing_arrived': float(np.mean(silent)),
                'bytes': float(np.mean(uplink)) + len(asked) / len(trial) * reply}

    def _scores(self) -> dict:
        """Which patches: equally many by each rule and at random, for all images, pixels as they are."""
        trial, count = self.trial, round(ABLATION_SHARE * self.trial.patches)
        patches, found = trial.coded(None), {}
        for rule in RULES:
            sent = _best(self._glance(rule)[1], count)
            found[rule] = {'top1': trial.accuracy(trial.answers(patches, sent, title=rule).argmax(1))}
        runs = []
        for seed in range(self.configuration.seeds):
            sent = _best(np.random.default_rng(seed).random((len(trial), trial.patches)), count)
            runs.append(trial.accuracy(trial.answers(patches, sent, title=f'at random, seed {seed}').argmax(1)))
        found['random'] = {'top1': float(np.mean(runs)), 'interval95': half_interval95(runs), 'runs': runs}
        return found

    def _gates(self) -> dict:
        """Which images: equally many asked about by each gate, all of whose patches are sent; without and with the prior."""
        trial, found = self.trial, {}
        logits = trial.whole()
        weights = sorted({*PRIOR_WEIGHTS, self.settings.prior_weight})
        for rule in gate.RULES:
            uncertainty = gate.uncertainty(self.own, rule)
            asks = np.zeros(len(trial), bool)
            asks[np.argsort(-uncertainty, kind='stable')[:round(ABLATION_SHARE * len(trial))]] = True
            found[rule] = {f'{weight:g}': trial.accuracy(np.where(asks, fused_classes(logits, self.own, weight), self.own.argmax(1)))
                           for weight in weights}
        return found

    def _recoveries(self) -> dict:
        """What is done about patches that were not sent: half of them, for all images, pixels as they are."""
        trial = self.trial
        patches, sent = trial.coded(None), _best(self.scores, round(ABLATION_SHARE * trial.patches))
        blank, prefix, grid = trial.model.split.blank_tokens().float(), trial.model.split.prefix_tokens, trial.model.grid
        methods = {name: None if name == 'omission' else kind(blank, prefix, grid) for name, kind in METHODS.items() if name != 'memory'}
        for name in LEARNED:
            path = artifact_beside(self.configuration.large, 0, name)
            if path is not None:
                methods[name] = load_recovery(path, trial.large_fingerprint, trial.model.split)[0].to(trial.device)
        missing = 1 - float(sent.mean())
        found = {}
        for name, method in methods.items():
            logits = trial.answers(patches, sent, recovery=method, packet_error_rate=missing, title=name)
            found[name] = {f'{weight:g}': trial.accuracy(fused_classes(logits, self.own, weight)) for weight in PRIOR_WEIGHTS}
        return found

    def _forms(self) -> dict:
        """What chosen patches take in forms that are each decoded alone: rows of the patch code, mosaics of a datagram each. The
        divergence is of the large model's answer from that to the same patches as they are, in nats."""
        trial, settings = self.trial, self.settings
        sent, found, views = selected(self.scores, settings.delta), {}, trial.views()
        plain = torch.from_numpy(trial.answers(trial.coded(None), sent, title=PIXELS)).log_softmax(1)

        def form(name: str, size: float, patches: torch.Tensor) -> None:
            logits = trial.answers(patches, sent, title=name)
            divergence = functional.kl_div(torch.from_numpy(logits).log_softmax(1), plain, log_target=True, reduction='batchmean')
            found[name] = {'bytes': size, 'top1': trial.accuracy(logits.argmax(1)), 'divergence': round(float(divergence), 5)}

        for kind in sorted({settings.quantisation, *self.configuration.quantisation} - {PIXELS}, key=RATES.get, reverse=True):
            form(kind, float(sent.sum(1).mean()) * (trial.code.stream_parameters(kind).row_bytes + UNIT_INDEX.itemsize), trial.coded(kind))
        for codec in OPTIONS:
            for quality in (50, 70, 85):
                pairs = [self._mosaics(view, np.flatnonzero(mask), codec, quality)
                         for view, mask in zip(Progress(views, desc=f'{codec} mosaics', leave=False), sent, strict=True)]
                pictures, sizes = zip(*pairs, strict=True)
                form(f'{codec} {quality}', float(np.mean(sizes)), trial.model.head(trial.of_views(pictures)))
        return found

    def _mosaics(self, view: np.ndarray, patches: np.ndarray, codec: str, quality: int) -> tuple[np.ndarray, int]:
        """Patches as few mosaics, at least two, as fit into a datagram each: the picture, and the bytes with each one's
        bitmap of the patches that it has."""
        bitmap, count = -(-self.trial.patches // 8), 2
        picture, sizes = mosaics_through(view, patches, self.trial.code.pixels.patch_size, count, codec, quality)
        while max(sizes) + bitmap > DATAGRAM_ROOM and count < len(patches):
            count = min(len(patches), max(count + 1, -(-sum(sizes) // DATAGRAM_ROOM)))
            picture, sizes = mosaics_through(view, patches, self.trial.code.pixels.patch_size, count, codec, quality)
        return picture, sum(sizes) + bitmap * len(sizes)


def reference(rows: list[dict], large: float) -> dict | None:
    """The codec's cheapest quality that costs the large model at most half a point; None where none does."""
    return min((row for row in rows if row['top1'] >= large - ALLOWED - 1e-9), key=lambda row: row['file_bytes'], default=None)


def point_of(row: dict) -> Point:
    """A point as `Point.as_dict` wrote it."""
    return Point(**{name: row[name] for name in Point.__dataclass_fields__})


def _settings(c: SelectionEvaluation, trial: Trial) -> tuple[Selection, dict]:
    """The calibrated settings, checked against the models, and the figures that were expected of them."""
    folder = find_model_folder(c.light)
    path = Path(c.artifact) if c.artifact else folder / FILE if folder is not None else None
    if path is None or not path.is_file():
        raise ValueError(f'{c.light!r} has no {FILE}: expected a light model that `evitif calibrate` was run for, or --artifact FILE')
    artifact = load_selection(path, trial.light_fingerprint, trial.large_fingerprint)
    return artifact.settings, artifact.description.get('expected', {})


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """The `count` patches of each image with the highest scores: bool [n, P]."""
    mask = np.zeros(scores.shape, bool)
    np.put_along_axis(mask, np.argsort(-scores, 1, kind='stable')[:, :count], True, 1)
    return mask


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
