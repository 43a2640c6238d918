"""Train a PALDN for a given model and cut. No labels are used: the lossless tokens and the tail's own output on them
are the target. The model itself is not changed."""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn import functional
from tqdm import tqdm

from evitif.datasets import open_images
from evitif.model.folder import find_model_folder
from evitif.model.split import SplitModel
from evitif.pipeline.configuration import ModelConfig
from evitif.pipeline.split_stream import SplitStream
from evitif.recovery.artifact import artifact_path, load_paldn, save_paldn
from evitif.recovery.loss_patterns import PacketLoss
from evitif.recovery.paldn import Paldn, PaldnShape
from evitif.training.checkpoint import Checkpoint
from evitif.training.images import MEMORY_LIMIT_BYTES, Normalise, load_images, shift_and_flip

BATCH = 250  # images at once where nothing is trained


@dataclass(frozen=True)
class RecoveryTraining:
    """The configuration of one training; printed at its start and saved with its result."""

    model: str
    data: str
    output: str | None = None         # folder of the artifact; None: the model folder
    checkpoint: str | None = None
    pretrained: bool = False
    cut: int | None = None
    quantisation: str = 'int8'        # decides how many tokens share a packet
    initial: str | None = None        # description (JSON) of an artifact for the same model and cut to go on from
    width: int | None = None          # of PALDN; None: a third of the model's channels, in multiples of 8
    depth: int = 2
    steps: int = 3000
    batch_size: int = 128
    learning_rate: float = 2e-3
    lowest_loss: float = 0.05
    highest_loss: float = 0.95
    burst_share: float = 0.3          # of the frames lose packets in bursts, mean length 2 to 8
    logit_weight: float = 10.0        # of the divergence of the tail's outputs, against the tokens' squared error
    shift_pixels: int = 0             # 0: the images as they are, whose tokens are then computed once and kept
    seed: int = 0
    device: str = 'cpu'


def train_recovery(configuration: RecoveryTraining, command: str = '') -> dict:
    """Train, write `paldn-cut<k>.json` with its weights, and return the description. Resumes where interrupted."""
    c = configuration
    folder = find_model_folder(c.model) if c.output is None else Path(c.output)
    if folder is None and os.sep not in c.model:
        raise ValueError(f'{c.model!r} is not a model folder: expected --output, a folder for the artifact')
    stream = SplitStream.load(ModelConfig(model=c.model, checkpoint=c.checkpoint, pretrained=c.pretrained, cut=c.cut,
                                          quantisation=c.quantisation, device=c.device))
    split, parameters = stream.split, stream.parameters
    split.module.requires_grad_(False)
    dataset = open_images(c.data, 'train')
    images, _ = load_images(dataset, split.image_size[0], title='training images')
    normalise = Normalise(stream.preprocessor.data_config, c.device)
    loss_pattern = PacketLoss(parameters)
    width = c.width or max(16, parameters.channels // 3 // 8 * 8)
    torch.manual_seed(c.seed)
    earlier = None
    if c.initial is None:
        network = Paldn(PaldnShape(parameters.tokens, parameters.prefix_tokens, parameters.channels, width, c.depth))
        _normalise_by(network, split, images, normalise, c)
    else:
        network, description = load_paldn(c.initial, parameters.fingerprint, parameters.cut)
        earlier = description.get('made_by')
    network.to(c.device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=c.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / c.steps)))
    checkpoint = Checkpoint(folder / f'paldn-cut{parameters.cut}', asdict(c))
    state = checkpoint.load()
    began_at, spent = 0, 0.0
    if state is not None:
        network.load_state_dict(state['network'])
        optimiser.load_state_dict(state['optimiser'])
        schedule.load_state_dict(state['schedule'])
        began_at, spent = state['step'], state['seconds']
    began = time.monotonic()
    targets = _Targets(split, images, normalise, c)
    smooth: dict[str, float] = {}
    bar = tqdm(range(began_at, c.steps), desc=f'PALDN cut {parameters.cut}', unit='step', initial=began_at,
               total=c.steps, mininterval=1)
    for step in bar:
        generator = torch.Generator().manual_seed(c.seed * 1_000_003 + step)
        tokens, target = targets.draw(generator)
        received, rates = _losses(loss_pattern, c, generator)
        received, rates = received.to(c.device), rates.to(c.device)
        recovered = network(tokens, received, rates)
        error = ((recovered - tokens) / network.scale).square().mean(2)       # zero at received places
        features = (error.sum(1) / (~received).sum(1).clamp(min=1)).mean()
        divergence = functional.kl_div(split.tail(recovered).log_softmax(1), target.log_softmax(1), log_target=True,
                                       reduction='batchmean')
        optimiser.zero_grad(set_to_none=True)
        (features + c.logit_weight * divergence).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        for name, value in (('features', features.item()), ('divergence', divergence.item())):
            smooth[name] = value if name not in smooth else 0.98 * smooth[name] + 0.02 * value
        bar.set_postfix({name: f'{value:.4f}' for name, value in smooth.items()})
        if (step + 1) % 500 == 0:
            checkpoint.save({'network': network.state_dict(), 'optimiser': optimiser.state_dict(),
                             'schedule': schedule.state_dict(), 'step': step + 1,
                             'seconds': spent + time.monotonic() - began})
    tail_blocks = split.depth - parameters.cut
    tail_multiply_adds = tail_blocks * (12 * parameters.tokens * parameters.channels**2
                                        + 2 * parameters.tokens**2 * parameters.channels)
    description = {
        'model': parameters.model, 'fingerprint': parameters.fingerprint, 'cut': parameters.cut,
        'loss_range': [c.lowest_loss, c.highest_loss], 'data': c.data, 'images': len(images), 'seed': c.seed,
        'figures': {'features_loss': smooth.get('features'), 'divergence': smooth.get('divergence'),
                    'parameters': sum(parameter.numel() for parameter in network.parameters()),
                    'multiply_adds': network.multiply_adds(),
                    'share_of_tail_multiply_adds': round(network.multiply_adds() / max(1, tail_multiply_adds), 4),
                    'seconds': round(spent + time.monotonic() - began, 1)},
        'made_by': {'command': command, 'configuration': asdict(c), 'torch': torch.__version__,
                    **({} if earlier is None else {'initial_made_by': earlier})}}
    save_paldn(artifact_path(folder, parameters.cut), network, description)
    checkpoint.remove()
    return description


