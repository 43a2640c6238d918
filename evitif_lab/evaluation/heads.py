"""What a head for masks or depth loses with packets, for each way of recovery, on frames that follow one another.

Tokens are sent once and exact, in the real packetiser's packets of int8 rows; every way sees the same losses. What is remembered is what a
bridge would remember, at the frames' own rate.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from evitif.files import read_json, write_json
from evitif.heads import Features, load_head, read_head
from evitif.heads.artifact import head_folder
from evitif.heads.depth import DepthHead
from evitif.heads.head import Asked
from evitif.heads.maps import PlaceMap
from evitif.heads.segment import SegmentHead
from evitif.image_size import size_text
from evitif.model.build import ModelSpec, build_model
from evitif.model.fingerprint import fingerprint, trunk_fingerprint
from evitif.model.folder import artifact_beside
from evitif.model.preprocess import Preprocessor
from evitif.model.quantise import row_bytes
from evitif.model.split import SplitModel
from evitif.protocol.wire.parameters import StreamParameters
from evitif.recovery import METHODS, LinearCompletion, Memory, Recovery, load_recovery
from evitif.recovery.memory import StreamMemory
from evitif.recovery.methods import Sequence
from evitif.recovery.trust import trust_in
from evitif.settings import AUTO
from evitif.vocabulary import Quantisation, RecoveryName, Task
from evitif_lab.commands.configuration import ModelChoice, option
from evitif_lab.commands.options import positive, positive_int, rate, whole
from evitif_lab.commands.progress import Progress
from evitif_lab.data.identity import digest_of
from evitif_lab.data.places import Placed, Places, open_places
from evitif_lab.evaluation.partial import PartialResult, require_report
from evitif_lab.evaluation.statistics import half_interval95
from evitif_lab.loss_patterns import PacketLoss
from evitif_lab.trials.closed_form import fit_closed_form
from evitif_lab.trials.place_figures import DepthFigures, MaskFigures

BURST = 8.0
FITTED_WITH = 300       # training images of the completion, where none lies beside the model
MEMORY_S = 2.0          # the bridge's default
WAYS = (RecoveryName.ZERO, RecoveryName.MEAN, RecoveryName.MEMORY, RecoveryName.LINEAR, RecoveryName.PALDN)


@dataclass(frozen=True, kw_only=True)
class HeadEvaluation(ModelChoice):
    """What to measure; saved with the result."""

    head: str = option(help='the folder of a head for masks or depth')
    data: str = option(help='moving-fashion, or a folder with images/ and labels/, masks/ or depth/ beside it; its frames follow one '
                       'another')
    fit: str = option('auto', "how a picture comes to the head's size", choices=('auto', 'crop', 'pad', 'squash'))
    void: int | None = option(None, 'the id that means no class in the masks, beside 255', whole(0, 255), metavar='ID')
    loss: tuple[float, ...] | list[float] = option((0.3, 0.6, 0.8), 'packet error rates', rate, nargs='+', metavar='RATE')
    patterns: tuple[str, ...] | list[str] = option(('iid', 'burst'), 'independent losses, and bursts of 8 packets',
                                                   choices=('iid', 'burst'), nargs='+')
    methods: tuple[str, ...] | list[str] | None = option(None, f'some of {", ".join(WAYS)} (default: all, paldn where one lies beside)',
                                                         nargs='+', metavar='METHOD')
    rate_hz: float = option(15.0, 'frames a second of the video', positive)
    frames: int | None = option(None, 'of the first so many frames (default: all)', positive_int)
    judge_every: int = option(1, 'judge by each so-many-th frame; all of them are sent', positive_int)
    seeds: int = option(1, 'repetitions with other losses', positive_int)
    json: str | None = option(None, 'write the figures there, and beside it a table (.md) and a plot (.png)', metavar='FILE')


class _Trial:
    """The model, the head and the ways that are compared."""

    def __init__(self, c: HeadEvaluation):
        about = read_head(c.head)
        if about.task not in (Task.SEGMENT, Task.DEPTH):
            raise ValueError(f'{c.head} is a head to {about.task}: expected one for masks or depth')
        reading = about.reading
        built = build_model(ModelSpec(c.model, c.checkpoint, c.pretrained, image_size=reading.image_size,
                                      fit=reading.fit or AUTO if c.fit == AUTO else c.fit))
        cut = int(read_json(head_folder(c.head) / 'head.json').get('cut', min(reading.blocks)))
        self.split = SplitModel(built.module, cut, built.data_config['input_size'][0])
        head = load_head(c.head, built.name, self.split, lambda block, norm: trunk_fingerprint(built.module, block, norm))
        assert isinstance(head, SegmentHead | DepthHead)
        self.head, self.name = head, built.name
        self.preprocessor = Preprocessor(built.data_config)
        self.labels = head.labels
        labels = None if c.data == 'moving-fashion' or about.task == Task.DEPTH else head.labels
        self.test, self.train = (open_places(c.data, part, about.task, labels, c.void) for part in ('test', 'train'))
        self.parameters = StreamParameters(
            model=built.name, fingerprint=fingerprint(built.module, cut), cut=cut, quantisation=Quantisation.INT8,
            image_size=reading.image_size, tokens=self.split.tokens, prefix_tokens=self.split.prefix_tokens, grid=self.split.grid,
            channels=self.split.channels, groups=1,
            row_bytes=row_bytes(Quantisation.INT8, self.split.channels), classes=1000)
        self.completion = self._completion(c)
        self.methods = self._methods(c)

    @torch.inference_mode()
    def tokens(self, places: Places, chosen: list[int]) -> tuple[torch.Tensor, list[Placed]]:
        """At the cut, [n, N, D]."""
        found, samples = [], []
        for index in Progress(chosen, desc='running the head', unit='frame', leave=False):
            samples.append(places[index])
            found.append(self.split.head(self.preprocessor(samples[-1].image)))
        return torch.cat(found), samples

    def _completion(self, c: HeadEvaluation) -> LinearCompletion:
        sequence = Sequence(self.split.grid, self.split.prefix_tokens, self.split.channels)
        completion = LinearCompletion(sequence).eval()
        chosen = np.random.default_rng(0).permutation(len(self.train))[:FITTED_WITH]
        fit_closed_form(completion, self.tokens(self.train, sorted(chosen.tolist()))[0])
        return completion

    def _methods(self, c: HeadEvaluation) -> dict[str, Recovery]:
        blank = self.split.blank_tokens().float()
        found: dict[str, Recovery] = {}
        for name in c.methods or WAYS:
            if name in (RecoveryName.LINEAR, *METHODS):
                found[name] = self.completion if name == RecoveryName.LINEAR else METHODS[RecoveryName(name)](
                    blank, self.split.prefix_tokens, self.split.grid)
            elif name == RecoveryName.PALDN and (path := artifact_beside(c.model, self.split.cut, name)) is not None and \
                    self.split.image_size == build_model(ModelSpec(c.model, c.checkpoint, c.pretrained)).data_config['input_size'][1:]:
                found[name] = load_recovery(path, self.parameters.fingerprint, self.split)[0]
            elif c.methods:
                raise ValueError(f'method {name!r} is unknown or has no artifact for this model and size: expected some of '
                                 f'{", ".join(WAYS)}')
        return found

    def figures(self) -> MaskFigures | DepthFigures:
        """Empty ones."""
        return MaskFigures(self.labels) if isinstance(self.head, SegmentHead) else DepthFigures()

    @torch.inference_mode()
    def say(self, tokens: torch.Tensor, method: Recovery | None, received: torch.Tensor, rate: float, memory: Memory | None) -> Features:
        """What the head reads of a frame's tokens [1, N, D]."""
        blocks = self.head.reading.blocks
        if method is None or bool(received.all()):
            return Features.of(self.split, tokens, blocks)
        seen = torch.where(received[:, :, None], tokens, 0.0)
        recovered = method.recover(seen, received, torch.tensor([rate]), memory if method.takes_memory else None)
        trust = trust_in(recovered, received, [memory if method.takes_memory else None])
        return Features.of(self.split, recovered.tokens, blocks, recovered.kept, recovered.key_bias, trust)


