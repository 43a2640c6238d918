"""Train the recovery for a given model and cuts. No labels are used: the lossless tokens and the tail's own output on
them are the target. The model itself is not changed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import torch

from evitif.files import read_json
from evitif.heads import read_head
from evitif.model.device import place
from evitif.model.folder import artifact_path
from evitif.model.model_identity import view_of
from evitif.model.split import SplitModel
from evitif.pipeline.cut_model import CutModel
from evitif.recording import is_recording
from evitif.recovery import LearnedRecovery, Paldn, Recovered, Sequence, load_recovery, save_recovery
from evitif.recovery.paldn import Correction
from evitif.settings import AUTO, SplitSettings
from evitif.vocabulary import Quantisation
from evitif_lab.baselines import LEARNED, sized
from evitif_lab.commands.configuration import LIMITS_HELP, QUANTISATION_HELP, VIEWS_HELP, CutChoice, option
from evitif_lab.commands.options import not_negative, not_negative_int, positive, positive_int, rate, rate_below_one, seed
from evitif_lab.data.identity import digest_of as data_digest
from evitif_lab.loss_patterns import PacketLoss
from evitif_lab.multiply_adds import tail_multiply_adds
from evitif_lab.plain import plain
from evitif_lab.precision import mixed_precision
from evitif_lab.training.checkpoint import Checkpoint
from evitif_lab.training.finished import PLACE, artifact_folder, is_finished
from evitif_lab.training.sequences import Sequences, Videos, recorded_videos
from evitif_lab.training.token_cache import TokenCache
from evitif_lab.training.training_loop import TrainingLoop, train_loop
from evitif_lab.trials.camera_motion import MARGIN
from evitif_lab.trials.closed_form import chance_of, fit_closed_form
from evitif_lab.trials.headed import divergence, with_head
from evitif_lab.trials.images import Normalise, load_views, open_sources

LEARNING_RATES = {'surrogate': 1e-2, 'tuned-tail': 2e-4}    # a single vector, and weights that are trained already
FIT_IMAGES = 1000
MEMORY_SAVED_EVERY = 100    # steps


@dataclass(frozen=True, kw_only=True)
class RecoveryTraining(CutChoice):
    """The configuration of one training; printed at its start and saved with its result."""

    data: list[str] = option(help='fashion-mnist, moving-fashion, or folders of images', nargs='+')
    output: str | None = option(None, "folder of the artifacts (default: the model folder, or the head's)")
    head: str | None = option(None, "the folder of a head, whose answers are to be kept rather than those of the model's own classifier; a "
                              'bridge gets the result by recovery_artifact', metavar='FOLDER')
    method: tuple[str, ...] | list[str] = option(('paldn',), 'paldn (default), surrogate, linear, srcnn, edsr, tuned-tail', nargs='+')
    quantisation: str = option('int8', QUANTISATION_HELP, choices=(AUTO, *Quantisation.values()))
    budget: float = option(0.1, "largest share of the tail's multiply-adds", rate)
    steps: int = option(3000, None, positive_int)
    batch_size: int = option(64, None, positive_int)
    learning_rate: float = option(2e-3, None, positive)
    lowest_loss: float = option(0.05, 'lowest packet error rate to train for', rate_below_one)
    highest_loss: float = option(0.97, 'highest packet error rate to train for', rate_below_one)
    burst_share: float = option(0.4, 'share of the frames that lose packets in bursts, of mean length 2 to 12', rate)
    logit_weight: float = option(10.0, "weight of the divergence of the tail's outputs, beside the tokens' squared error", not_negative)
    average_decay: float = option(0.998, 'of the moving average of the weights, which is what is saved', rate_below_one)
    memory_steps: int = option(0, 'steps in which PALDN learns to use what the bridge remembers, on videos: of a recording its own frames, '
                               'else filmed from the images; 0: remembered tokens are completed linearly', not_negative_int)
    videos: int = option(600, 'of these, of four frames each', positive_int)
    initial: str | None = option(None, 'description (JSON) of a PALDN for the same model and cut: it is kept for frames without a memory, '
                                       'and only the memory is trained', metavar='FILE')
    views: list[int] | None = option(None, VIEWS_HELP, positive_int, nargs='+', metavar='N')
    limits: list[int] | None = option(None, LIMITS_HELP, positive_int, nargs='+', metavar='N')
    seed: int = option(0, None, seed)
    precision: str = option('fp32', 'of the arithmetic; bf16: automatic mixed precision', choices=('fp32', 'bf16'))


def train_recovery(configuration: RecoveryTraining, command: str = '', overwrite: bool = False) -> list[dict]:
    """Train every method at every cut, write `<method>-cut<k>.json` with its weights, and return the descriptions.

    Resumes where it was interrupted; what is finished already, by the same configuration, is not trained again.

    :param overwrite: begin anew, and replace artifacts of another configuration
    :raises ValueError: or one of its kinds (DivergenceError among them), for a model, a method, data or an artifact that cannot be used
    :raises MemoryError: the images do not fit into memory
    """
    return RecoveryPlan(configuration, command, overwrite).train()


class RecoveryPlan:
    """What is to be trained, checked as far as that can be done before an image is read; raises as `train_recovery`."""

    def __init__(self, configuration: RecoveryTraining, command: str = '', overwrite: bool = False):
        c = self.configuration = configuration
        for name in c.method:
            if name not in LEARNED:
                raise ValueError(f'method {name!r} is unknown (expected some of {", ".join(LEARNED)})')
        if c.lowest_loss > c.highest_loss:
            raise ValueError(f'lowest_loss is {c.lowest_loss:g} and highest_loss {c.highest_loss:g}: expected the lower one first')
        place(c.device, c.precision)
        folder = artifact_folder(c.model, c.output or c.head)
        self.streams = {}
        for cut in c.cut or [None]:
            stream = CutModel.load(SplitSettings(model=c.model, checkpoint=c.checkpoint, pretrained=c.pretrained, cut=cut,
                                                  quantisation=c.quantisation, device=c.device, heads=c.head or '', **c.view))
            stream.split.module.requires_grad_(False)
            if c.head is not None:
                stream = with_head(stream, c.head, places=True)
            if not tail_multiply_adds(stream.split):
                raise ValueError(f'cut {stream.parameters.cut} leaves the tail without a block, and a recovery is measured by the blocks: '
                                 f'expected 0 to {stream.split.depth - 1}')
            self.streams[stream.parameters.cut] = stream
        data = [data_digest(dataset) for dataset in open_sources(c.data, c.views, c.limits)]
        self.jobs = [_Job(c, folder, stream, name, command, data, overwrite)
                     for stream in self.streams.values() for name in dict.fromkeys(c.method)]
        for job in self.jobs:
            if job.finished is None:
                job.check()

    def train(self) -> list[dict]:
        """The descriptions of all artifacts; those that are there already are left as they are."""
        c, jobs = self.configuration, [job for job in self.jobs if job.finished is None]
        if jobs:
            first = jobs[0].stream
            normalise = Normalise(first.preprocessor.data_config, c.device)
            config = first.preprocessor.data_config
            cache = None if c.initial is not None else self._tokens(config, normalise, jobs)
            videos = self._videos(config) if any(job.memory_steps for job in jobs) else None
            for job in jobs:
                job.train(cache, videos, normalise)
        return [job.finished for job in self.jobs]

    def _tokens(self, data_config: dict, normalise: Normalise, jobs: list[_Job]) -> TokenCache:
        c = self.configuration
        images = load_views(c.data, data_config, c.views, c.limits, c.seed)
        cuts = sorted({job.stream.parameters.cut for job in jobs})
        cache = TokenCache({cut: self.streams[cut].split for cut in cuts}, images, normalise, c.device, c.precision)
        if not cache.kept:
            print(f'the tokens of {len(images)} images would take {cache.needed_bytes / 2**30:.1f} GiB of memory: they '
                  'are computed at every step instead, which is slower', flush=True)
        return cache

    def _videos(self, data_config: dict) -> Videos:
        """Equally many of each source: of a recording its own frames, else filmed from stills, each image equally often."""
        c = self.configuration
        bags = [source for source in c.data if is_recording(source)]
        others = [source for source in c.data if source not in bags]
        recorded = recorded_videos(bags, math.ceil(c.videos * len(bags) / len(c.data)), data_config)
        larger = {**data_config, 'input_size': (3, *(round(MARGIN * side) for side in data_config['input_size'][1:]))}
        count = c.videos * len(others) // len(c.data)
        if not others:
            return Videos(torch.empty(0, *larger['input_size'], dtype=torch.uint8), recorded)
        stills = load_views(others, larger, None, [math.ceil(count / len(others))] * len(others), c.seed)
        return Videos(stills[torch.arange(count) % len(stills)], recorded)


class _Job:
    """One method at one cut."""

    def __init__(self, c: RecoveryTraining, folder: Path, stream: CutModel, method: str, command: str, data: list[str],
                 overwrite: bool):
        self.c, self.stream, self.method, self.command = c, stream, method, command
        self.cut = stream.parameters.cut
        self.path = artifact_path(folder, self.cut, method, stream.identity.suffix)
        # What another run has to share to be the same training; the other cuts and methods of the command do not matter.
        self.configuration = plain({**asdict(c), 'cut': self.cut, 'method': method})
        self.made_from = {'data': data, **({} if c.head is None else {'head': read_head(c.head).identity[1]})}
        belongs_to = {name: value for name, value in self.configuration.items() if name not in PLACE}
        self.checkpoint = Checkpoint(self.path.with_suffix(''), {**belongs_to, **self.made_from,
                                                                 'fingerprint': stream.parameters.fingerprint}, overwrite)
        # What the memory is added to, once it is trained, and how far the memory is.
        self.still, self.memory_checkpoint = (Checkpoint(self.path.with_suffix('') / name, self.checkpoint.belongs_to, overwrite)
                                              for name in ('still', 'memory'))
        self.memory_steps = c.memory_steps if LEARNED[method] is Paldn else 0
        self.finished = self._finished(overwrite)
        if c.initial is not None and not self.memory_steps:
            raise ValueError(f'initial is given, but method is {method} and memory_steps {c.memory_steps}: expected paldn alone, and '
                             'at least one step')

    def check(self) -> None:
        """Refuse now what the training would be refused for: a checkpoint of another one, or an initial PALDN that does not fit."""
        for checkpoint in (self.still, self.memory_checkpoint, self.checkpoint):
            checkpoint.load()
        if self.c.initial is not None:
            self._initial()

    def _initial(self) -> Paldn:
        network, description = load_recovery(str(self.c.initial), self.stream.identity, self.stream.split)
        if not isinstance(network, Paldn):
            raise ValueError(f'initial {self.c.initial} is of the kind {description["kind"]}: expected a paldn')
        return network

    def _finished(self, overwrite: bool) -> dict | None:
        if not self.path.is_file():
            return None
        try:
            _, description = load_recovery(self.path, self.stream.parameters.fingerprint, self.stream.split)
        except ValueError as error:     # of no use to anyone
            print(f'{self.path} is replaced: {error}', flush=True)
            return None
        there = is_finished(self.path, description.get('made_by', {}), self.configuration, self.made_from, overwrite)
        return description if there else None

    def train(self, cache: TokenCache | None, videos: Videos | None, normalise: Normalise) -> None:
        """:param cache: None where the training begins with a PALDN that is there"""
        c, split = self.c, self.stream.split
        torch.manual_seed(c.seed)
        pattern, figures = PacketLoss(self.stream.parameters, patch_copies=1), {}
        if cache is None:
            network = self._initial().to(c.device)
        else:
            network = self._network(cache)
            if (trained := self.still.restore({'network': network})) is not None:
                figures = trained['figures']
            else:
                network, figures = fit_by_gradient(network, split, pattern, cache, self.cut, c, self.checkpoint)
                if self.memory_steps:
                    self.still.save({'network': network.state_dict(), 'figures': figures})
        if self.memory_steps and isinstance(network, Paldn):
            assert videos is not None
            sequences = Sequences(split, videos, normalise, c.device, c.precision, c.seed)
            network, found = fit_memory(network, split, pattern, sequences, c, self.memory_steps, self.memory_checkpoint)
            figures = {**figures, **found}
        self.finished = self._save(network, c.videos if cache is None else len(cache), figures)

    def _network(self, cache: TokenCache) -> LearnedRecovery:
        split, parameters = self.stream.split, self.stream.parameters
        sequence = Sequence(parameters.grid, parameters.prefix_tokens, parameters.channels)
        network = sized(LEARNED[self.method], sequence, self.c.budget * tail_multiply_adds(split))
        if network.options.get('certainty') and not split.takes_key_bias:     # the bridge would refuse it
            network = type(network)(sequence, **{**network.options, 'certainty': False})
        network.attach(split)
        chosen = torch.randperm(len(cache), generator=torch.Generator().manual_seed(self.c.seed))[:FIT_IMAGES]
        fit_closed_form(network.to(self.c.device), cache.take(self.cut, chosen)[0])
        return network

    def _save(self, network: LearnedRecovery, images: int, figures: dict) -> dict:
        c, parameters = self.c, self.stream.parameters
        description = {
            'model': parameters.model, 'fingerprint': parameters.fingerprint, 'cut': parameters.cut,
            **view_of(self.stream.preprocessor.data_config),
            'loss_range': [c.lowest_loss, c.highest_loss], 'data': c.data, 'images': images, 'seed': c.seed,
            'figures': {**figures,
                        'parameters': sum(parameter.numel() for parameter in network.parameters()),
                        'multiply_adds': network.multiply_adds(),
                        'share_of_tail_multiply_adds':
                            round(network.multiply_adds() / tail_multiply_adds(self.stream.split), 4)},
            'made_by': {'command': self.command, 'configuration': self.configuration, 'made_from': self.made_from,
                        'torch': torch.__version__}}
        if c.initial is not None:       # how the part without a memory was made
            before = read_json(c.initial)
            description['initial'] = before.get('initial', {name: before.get(name) for name in ('data', 'images', 'figures', 'made_by')})
        saved = save_recovery(self.path, network, description)
        for checkpoint in (self.still, self.memory_checkpoint, self.checkpoint):
            checkpoint.remove()
        return saved


def fit_by_gradient(network: LearnedRecovery, split: SplitModel, pattern: PacketLoss, cache: TokenCache, cut: int,
                    c: RecoveryTraining, checkpoint: Checkpoint | None = None) -> tuple[LearnedRecovery, dict]:
    """Train `network`, which `fit` has seen already, and return the moving average of it with the last losses.

    A network without parameters has its closed form already and is returned as it is.
    """
    network.to(c.device).train()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not parameters:
        return network, {}
    loop = TrainingLoop(c.steps, LEARNING_RATES.get(network.name, c.learning_rate), weight_decay=0.01, warmup=100,
                      average_decay=c.average_decay, save_every=500)
    trained, losses, seconds = train_loop(
        loop, network, lambda step: recovery_losses(step, cache, cut, network, split, pattern, c),
        lambda losses: losses['features'] + c.logit_weight * losses['divergence'], [parameters], f'{network.name} cut {cut}',
        checkpoint)
    return trained, {**{f'training_{name}': value for name, value in losses.items()}, 'seconds': round(seconds, 1)}


def recovery_losses(step: int, cache: TokenCache, cut: int, network: LearnedRecovery, split: SplitModel, pattern: PacketLoss,
            c: RecoveryTraining) -> dict[str, torch.Tensor]:
    """The squared error of the normalised tokens at lost places, and the divergence of the tail's outputs (nats)."""
    generator = torch.Generator().manual_seed(c.seed * 1_000_003 + step)
    tokens, target = cache.take(cut, torch.randint(0, len(cache), (c.batch_size,), generator=generator))
    received, rates = draw_losses(pattern, c, generator)
    received, rates = received.to(c.device), rates.to(c.device)
    with mixed_precision(c.device, c.precision):
        recovered = network(tokens, received, rates)
        logits = recovered.logits(split)
    return _losses(network, recovered, tokens, received, logits, target)


