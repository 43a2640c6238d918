"""Accuracy over packet loss: real quantisation, the real packetiser's packets, every method on the same losses.

The images are consecutive frames of one stream. A method is given the packet error rate that the receiving side would
have measured, never the one that the losses were drawn with.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from evitif.datasets import DatasetError, ImageDataset, open_images
from evitif.files import read_json, write_json
from evitif.heads import read_head
from evitif.model.folder import artifact_beside, artifact_folders, artifact_path
from evitif.model.tensors import require_finite_answers
from evitif.pipeline.cut_model import CutModel
from evitif.pipeline.sending_choice import SendingChoice, Setting
from evitif.pipeline.split_bridge import choose_recovery
from evitif.protocol.frames.packetiser import MAX_PATCH_COPIES, Packetiser, TokenFrame
from evitif.recovery import METHODS, ArtifactError, Omission, Recovery
from evitif.settings import AUTO, UNCODED, SplitSettings, bridge_settings
from evitif.vocabulary import Quantisation, RecoveryName
from evitif_lab.baselines import LEARNED
from evitif_lab.commands.configuration import QUANTISATION_HELP, ViewChoice, option
from evitif_lab.commands.options import not_negative_int, positive, positive_int, rate, whole
from evitif_lab.commands.progress import Progress
from evitif_lab.data.identity import digest_of
from evitif_lab.evaluation.partial import PartialResult, require_report
from evitif_lab.evaluation.statistics import half_interval95
from evitif_lab.loss_patterns import LossRun, PacketLoss
from evitif_lab.trials.headed import with_head

FORMAT = 1              # of the procedure: figures of another one are not gone on with
CHUNK, BATCH = 500, 128
PATTERNS = ('iid', 'burst', 'drift')
DEFAULT_BURST = 8.0


@dataclass(frozen=True, kw_only=True)
class RecoveryEvaluation(ViewChoice):
    """What to measure; saved with the result. Raises ValueError for a value out of its range."""

    data: str = option(help='fashion-mnist, moving-fashion, or a folder in the ImageFolder layout')
    cut: int | None = option(None, "cut after this block (default: the model folder's, else half of the depth)", not_negative_int)
    quantisation: str = option(AUTO, QUANTISATION_HELP, choices=(AUTO, *Quantisation.values()))
    loss: tuple[float, ...] | list[float] = option((0.0, 0.3, 0.6), 'packet error rates', rate, nargs='+', metavar='RATE')
    pattern: str | None = option(None, 'independent losses (default), bursts, or a rate that sweeps from 0 to RATE and back',
                                 choices=('iid', 'burst', 'drift'))
    burst: float | None = option(None, 'mean length of a run of lost packets (default: 8 with --pattern burst, else 1)', positive,
                                 metavar='L')
    patch_copies: int = option(0, 'packets that each patch token travels in (default: 1, or with a transform code as many as take no more '
                               'bytes than int8 once)', whole(1, MAX_PATCH_COPIES), metavar='N')
    methods: tuple[str, ...] | list[str] | None = option(
        None, 'zero, mean, omission, paldn, … (default: all that need no training, and those whose artifact lies beside the model)',
        nargs='+', metavar='METHOD')
    head: str | None = option(None, "the folder of a head that classifies, to judge in the place of the model's own classifier",
                              metavar='FOLDER')
    recovery_artifact: str | None = None    # of the method that it names; None: what lies beside the model
    images: int | None = option(None, 'judge by so many images, drawn over all classes (default: all)', positive_int)
    seeds: int = option(1, 'repetitions with other losses', positive_int)
    json: str | None = option(None, 'write the figures there, and beside it a table (.md) and a plot (.png); an interrupted measurement '
                              'goes on from there', metavar='FILE')

    def __post_init__(self):
        pattern = self.pattern or ('burst' if (self.burst or 1) > 1 else 'iid')
        burst = self.burst if self.burst is not None else DEFAULT_BURST if pattern == 'burst' else 1.0
        if pattern not in PATTERNS:
            raise ValueError(f'pattern {pattern!r} is unknown (expected {", ".join(PATTERNS)})')
        if not burst >= 1:
            raise ValueError(f'burst is {burst:g}: expected a mean length of at least 1 packet')
        if pattern == 'iid' and burst > 1:
            raise ValueError(f'burst is {burst:g}, but the losses of pattern iid are independent: expected pattern burst')
        for loss in self.loss:
            if not 0 <= loss < 1:
                raise ValueError(f'loss {loss:g}: expected at least 0 and less than 1, since a frame of which nothing '
                                 'arrives is not answered')
        object.__setattr__(self, 'pattern', pattern)
        object.__setattr__(self, 'burst', float(burst))
        object.__setattr__(self, 'loss', tuple(dict.fromkeys(float(loss) for loss in self.loss)))


def evaluate_recovery(configuration: RecoveryEvaluation, command: str = '') -> dict:
    """Measure top-1 of every method at every loss rate and return, and write where asked, the figures.

    Raises ValueError or one of its kinds for a method, a model or data that cannot be used.
    """
    return Measurement(configuration).measure(command)


@dataclass(frozen=True)
class Run:
    """One seed at one rate: what the link does to frames in each quantisation, and which of them each frame travels in."""

    losses: dict[str, LossRun]
    kinds: list[str]


class Measurement:
    """A model, its methods and the images, ready to be measured.

    `identity` is all that the figures depend on: equal ones belong to the same measurement, on whatever machine.
    """

    def __init__(self, configuration: RecoveryEvaluation):
        c = self.configuration = configuration
        require_report(c.json)
        self.stream = CutModel.load(SplitSettings(model=c.model, checkpoint=c.checkpoint, pretrained=c.pretrained,
                                                   cut=c.cut, quantisation=UNCODED if c.quantisation == AUTO else c.quantisation,
                                                   device=c.device, **c.view))
        if c.head is not None:
            self.stream = with_head(self.stream, c.head)
        parameters = self.stream.parameters
        self.methods, self.artifacts = _methods(c, self.stream)
        names = self.stream.class_names if self.stream.names_its_classes else None
        self.dataset = open_images(c.data, 'test', class_names=names)
        self.order = np.random.default_rng(0).permutation(len(self.dataset))[:c.images]
        adaptive = self.stream.rates is not None and not c.patch_copies
        self.patterns = {kind: PacketLoss(parameters.in_format(kind), patch_copies=c.patch_copies)
                         for kind in (parameters.row_formats if adaptive else [parameters.quantisation])}
        self.adaptive = adaptive
        self.runs = [(rate, seed) for rate in c.loss for seed in range(c.seeds if rate > 0 else 1)]
        layout = hashlib.sha256(b''.join(pattern.carries.numpy().tobytes() for pattern in self.patterns.values())).hexdigest()
        self.identity = {'format': FORMAT, 'fingerprint': parameters.fingerprint, 'cut': parameters.cut,
                         'quantisation': parameters.quantisation, 'code': parameters.code, 'layout': layout[:16], 'data': c.data,
                         'pictures': digest_of(self.dataset),
                         'images': len(self.order), 'pattern': c.pattern, 'burst': c.burst, 'loss': list(c.loss),
                         'seeds': c.seeds, **({} if c.head is None else {'head': read_head(c.head).identity[1]}),
                         'methods': {name: self.artifacts.get(name) for name in self.methods},
                         **({'rates': repr(self.stream.rates)} if adaptive else {})}

    def measure(self, command: str = '') -> dict:
        """Measure and return, and write where asked, the figures; goes on where an interrupted measurement ended."""
        c, total = self.configuration, len(self.order)
        partial = PartialResult(c.json, self.identity)
        state = partial.load() or {'next': 0, 'uncut': 0, 'lossless': 0, 'seconds': 0.0,
                                   'right': {name: [0] * len(self.runs) for name in self.methods}}
        runs = [self._run(rate, seed) for rate, seed in self.runs]
        answers = len(self.runs) * len(self.methods) + 2
        with Progress(total=total * answers, initial=state['next'] * answers, desc='answers', unit_scale=True) as bar:
            while state['next'] < total:
                began, start = time.monotonic(), state['next']
                chosen = slice(start, min(start + CHUNK, total))
                used = {runs[0].kinds[0]}.union(*(run.kinds[chosen] for run in runs))
                tokens, lossless, ids, uncut_right = self._head(self.order[chosen], used, bar)
                state['uncut'] += uncut_right
                state['lossless'] += _right(lossless[runs[0].kinds[0]], ids)
                for index, run in enumerate(runs):
                    for name, method in self.methods.items():
                        for kind in set(run.kinds[chosen]):
                            frames = torch.tensor([other == kind for other in run.kinds[chosen]])
                            logits = self._answer(method, run, kind, chosen, frames, tokens[kind], lossless[kind])
                            state['right'][name][index] += _right(logits, ids[frames])
                        bar.update(len(ids))
                state['seconds'] += time.monotonic() - began
                state['next'] = chosen.stop
                partial.save(state)
        result = self._result(state, runs, command)
        if c.json:
            write_json(c.json, result)
        partial.remove()
        return result

    def _run(self, rate: float, seed: int) -> Run:
        """What happens to every frame of one run, and the quantisation that it travels in."""
        frames = len(self.order)
        rates = torch.full((frames,), rate)
        if self.configuration.pattern == 'drift':   # up and down again within the run, so that it is never known before
            rates = rates * torch.sin(torch.pi * (torch.arange(frames) + 0.5) / frames)
        losses = {kind: pattern.run(rates, self.configuration.burst, torch.Generator().manual_seed(seed))
                  for kind, pattern in self.patterns.items()}
        own = self.stream.parameters.quantisation
        if not self.adaptive:
            return Run(losses, [own] * frames)
        # The robot goes by what the bridge had measured one frame earlier; of the mean burst by what it is over the run. On a
        # link whose rate is not the limit it sends as many copies as it may.
        choice = SendingChoice(self.stream.rates, [Setting(kind, pattern.patch_copies, 1.0, pattern.packets, 0)
                                                   for kind, pattern in self.patterns.items()])
        burst = _mean_burst(losses[own].arrived)
        kinds, present = [], next(setting for setting in choice.settings if setting.quantisation == own) if rate else None
        for measured in [float(losses[own].measured[0]), *losses[own].measured[:-1].tolist()]:
            present = choice.choose(math.inf, measured, burst, present)
            kinds.append(present.quantisation)
        return Run(losses, kinds)

    def _answer(self, method: Recovery, run: Run, kind: str, chosen: slice, frames: torch.Tensor, tokens: torch.Tensor,
                lossless: torch.Tensor) -> torch.Tensor:
        """Logits [F, classes] of those `frames` (bool) of the `chosen` ones that travelled as `kind`."""
        loss = run.losses[kind]
        if bool(loss.arrived[chosen].all()):
            return lossless[frames]
        received = self.patterns[kind].received_tokens(loss.arrived[chosen][frames])
        return recovered_logits(self.stream, method, tokens[frames], received, loss.measured[chosen][frames], lossless[frames])

    @torch.inference_mode()
    def _head(self, chosen: np.ndarray, kinds: set[str],
              bar: Progress) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], torch.Tensor, int]:
        """By quantisation, of the `kinds` that any frame travels in, tokens as they arrive without loss and their logits; the
        class ids, and how many of the uncut model's answers are right."""
        stream, right, ids_parts = self.stream, 0, []
        parts: dict[str, list] = {kind: [] for kind in self.patterns if kind in kinds}
        for start in range(0, len(chosen), BATCH):
            images, ids = _load(self.dataset, chosen[start:start + BATCH], stream)
            images = images.to(stream.placement.device, stream.placement.dtype)
            tokens = stream.split.head(images)
            require_finite_answers('the head', tokens=tokens)
            values = tokens.reshape(-1, tokens.shape[2]).float().cpu().numpy()
            for kind, part in parts.items():
                quantiser = stream.quantisers[kind]
                arrived = torch.from_numpy(quantiser.dequantise(quantiser.quantise(values))).view(tokens.shape).to(tokens.device)
                part.append((arrived, stream.split.tail(arrived)))
            ids_parts.append(ids)
            right += _right(stream.split.whole(images), ids)
            bar.update(2 * len(ids))
        joined = {kind: tuple(torch.cat(column) for column in zip(*part, strict=True)) for kind, part in parts.items()}
        return ({kind: tokens for kind, (tokens, _) in joined.items()}, {kind: logits for kind, (_, logits) in joined.items()},
                torch.cat(ids_parts), right)

    def _result(self, state: dict, runs: list[Run], command: str) -> dict:
        c, parameters, judged = self.configuration, self.stream.parameters, len(self.order)
        uncut = state['uncut'] / judged
        table = {name: {f'{rate:g}': _cell([right[index] / judged for index, run in enumerate(self.runs) if run[0] == rate],
                                           uncut, rate == 0) for rate in c.loss}
                 for name, right in state['right'].items()}
        by_rate = {f'{rate:g}': [run for (other, _), run in zip(self.runs, runs, strict=True) if other == rate] for rate in c.loss}
        # Of the links, the stream's own quantisation stands for all: the channel is the same.
        links = {rate: [run.losses[parameters.quantisation] for run in group] for rate, group in by_rate.items()}
        sizes = {kind: _bytes_per_frame(self.stream, kind, c.patch_copies) for kind in self.patterns}
        choices = {rate: {kind: round(count / (judged * len(group)), 4) for kind, count in
                          Counter(kind for run in group for kind in run.kinds).most_common()} for rate, group in by_rate.items()}
        used = {kind for shares in choices.values() for kind in shares}
        return {'model': parameters.model, 'fingerprint': parameters.fingerprint, 'cut': parameters.cut,
                'quantisation': 'adaptive' if self.adaptive else parameters.quantisation, 'choices': choices,
                'packets_per_frame': max(self.patterns[kind].packets for kind in used),
                'patch_copies': {kind: self.patterns[kind].patch_copies for kind in used},
                'bytes_per_frame': max(sizes[kind] for kind in used), 'data': c.data, 'images': judged,
                'pattern': c.pattern, 'burst': c.burst, 'seeds': c.seeds, 'top1_uncut': uncut,
                'top1_lossless': state['lossless'] / judged, 'top1': table,
                'packets_lost': {rate: float(np.mean([1 - float(loss.arrived.float().mean()) for loss in runs]))
                                 for rate, runs in links.items()},
                'frames_unanswerable': {rate: float(np.mean([loss.unanswerable for loss in runs]))
                                        for rate, runs in links.items()},
                'seconds': round(state['seconds'], 1), 'torch': torch.__version__, 'threads': torch.get_num_threads(),
                'device': self.stream.placement.sentence, 'command': command,
                'configuration': {**asdict(c), 'json': Path(c.json).name if c.json else None},
                'identity': self.identity}


