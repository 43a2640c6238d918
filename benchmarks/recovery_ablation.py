"""What each part of PALDN and of its training is worth: `python -m benchmarks.recovery_ablation --model … --data …`.

Every variant is trained with the same seed, images, losses and number of steps, far fewer than the shipped networks get,
and judged on the same losses of the same validation images. So the table says which way a part moves the result, with a
spread over training seeds, and not what a full training reaches. Writes reports/bench/recovery_ablation.json.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from evitif.datasets import open_images
from evitif.files import write_json
from evitif.model.device import mixed_precision
from evitif.options import not_negative_int, positive_int
from evitif.pipeline.cut_model import CutModel
from evitif.progress import Progress
from evitif.recovery import LearnedRecovery, Paldn, Sequence
from evitif.recovery.loss_patterns import PacketLoss
from evitif.settings import SplitSettings
from evitif_lab.evaluation.statistics import half_interval95
from evitif_lab.training.images import Normalise, load_images
from evitif_lab.training.recovery import RecoveryTraining, fit_by_gradient
from evitif_lab.training.token_cache import TokenCache

REPORT = Path('reports/bench/recovery_ablation.json')
CHANNELS = tuple((rate, burst) for burst in (1, 8) for rate in (0.6, 0.8, 0.9))      # what is judged


class MeanEstimate(Paldn):
    """PALDN whose cheap estimate is the mean of the received tokens instead of linear completion."""

    def complete(self, normal: torch.Tensor, received: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count = received.sum(1)[:, None, None].clamp(min=1)
        return (normal.sum(1, keepdim=True) / count).expand_as(normal), torch.ones_like(received, dtype=normal.dtype)


class BlindToRate(Paldn):
    """PALDN that is not told the packet error rate."""

    def estimate(self, normal: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor):
        return super().estimate(normal, received, torch.zeros_like(packet_error_rate))


def variants(sequence: Sequence, budget: float, base: RecoveryTraining) -> dict:
    """Name to (network's constructor, configuration of the training)."""
    sized = Paldn.sized(sequence, budget).options

    def network(kind: type = Paldn, **changes):
        return lambda: kind(sequence, **{**sized, **changes})
    return {
        'as it ships': (network(), base),
        'mean of the received tokens instead of linear completion': (network(MeanEstimate), base),
        'no certainty': (network(certainty=False), base),
        'not told the rate': (network(BlindToRate), base),
        'one block': (network(depth=1), base),
        'half the width': (network(width=max(16, sized['width'] // 8 * 4)), base),
        'the output not distilled': (network(), replace(base, logit_weight=0.0)),
        'the output weighted 1': (network(), replace(base, logit_weight=1.0)),
        'the output weighted 30': (network(), replace(base, logit_weight=30.0)),
        'trained on 20 to 60 % loss only': (network(), replace(base, lowest_loss=0.2, highest_loss=0.6)),
        'trained without bursts': (network(), replace(base, burst_share=0.0)),
        'no moving average of the weights': (network(), replace(base, average_decay=0.0)),
    }


@torch.inference_mode()
def points_lost(network: LearnedRecovery, stream: CutModel, pattern: PacketLoss, tokens: torch.Tensor,
                logits: torch.Tensor, ids: torch.Tensor) -> dict[str, float]:
    """Points of top-1 lost against the tokens without loss, for each rate and burst length."""
    lossless = float((logits.argmax(1) == ids).float().mean())
    lost = {}
    for rate, burst in CHANNELS:
        rates = torch.full((len(ids),), rate)
        received = pattern.received_tokens(pattern.received_packets(rates, burst, torch.Generator().manual_seed(7)))
        right = 0
        for start in range(0, len(ids), 250):
            part = slice(start, start + 250)
            recovered = network(tokens[part].float(), received[part], rates[part])
            right += int((recovered.logits(stream.split).argmax(1) == ids[part]).sum())
        lost[f'{rate:g} burst {burst}'] = 100 * (lossless - right / len(ids))
    return lost


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='python -m benchmarks.recovery_ablation', description=__doc__)
    parser.add_argument('--model', default='artifacts/fashion_mnist')
    parser.add_argument('--data', default='fashion-mnist')
    parser.add_argument('--cut', type=not_negative_int)
    parser.add_argument('--steps', type=positive_int, default=300)
    parser.add_argument('--images', type=positive_int, default=4000, help='training images')
    parser.add_argument('--judged', type=positive_int, default=1500, help='validation images')
    parser.add_argument('--seeds', type=positive_int, default=2)
    parser.add_argument('--only', nargs='+', help='names of variants')
    options = parser.parse_args(arguments)
    stream = CutModel.load(SplitSettings(model=options.model, cut=options.cut, quantisation='int8'))
    split, parameters = stream.split, stream.parameters
    split.module.requires_grad_(False)
    normalise, random = Normalise(stream.preprocessor.data_config), np.random.default_rng(0)
    parts = {}
    for name, count in (('train', options.images), ('test', options.judged)):
        images, ids = load_images(open_images(options.data, name, ranked=True), split.image_size[0])
        chosen = random.permutation(len(images))[:count]
        parts[name] = TokenCache({parameters.cut: split}, images[chosen], normalise, 'cpu', 'bf16'), ids[chosen]
    cache, (judge, ids) = parts['train'][0], parts['test']
    tokens, logits = judge.take(parameters.cut, torch.arange(len(judge)))
    pattern = PacketLoss(parameters, patch_copies=1)
    sequence = Sequence(parameters.grid, parameters.prefix_tokens, parameters.channels)
    base = RecoveryTraining(model=options.model, data=[options.data], steps=options.steps, precision='bf16')
    table = {}
    chosen = {name: value for name, value in variants(sequence, base.budget * split.tail_multiply_adds, base).items()
              if not options.only or name in options.only}
    for name, (build, configuration) in Progress(chosen.items(), desc='variants', unit='variant'):
        runs = []
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            network = build()
            network.fit(cache.take(parameters.cut, torch.arange(min(1000, len(cache))))[0])
            trained, _ = fit_by_gradient(network, split, pattern, cache, parameters.cut, replace(configuration, seed=seed))
            with mixed_precision('cpu', 'bf16'):
                runs.append(points_lost(trained.eval(), stream, pattern, tokens, logits, ids))
        values = {channel: [run[channel] for run in runs] for channel in runs[0]}
        table[name] = {channel: {'mean': float(np.mean(lost)), 'interval95': half_interval95(lost)}
                       for channel, lost in values.items()}
        print(f'{name}: ' + ', '.join(f'{channel}: {cell["mean"]:.2f}' for channel, cell in table[name].items()), flush=True)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    write_json(REPORT, {
        'command': shlex.join(['python', '-m', 'benchmarks.recovery_ablation', *(sys.argv[1:] if arguments is None else arguments)]),
        'model': parameters.model, 'cut': parameters.cut, 'steps': options.steps, 'seeds': options.seeds,
        'images': len(cache), 'judged': len(ids), 'points_lost': table})
    print(f'written to {REPORT}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