def _losses(network: LearnedRecovery, recovered: Recovered, tokens: torch.Tensor, received: torch.Tensor, logits: torch.Tensor,
            target: torch.Tensor) -> dict[str, torch.Tensor]:
    error = ((recovered.tokens.float() - tokens) / network.scale).square().mean(2)      # zero at received places
    return {'features': (error.sum(1) / (~received).sum(1).clamp(min=1)).mean(),
            'divergence': divergence(logits, target)}


def fit_memory(network: Paldn, split: SplitModel, pattern: PacketLoss, videos: Sequences, c: RecoveryTraining,
               steps: int, checkpoint: Checkpoint | None = None) -> tuple[Paldn, dict]:
    """Train the part of a PALDN that sees what is remembered; the other one stays as it is, bit for bit. Returns it and the last losses."""
    network = network.learn_to_remember().to(c.device).train()
    moving = network.moving
    assert moving is not None
    network.chance.fill_(chance_of(videos.normal_patches(network)))
    loop = TrainingLoop(steps, c.learning_rate / 2, weight_decay=0.01, warmup=50, average_decay=c.average_decay,
                        save_every=MEMORY_SAVED_EVERY)
    trained, losses, seconds = train_loop(
        loop, moving, lambda step: memory_losses(step, videos, network, split, pattern, c),
        lambda losses: losses['features'] + c.logit_weight * losses['divergence'], [list(moving.parameters())],
        f'{network.name} with a memory', checkpoint)
    network.moving = cast(Correction, trained)
    return network, {**{f'training_memory_{name}': value for name, value in losses.items()}, 'memory_seconds': round(seconds, 1)}