def evaluate_heads(configuration: HeadEvaluation, command: str = '') -> dict:
    """Measure and return, and write where asked, the figures; goes on where an interrupted measurement ended."""
    c, began = configuration, time.monotonic()
    require_report(c.json)
    trial = _Trial(c)
    identity = {**{name: value for name, value in asdict(c).items() if name != 'json'}, 'pictures': digest_of(trial.test),
                'head': read_head(c.head).digest}
    partial = PartialResult(c.json, identity)
    state = partial.load() or {'next': 0, 'values': {}, 'exact': None}
    frames = list(range(min(c.frames or len(trial.test), len(trial.test))))
    tokens, samples = trial.tokens(trial.test, frames)
    if state['exact'] is None:
        state['exact'] = _exact(trial, tokens, samples, c.judge_every)
    runs = [(pattern, lost, seed) for seed in range(c.seeds) for pattern in c.patterns for lost in c.loss]
    for number, (pattern, lost, seed) in enumerate(Progress(runs, desc='losses', unit='run')):
        if number >= state['next']:
            for name, value in _run(trial, tokens, samples, pattern, lost, seed, c).items():
                state['values'].setdefault(f'{pattern} {lost:g}', {}).setdefault(name, []).append(value)
            state['next'] = number + 1
            partial.save(state)
    exact = state['exact']
    result = {'head': Path(c.head).name, 'task': trial.head.task.value, 'measure': trial.figures().measure, 'model': trial.name,
              'cut': trial.split.cut, 'image_size': size_text(trial.split.image_size), 'data': c.data, 'frames': len(frames),
              'judged': exact['figures']['images'], 'rate_hz': c.rate_hz, 'seeds': c.seeds, 'exact': exact['figures'],
              'bytes': exact['bytes'],
              'lost': {place: {name: _cell(values, exact['value']) for name, values in cells.items()}
                       for place, cells in state['values'].items()},
              'seconds': round(time.monotonic() - began, 1), 'torch': torch.__version__, 'command': command, 'identity': identity}
    if c.json:
        write_json(c.json, result)
    partial.remove()
    return result


