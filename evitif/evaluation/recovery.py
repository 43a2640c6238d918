"""Accuracy over packet loss: real quantisation, the real packetiser's packets, every method on the same losses."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from evitif.datasets import DatasetError, ImageDataset, open_images
from evitif.pipeline.configuration import BridgeRuntimeConfig, ModelConfig
from evitif.pipeline.split_stream import SplitStream
from evitif.pipeline.tail_pipeline import choose_recovery
from evitif.recovery import METHODS, Recovery
from evitif.recovery.artifact import artifact_beside
from evitif.recovery.loss_patterns import PacketLoss

BATCH = 100


@dataclass(frozen=True)
class RecoveryEvaluation:
    """What to measure; saved with the result."""

    model: str
    data: str
    checkpoint: str | None = None
    pretrained: bool = False
    cut: int | None = None
    quantisation: str = 'int8'
    device: str = 'cpu'
    loss: tuple[float, ...] | list[float] = (0.0, 0.3, 0.6)
    burst: float = 1.0
    methods: tuple[str, ...] | list[str] | None = None  # None: the baselines, and paldn where there is an artifact
    recovery_artifact: str | None = None                # of paldn; None: the one in the model folder
    images: int | None = None
    seeds: int = 1
    json: str | None = None


def evaluate_recovery(configuration: RecoveryEvaluation, command: str = '') -> dict:
    """Measure top-1 of every method at every loss rate and return, and write where asked, the figures.

    Raises ValueError or one of its kinds for a method, a model or data that cannot be used.
    """
    c = configuration
    stream = SplitStream.load(ModelConfig(model=c.model, checkpoint=c.checkpoint, pretrained=c.pretrained, cut=c.cut,
                                          quantisation=c.quantisation, device=c.device))
    methods = _methods(c, stream)
    dataset = open_images(c.data, 'test')
    order = np.random.default_rng(0).permutation(len(dataset))[:c.images]  # a part is drawn over all classes
    pattern = PacketLoss(stream.parameters)
    runs = [(rate, seed) for rate in c.loss for seed in range(c.seeds if rate > 0 else 1)]
    right = {(name, rate, seed): 0 for name in methods for rate, seed in runs}
    right_uncut = judged = 0
    for start in tqdm(range(0, len(order), BATCH), desc='images', unit='batch', mininterval=1):
        images, ids = _load(dataset, order[start:start + BATCH], stream)
        uncut, tokens = _head(stream, images)
        right_uncut += int((uncut.argmax(1).cpu() == ids).sum())
        judged += len(ids)
        for rate, seed in runs:
            generator = torch.Generator().manual_seed(1_000_003 * seed + start)
            rates = torch.full((len(ids),), rate)
            received = torch.ones(len(ids), stream.parameters.tokens, dtype=torch.bool)
            if rate > 0:
                received = pattern.received_tokens(pattern.received_packets(rates, c.burst, generator))
            for name, method in methods.items():
                logits = recovered_logits(stream, method, tokens, received, rates)
                right[name, rate, seed] += int((logits.argmax(1).cpu() == ids).sum())
    table = {name: {f'{rate:g}': _spread([right[name, rate, seed] / judged for r, seed in runs if r == rate])
                    for rate in c.loss} for name in methods}
    result = {'model': stream.parameters.model, 'fingerprint': stream.parameters.fingerprint,
              'cut': stream.parameters.cut, 'quantisation': c.quantisation, 'packets_per_frame': pattern.packets,
              'data': c.data, 'images': judged, 'burst': c.burst, 'seeds': c.seeds, 'top1_uncut': right_uncut / judged,
              'top1': table, 'command': command, 'configuration': asdict(c)}
    if c.json:
        Path(c.json).parent.mkdir(parents=True, exist_ok=True)
        Path(c.json).write_text(json.dumps(result, indent=2) + '\n')
    return result


@torch.inference_mode()
def recovered_logits(stream: SplitStream, method: Recovery, tokens: torch.Tensor, received: torch.Tensor,
                     rates: torch.Tensor) -> torch.Tensor:
    """Tokens [B, N, D] with masks bool [B, N] and rates [B] to logits [B, classes].

    Images that lost equally many tokens go through together, since omission needs that.
    """
    received, rates = received.to(tokens.device), rates.to(tokens.device)
    zeroed = tokens * received[:, :, None]  # nothing of a lost token reaches the method
    counts = received[:, stream.parameters.prefix_tokens:].sum(1)
    logits = torch.empty(len(tokens), stream.parameters.classes, device=tokens.device)
    alone = method.name != 'omission'
    for count in counts.unique() if not alone else counts[:1]:
        chosen = torch.ones_like(counts, dtype=torch.bool) if alone else counts == count
        recovered = method.recover(zeroed[chosen], received[chosen], rates[chosen])
        logits[chosen] = stream.split.tail(recovered.tokens, recovered.kept)
    return logits


def markdown(result: dict) -> str:
    """The figures as a table in Markdown: one line a method, one column a loss rate, top-1 in percent."""
    rates = list(next(iter(result['top1'].values())))
    lines = [f'{result["model"]}, cut {result["cut"]}, {result["quantisation"]}, {result["images"]} images of '
             f'{result["data"]}, {result["packets_per_frame"]} packets a frame, mean burst {result["burst"]:g}, '
             f'{result["seeds"]} seeds; uncut model: {100 * result["top1_uncut"]:.2f} %', '',
             '| method | ' + ' | '.join(f'{100 * float(rate):g} % loss' for rate in rates) + ' |',
             '| --- |' + ' ---: |' * len(rates)]
    for name, row in result['top1'].items():
        cells = [f'{100 * cell["mean"]:.2f}' + (f' ± {100 * cell["interval95"]:.2f}' if cell['interval95'] else '')
                 for cell in row.values()]
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def _methods(c: RecoveryEvaluation, stream: SplitStream) -> dict[str, Recovery]:
    names = c.methods
    if names is None:
        trained = c.recovery_artifact or artifact_beside(c.model, stream.parameters.cut)
        names = [*METHODS, *(['paldn'] if trained else [])]
    known = (*METHODS, 'paldn')
    for name in names:
        if name not in known:
            raise ValueError(f'method {name!r} is unknown (expected some of {", ".join(known)})')
    artifacts = {'paldn': c.recovery_artifact}
    return {name: choose_recovery(BridgeRuntimeConfig(model=c.model, recovery=name,
                                                      recovery_artifact=artifacts.get(name)), stream)[0]
            for name in names}


def _load(dataset: ImageDataset, chosen: np.ndarray, stream: SplitStream) -> tuple[torch.Tensor, torch.Tensor]:
    samples = [dataset[int(index)] for index in chosen]
    ids = [sample.class_id for sample in samples]
    highest = stream.parameters.classes - 1
    for sample in samples:
        if not 0 <= sample.class_id <= highest:
            raise DatasetError(f'image {sample.name} has class {sample.class_id} ({sample.label!r}), the model knows '
                               f'0 to {highest}: judging needs labelled images of the model\'s classes')
    return torch.cat([stream.preprocessor(sample.image) for sample in samples]), torch.tensor(ids)


@torch.inference_mode()
def _head(stream: SplitStream, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the uncut model, and the tokens as they arrive without loss: quantised and dequantised."""
    images = images.to(stream.placement.device, stream.placement.dtype)
    tokens = stream.split.head(images)
    rows = stream.quantiser.quantise(tokens.reshape(-1, tokens.shape[2]).float().cpu().numpy())
    arrived = torch.from_numpy(stream.quantiser.dequantise(rows)).view(tokens.shape).to(tokens.device)
    return stream.split.whole(images), arrived


def _spread(values: list[float]) -> dict[str, float]:
    """Mean, and half of the 95 % interval of the mean by Student's t (0 for one run)."""
    if len(values) < 2:
        return {'mean': values[0], 'interval95': 0.0}
    quantile = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
    t = quantile.get(len(values), 1.96 + 3 / len(values))
    return {'mean': float(np.mean(values)), 'interval95': float(t * np.std(values, ddof=1) / len(values)**0.5)}