def memory_losses(step: int, videos: Sequences, network: Paldn, split: SplitModel, pattern: PacketLoss,
                  c: RecoveryTraining) -> dict[str, torch.Tensor]:
    """As `recovery_losses`, of frames with a past."""
    generator = torch.Generator().manual_seed(c.seed * 1_000_003 + step)
    received, rates, measured = _losses_of_frames(pattern, c, generator)
    now = videos.draw(c.batch_size, pattern, rates, received, network.mean.cpu(), network.scale.cpu(), generator)
    with mixed_precision(c.device, c.precision):
        recovered = network(now.tokens, now.received, measured.to(c.device), now.memory)
        logits = recovered.logits(split)
    return _losses(network, recovered, now.tokens, now.received, logits, now.target)


def draw_losses(pattern: PacketLoss, c: RecoveryTraining, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks of received tokens [B, N], independent and in bursts, and the rates [B] as a link would have measured them."""
    received, _, measured = _losses_of_frames(pattern, c, generator)
    return received, measured


def _losses_of_frames(pattern: PacketLoss, c: RecoveryTraining,
                      generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rates = c.lowest_loss + (c.highest_loss - c.lowest_loss) * torch.rand(c.batch_size, generator=generator)
    bursts = int(c.batch_size * c.burst_share)
    length = 2 + 10 * float(torch.rand(1, generator=generator))
    arrived = torch.cat((pattern.received_packets(rates[:bursts], length, generator),
                         pattern.received_packets(rates[bursts:], 1, generator)))
    measured = (rates + 0.05 * torch.randn(len(rates), generator=generator)).clamp(0, 1)
    return pattern.received_tokens(arrived), rates, measured
