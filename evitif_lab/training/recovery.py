"""Train the recovery for a given model and cuts. No labels are used: the lossless tokens and the tail's own output on
them are the target. The model itself is not changed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn import functional

from evitif.model.device import place
from evitif.model.folder import artifact_path
from evitif.model.split import SplitModel
from evitif.pipeline.cut_model import CutModel
from evitif.recovery import LearnedRecovery, Sequence, load_recovery, save_recovery
from evitif.settings import AUTO, SplitSettings
from evitif.vocabulary import Quantisation
from evitif_lab.baselines import LEARNED, sized
from evitif_lab.commands.configuration import LIMITS_HELP, QUANTISATION_HELP, VIEWS_HELP, CutChoice, option
from evitif_lab.commands.options import not_negative, positive, positive_int, rate, rate_below_one, seed
from evitif_lab.data.identity import digest_of as data_digest
from evitif_lab.loss_patterns import PacketLoss
from evitif_lab.multiply_adds import tail_multiply_adds
from evitif_lab.plain import plain
from evitif_lab.precision import mixed_precision
from evitif_lab.training.checkpoint import Checkpoint
from evitif_lab.training.closed_form import fit_closed_form
from evitif_lab.training.finished import PLACE, artifact_folder, is_finished
from evitif_lab.training.token_cache import TokenCache
from evitif_lab.training.training_loop import TrainingLoop, train_loop
from evitif_lab.trials.images import Normalise, load_views, open_sources

LEARNING_RATES = {'surrogate': 1e-2, 'tuned-tail': 2e-4}    # a single vector, and weights that are trained already
FIT_IMAGES = 1000


@dataclass(frozen=True, kw_only=True)
class RecoveryTraining(CutChoice):
    """The configuration of one training; printed at its start and saved with its result."""

    data: list[str] = option(help='fashion-mnist, moving-fashion, or folders of images', nargs='+')
    output: str | None = option(None, 'folder of the artifacts (default: the model folder)')
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
        folder = artifact_folder(c.model, c.output)
        self.streams = {}
        for cut in c.cut or [None]:
            stream = CutModel.load(SplitSettings(model=c.model, checkpoint=c.checkpoint, pretrained=c.pretrained, cut=cut,
                                                  quantisation=c.quantisation, device=c.device))
            stream.split.module.requires_grad_(False)
            if not tail_multiply_adds(stream.split):
                raise ValueError(f'cut {stream.parameters.cut} leaves the tail without a block, and a recovery is measured by the blocks: '
                                 f'expected 0 to {stream.split.depth - 1}')
            self.streams[stream.parameters.cut] = stream
        data = [data_digest(dataset) for dataset in open_sources(c.data, c.views, c.limits)]
        self.jobs = [_Job(c, folder, stream, name, command, data, overwrite)
                     for stream in self.streams.values() for name in dict.fromkeys(c.method)]
        for job in self.jobs:
            if job.finished is None:
                job.checkpoint.load()       # one of another training is refused now

    def train(self) -> list[dict]:
        """The descriptions of all artifacts; those that are there already are left as they are."""
        c, jobs = self.configuration, [job for job in self.jobs if job.finished is None]
        if jobs:
            first = jobs[0].stream
            images = load_views(c.data, first.split.image_size[0], c.views, c.limits, c.seed)
            normalise = Normalise(first.preprocessor.data_config, c.device)
            cuts = sorted({job.stream.parameters.cut for job in jobs})
            cache = TokenCache({cut: self.streams[cut].split for cut in cuts}, images, normalise, c.device, c.precision)
            if not cache.kept:
                print(f'the tokens of {len(images)} images would take {cache.needed_bytes / 2**30:.1f} GiB of memory: they '
                      'are computed at every step instead, which is slower', flush=True)
            for job in jobs:
                job.train(cache)
        return [job.finished for job in self.jobs]


class _Job:
    """One method at one cut."""

    def __init__(self, c: RecoveryTraining, folder: Path, stream: CutModel, method: str, command: str, data: list[str],
                 overwrite: bool):
        self.c, self.stream, self.method, self.command = c, stream, method, command
        self.cut = stream.parameters.cut
        self.path = artifact_path(folder, self.cut, method)
        # What another run has to share to be the same training; the other cuts and methods of the command do not matter.
        self.configuration = plain({**asdict(c), 'cut': self.cut, 'method': method})
        self.made_from = {'data': data}
        belongs_to = {name: value for name, value in self.configuration.items() if name not in PLACE}
        self.checkpoint = Checkpoint(self.path.with_suffix(''), {**belongs_to, **self.made_from,
                                                                 'fingerprint': stream.parameters.fingerprint}, overwrite)
        self.finished = self._finished(overwrite)

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

    def train(self, cache: TokenCache) -> None:
        c, split = self.c, self.stream.split
        torch.manual_seed(c.seed)
        network = self._network(cache)
        pattern = PacketLoss(self.stream.parameters, patch_copies=1)
        trained, figures = fit_by_gradient(network, split, pattern, cache, self.cut, c, self.checkpoint)
        self.finished = self._save(trained, len(cache), figures)

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
            'loss_range': [c.lowest_loss, c.highest_loss], 'data': c.data, 'images': images, 'seed': c.seed,
            'figures': {**figures,
                        'parameters': sum(parameter.numel() for parameter in network.parameters()),
                        'multiply_adds': network.multiply_adds(),
                        'share_of_tail_multiply_adds':
                            round(network.multiply_adds() / tail_multiply_adds(self.stream.split), 4)},
            'made_by': {'command': self.command, 'configuration': self.configuration, 'made_from': self.made_from,
                        'torch': torch.__version__}}
        saved = save_recovery(self.path, network, description)
        self.checkpoint.remove()
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
    error = ((recovered.tokens.float() - tokens) / network.scale).square().mean(2)      # zero at received places
    return {'features': (error.sum(1) / (~received).sum(1).clamp(min=1)).mean(),
            'divergence': functional.kl_div(logits.float().log_softmax(1), target.log_softmax(1), log_target=True,
                                            reduction='batchmean')}


def draw_losses(pattern: PacketLoss, c: RecoveryTraining, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks of received tokens [B, N], independent and in bursts, and the rates [B] as a link would have measured them."""
    rates = c.lowest_loss + (c.highest_loss - c.lowest_loss) * torch.rand(c.batch_size, generator=generator)
    bursts = int(c.batch_size * c.burst_share)
    length = 2 + 10 * float(torch.rand(1, generator=generator))
    arrived = torch.cat((pattern.received_packets(rates[:bursts], length, generator),
                         pattern.received_packets(rates[bursts:], 1, generator)))
    measured = (rates + 0.05 * torch.randn(len(rates), generator=generator)).clamp(0, 1)
    return pattern.received_tokens(arrived), measured
