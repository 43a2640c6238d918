"""What it is worth that the weights of estimated tokens count in the pooling of a model without class token, and not in attention alone.

`python -m benchmarks.pooling_weights`: top-1 of a shipped model with mean pooling and its PALDN, with the weights in attention alone, as
before, and in the mean too, over the same images, int8 tokens and losses. Writes docs/results/pooling_weights.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from evitif.datasets import open_images
from evitif.files import write_json
from evitif.model.folder import artifact_path
from evitif.pipeline.cut_model import CutModel
from evitif.recovery import Recovered, load_recovery
from evitif.settings import SplitSettings
from evitif_lab.commands.progress import Progress
from evitif_lab.loss_patterns import PacketLoss

REPORT = Path('docs/results/pooling_weights.json')
RATES, BATCH = (0.3, 0.6, 0.8, 0.9), 50


@torch.inference_mode()
def measure(model: str, data: str, cut: int, images: int, seed: int) -> dict:
    """By rate, how many answers are right of `images`, with either way of weighing, and how many differ."""
    stream = CutModel.load(SplitSettings(model=model, cut=cut, quantisation='int8'))
    split, quantiser = stream.split, stream.quantiser
    network, _ = load_recovery(artifact_path(model, cut), stream.parameters.fingerprint, split)
    dataset = open_images(data, 'test', class_names=stream.class_names)
    samples = [dataset[int(index)] for index in np.random.default_rng(0).permutation(len(dataset))[:images]]
    ids = torch.tensor([sample.class_id for sample in samples])
    heads = (stream.head(stream.preprocessor(sample.image))[0].numpy() for sample in Progress(samples, desc=f'heads, cut {cut}'))
    tokens = torch.from_numpy(np.stack([quantiser.dequantise(quantiser.quantise(values)) for values in heads]))
    pattern, counts = PacketLoss(stream.parameters, patch_copies=1), {}
    for rate in RATES:
        loss = pattern.run(torch.full((len(ids),), rate), 1, torch.Generator().manual_seed(seed))
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


def main() -> int:
    parser = argparse.ArgumentParser(prog='python -m benchmarks.pooling_weights', description=__doc__.split('\n\n')[0])
    parser.add_argument('--model', default='artifacts/cifar10_mean_pooling')
    parser.add_argument('--data', default='data/cifar10')
    parser.add_argument('--cut', type=int, nargs='+', default=[2, 4, 6])
    parser.add_argument('--images', type=int, default=1000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--json', default=str(REPORT))
    options = parser.parse_args()
    result = {'command': 'python -m benchmarks.pooling_weights', 'model': options.model, 'images': options.images,
              'seed': options.seed, 'rates': list(RATES), 'cuts': {}}
    for cut in options.cut:
        result['cuts'][cut] = counts = measure(options.model, options.data, cut, options.images, options.seed)
        for rate, count in counts.items():
            gained = 100 * (count['pooling_too'] - count['attention_alone']) / options.images
            print(f'cut {cut}, {float(rate):.0%} loss: {gained:+.2f} points, {count["other_answers"]} other answers', flush=True)
    write_json(options.json, result)
    return 0


if __name__ == '__main__':
    sys.exit(main())