@torch.inference_mode()
def _exact(trial: _Trial, tokens: torch.Tensor, samples: list[Placed], every: int) -> dict:
    """Without loss: the figures, and the bytes of what travels back."""
    figures, sizes = trial.figures(), []
    for index in range(0, len(samples), every):
        features = Features.of(trial.split, tokens[index:index + 1], trial.head.reading.blocks)
        figures.add(trial.head(features), [samples[index].truth])
        (said,) = trial.head.results(features, [Asked()])
        assert isinstance(said, PlaceMap)
        sizes.append(sum(map(len, said.parts(1100))))
    return {'figures': figures.figures(), 'value': figures.value,
            'bytes': {'mean': round(float(np.mean(sizes)), 1), 'most': max(sizes)}}


@torch.inference_mode()
def _run(trial: _Trial, tokens: torch.Tensor, samples: list[Placed], pattern: str, rate: float, seed: int,
         c: HeadEvaluation) -> dict[str, float]:
    """What each way reaches on one stream of losses."""
    losses = PacketLoss(trial.parameters)
    run = losses.run(torch.full((len(samples),), rate), BURST if pattern == 'burst' else 1.0, torch.Generator().manual_seed(seed))
    received = losses.received_tokens(run.arrived)
    completion = trial.completion
    stream = StreamMemory(completion.mean, completion.scale, trial.split.prefix_tokens, MEMORY_S, float(completion.chance),
                          trial.split.grid)
    found = {name: trial.figures() for name in trial.methods}
    for index, sample in enumerate(samples):
        one = tokens[index:index + 1]
        memory = stream.see(one[0], received[index], 1_000_000_000 + round(index * 1e9 / c.rate_hz))
        if index % c.judge_every:
            continue
        for name, method in trial.methods.items():
            features = trial.say(one, method, received[index:index + 1], float(run.measured[index]), memory)
            found[name].add(trial.head(features), [sample.truth])
    return {name: figures.value for name, figures in found.items()}


def _cell(values: list[float], exact: float) -> dict:
    interval = half_interval95(values)
    return {'value': round(float(np.mean(values)), 4), 'lost_points': round(100 * (exact - float(np.mean(values))), 2),
            'interval95_points': None if interval is None else round(100 * interval, 2), 'runs': [round(value, 4) for value in values]}