class _Targets:
    """Lossless tokens [B, N, D] and the tail's logits on them [B, classes], for images drawn at random.

    Without augmentation they are computed once, as far as MEMORY_LIMIT_BYTES goes, and kept in half precision.
    """

    def __init__(self, split: SplitModel, images: torch.Tensor, normalise: Normalise, c: RecoveryTraining):
        self._split, self._images, self._normalise, self._c = split, images, normalise, c
        self._tokens: torch.Tensor | None = None
        needed = 2 * len(images) * split.tokens * split.channels
        if c.shift_pixels or needed > MEMORY_LIMIT_BYTES:
            return
        tokens, logits = [], []
        for part in tqdm(images.split(BATCH), desc='tokens of the training images', unit='batch', mininterval=1):
            values = self._compute(part.to(c.device))
            tokens.append(values[0].half().cpu())
            logits.append(values[1].cpu())
        self._tokens, self._logits = torch.cat(tokens), torch.cat(logits)

    def draw(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = torch.randint(0, len(self._images), (self._c.batch_size,), generator=generator)
        if self._tokens is not None:
            return self._tokens[chosen].to(self._c.device).float(), self._logits[chosen].to(self._c.device)
        batch = self._images[chosen].to(self._c.device)
        if self._c.shift_pixels:
            batch = shift_and_flip(batch, self._c.shift_pixels, generator)
        return self._compute(batch)

    @torch.no_grad()
    def _compute(self, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = self._split.head(self._normalise(batch))
        return tokens, self._split.tail(tokens)


def _losses(pattern: PacketLoss, c: RecoveryTraining, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks of received tokens [B, N] and the rates [B] that they were drawn with, independent and in bursts."""
    rates = c.lowest_loss + (c.highest_loss - c.lowest_loss) * torch.rand(c.batch_size, generator=generator)
    bursts = int(c.batch_size * c.burst_share)
    length = 2 + 6 * float(torch.rand(1, generator=generator))
    arrived = torch.cat((pattern.received_packets(rates[:bursts], length, generator),
                         pattern.received_packets(rates[bursts:], 1, generator)))
    return pattern.received_tokens(arrived), rates


@torch.no_grad()
def _normalise_by(network: Paldn, split, images: torch.Tensor, normalise: Normalise, c: RecoveryTraining) -> None:
    """Set the mean of each position and the scale of each channel from up to 1,000 training images."""
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(c.seed))[:1000]
    tokens = torch.cat([split.head(normalise(part.to(c.device))).float().cpu() for part in images[chosen].split(100)])
    network.mean.copy_(tokens.mean(0))
    network.scale.copy_((tokens - tokens.mean(0)).square().mean((0, 1)).sqrt().clamp(min=1e-4))