@torch.inference_mode()
def recovered_logits(stream: CutModel, method: Recovery, tokens: torch.Tensor, received: torch.Tensor,
                     measured: torch.Tensor, lossless: torch.Tensor | None = None) -> torch.Tensor:
    """Tokens [B, N, D] with masks bool [B, N] and measured rates [B] to logits [B, classes].

    Images that lost equally many tokens go through omission together, since it needs that. An image that lost nothing
    goes to the model's own tail, as on the bridge; `lossless` [B, classes] is what that says, where it is known.
    """
    received, measured = received.to(tokens.device), measured.to(tokens.device)
    logits = torch.empty(len(tokens), stream.parameters.classes, device=tokens.device, dtype=tokens.dtype)
    # Of the patches: prefix tokens are never left out. -1 is a complete image.
    counts = received[:, stream.parameters.prefix_tokens:].sum(1)
    groups = torch.where(received.all(1), -1, counts if isinstance(method, Omission) else 0)
    for group in groups.unique().tolist():
        for chosen in (groups == group).nonzero()[:, 0].split(BATCH):
            if group == -1:
                logits[chosen] = stream.split.tail(tokens[chosen]) if lossless is None else lossless[chosen]
                continue
            mask = received[chosen]
            recovered = method.recover(tokens[chosen] * mask[:, :, None], mask, measured[chosen])  # nothing of a lost token
            logits[chosen] = recovered.logits(stream.split)
    return logits


