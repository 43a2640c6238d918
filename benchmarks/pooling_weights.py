"""What a model without class token gains when estimated tokens weigh less in its mean too, and not in attention alone.

Top-1 of a shipped model with mean pooling and its PALDN, either way, over the same images, int8 tokens and losses.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.part import ROOT, command
from evitif.datasets import open_images
from evitif.files import write_json
from evitif.model.folder import artifact_path
from evitif.pipeline.cut_model import CutModel
from evitif.recovery import Recovered, load_recovery
from evitif.settings import SplitSettings
from evitif_lab.commands.progress import Progress
from evitif_lab.loss_patterns import PacketLoss

TITLE = 'Weights of estimated tokens in a mean'
MODEL, DATA, CUTS, IMAGES, SEED = 'artifacts/cifar10_mean_pooling', 'data/cifar10', (2, 4, 6), 1000, 0
RATES, BATCH = (0.3, 0.6, 0.8, 0.9), 50


@torch.inference_mode()
def measure(cut: int) -> dict[str, dict]:
    """By rate, how many answers are right of IMAGES, with either way of weighing, and how many differ."""
    stream = CutModel.load(SplitSettings(model=MODEL, cut=cut, quantisation='int8'))
    split, quantiser = stream.split, stream.quantiser
    network, _ = load_recovery(artifact_path(MODEL, cut), stream.parameters.fingerprint, split)
    dataset = open_images(DATA, 'test', class_names=stream.class_names)
    samples = [dataset[int(index)] for index in np.random.default_rng(0).permutation(len(dataset))[:IMAGES]]
    ids = torch.tensor([sample.class_id for sample in samples])
    heads = (stream.head(stream.preprocessor(sample.image))[0].numpy() for sample in Progress(samples, desc=f'heads, cut {cut}'))
    tokens = torch.from_numpy(np.stack([quantiser.dequantise(quantiser.quantise(values)) for values in heads]))
    pattern, counts = PacketLoss(stream.parameters, patch_copies=1), {}
    for rate in RATES:
        loss = pattern.run(torch.full((len(ids),), rate), 1, torch.Generator().manual_seed(SEED))
        received = pattern.received_tokens(loss.arrived)
        answers = []
        for part in range(0, len(ids), BATCH):
            chosen = slice(part, part + BATCH)
            recovered = network.recover(tokens[chosen], received[chosen], loss.measured[chosen])
            answers.append(torch.stack((_attention_alone(split, recovered).argmax(1), recovered.logits(split).argmax(1))))
        alone, pooled = torch.cat(answers, 1)
        counts[str(rate)] = {'attention_alone': int((alone == ids).sum()), 'pooling_too': int((pooled == ids).sum()),
                             'other_answers': int((alone != pooled).sum())}
    return counts


def _attention_alone(split, recovered: Recovered) -> torch.Tensor:
    return split.trunk.classify(split.trunk.run(recovered.tokens, split.cut, split.depth, key_bias=recovered.key_bias))


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `evitif bench pooling_weights`."""
    parser.set_defaults(output=ROOT / 'docs' / 'results')


def run(output: Path) -> dict:
    """Measure and write pooling_weights.json."""
    result = {'command': command('pooling_weights'), 'model': MODEL, 'images': IMAGES, 'seed': SEED, 'rates': list(RATES), 'targets': [],
              'cuts': {str(cut): measure(cut) for cut in CUTS}}
    write_json(output / 'pooling_weights.json', result)
    return result


def section(result: dict, _images: Path) -> str:
    """A line for each cut and rate."""
    lines = []
    for cut, counts in result['cuts'].items():
        for rate, count in counts.items():
            gained = 100 * (count['pooling_too'] - count['attention_alone']) / result['images']
            lines.append(f'cut {cut}, {float(rate):.0%} loss: {gained:+.2f} points, {count["other_answers"]} other answers')
    return '\n'.join(lines)