def _methods(c: RecoveryEvaluation, stream: CutModel) -> tuple[dict[str, Recovery], dict[str, str]]:
    """The methods by name, and of the trained ones a hash of the artifact."""
    cut = stream.parameters.cut
    for name in c.methods or ():
        if name not in (*METHODS, *LEARNED):
            raise ValueError(f'method {name!r} is unknown (expected some of {", ".join((*METHODS, *LEARNED))})')
    paths = {name: artifact_beside(c.model, cut, name, stream.identity.suffix) for name in LEARNED}
    if c.recovery_artifact:
        paths[_kind(c.recovery_artifact)] = Path(c.recovery_artifact).expanduser()
    stills = [name for name in METHODS if name != RecoveryName.MEMORY]      # which is omission where nothing was seen before
    names = c.methods or [*stills, *(name for name, path in paths.items() if path)]
    methods, artifacts = {}, {}
    for name in names:
        path = paths.get(name)
        if name in LEARNED and path is None:
            raise ArtifactError(_missing(c, cut, name))
        try:
            methods[name], _ = choose_recovery(bridge_settings(
                model=c.model, recovery=name, recovery_artifact=None if path is None else str(path)), stream)
        except ArtifactError as error:
            if c.methods or c.recovery_artifact:
                raise
            print(f'method {name} is left out: {error}', flush=True)
            continue
        if path is not None:
            weights = path.with_suffix('.safetensors').read_bytes()
            about = json.dumps([asdict(methods[name].sequence), methods[name].options], sort_keys=True)
            artifacts[name] = hashlib.sha256(about.encode() + weights).hexdigest()[:16]
    return methods, artifacts


def _kind(path: str) -> str:
    """The method that an artifact is of; that it can be read at all is checked where it is loaded."""
    try:
        kind = read_json(Path(path).expanduser()).get('kind')
    except (OSError, ValueError, AttributeError):
        kind = None
    return kind if kind in LEARNED else 'paldn'


def _missing(c: RecoveryEvaluation, cut: int, name: str) -> str:
    folders = artifact_folders(c.model)
    folder = folders[0] if folders else Path('artifacts') / c.model
    weights = f' --checkpoint {c.checkpoint}' if c.checkpoint else ' --pretrained' if c.pretrained else ''
    output = f' --output {folder}' if weights else ''
    return (f'method {name} has no artifact for {c.model} at cut {cut}: {artifact_path(folder, cut, name)} was looked for; '
            f'`evitif train recovery --model {c.model}{weights} --method {name} --cut {cut} --data FOLDER{output}` trains it')


def _load(dataset: ImageDataset, chosen: np.ndarray, stream: CutModel) -> tuple[torch.Tensor, torch.Tensor]:
    samples = [dataset[int(index)] for index in chosen]
    ids = [sample.class_id for sample in samples]
    highest = stream.parameters.classes - 1
    for sample in samples:
        if not 0 <= sample.class_id <= highest:
            raise DatasetError(f'image {sample.name} has class {sample.class_id} ({sample.label!r}), the model knows '
                               f'0 to {highest}: judging needs labelled images of the model\'s classes')
    return torch.cat([stream.preprocessor(sample.image) for sample in samples]), torch.tensor(ids)


def _right(logits: torch.Tensor, ids: torch.Tensor) -> int:
    require_finite_answers('what is judged', logits=logits)
    return int((logits.argmax(1).cpu() == ids).sum())


def _mean_burst(arrived: torch.Tensor) -> float:
    """Mean length of the runs of losses among `arrived` bool [frames, packets] in sending order; NaN without a loss."""
    lost = ~arrived.flatten()
    begins = int((lost[1:] & ~lost[:-1]).sum()) + int(lost[0])
    return int(lost.sum()) / begins if begins else float('nan')


def _bytes_per_frame(stream: CutModel, quantisation: str, patch_copies: int) -> int:
    """UDP payload of a frame's datagrams."""
    parameters = stream.parameters.in_format(quantisation)
    rows = np.zeros((parameters.units, parameters.row_bytes), np.uint8)
    return sum(len(packet) for packet in Packetiser(parameters, patch_copies=patch_copies).packetise(TokenFrame(0, 0, '', rows)))


def _cell(values: list[float], uncut: float, exact: bool) -> dict:
    """Mean top-1, the points lost against the uncut model, and halves of their 95 % intervals over the seeds; None where
    one seed leaves them unknown. The uncut model's part is the same for each seed."""
    mean, interval = float(np.mean(values)), 0.0 if exact else half_interval95(values)
    return {'mean': mean, 'interval95': interval, 'lost': 100 * (uncut - mean),
            'lost_interval95': None if interval is None else 100 * interval, 'runs': values}
