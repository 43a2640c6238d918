"""What a lost packet should hold: tokens from all over the image, a strip of the image, or some channels of every token.

`python -m benchmarks.packet_layouts`: points of top-1 that a shipped model loses with int8 tokens, each sent once in the
same number of packets, for three layouts and without a trained network, so that only the layout differs. Writes
reports/bench/packet_layouts.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from evitif.datasets import open_images
from evitif.files import write_json
from evitif.options import not_negative_int, positive_int
from evitif.pipeline.cut_model import CutModel
from evitif.progress import Progress
from evitif.recovery import Omission
from evitif.recovery.loss_patterns import PacketLoss
from evitif.settings import SplitSettings

REPORT = Path('reports/bench/packet_layouts.json')
RATES, BURSTS = (0.3, 0.6, 0.8), (1, 8)


def carried(stream: CutModel, layout: str) -> PacketLoss:
    """The packets of a frame, their patches scattered as the packetiser does it, or in rows of the image from top to bottom."""
    pattern = PacketLoss(stream.parameters, patch_copies=1)
    if layout == 'strips':
        prefix, patches = stream.parameters.prefix_tokens, stream.parameters.tokens - stream.parameters.prefix_tokens
        counts = pattern.carries[:, prefix:].sum(1).long().tolist()
        pattern.carries[:, prefix:] = 0
        for packet, places in enumerate(torch.arange(patches).split(counts)):
            pattern.carries[packet, prefix + places] = 1
    return pattern


@torch.inference_mode()
def measure(model: str, data: str, cut: int, images: int, seeds: int) -> dict:
    """Points lost by layout, burst and rate: the mean over the seeds, and each of them."""
    stream = CutModel.load(SplitSettings(model=model, cut=cut, quantisation='int8'))
    dataset = open_images(data, 'test', class_names=stream.class_names if stream.names_its_classes else None)
    chosen = np.random.default_rng(0).permutation(len(dataset))[:images]
    samples = [dataset[int(index)] for index in chosen]
    ids = torch.tensor([sample.class_id for sample in samples])
    tokens = torch.cat([stream.head(stream.preprocessor(sample.image)) for sample in Progress(samples, desc='heads')])
    uncut = float((torch.cat([stream.split.tail(part) for part in tokens.split(100)]).argmax(1) == ids).float().mean())
    omission = Omission(stream.blank_tokens, stream.parameters.prefix_tokens, stream.parameters.grid)
    mean = tokens.mean((0, 1))
    table: dict = {}
    for layout in ('scattered', 'strips', 'channels'):
        pattern = carried(stream, layout)
        for burst in BURSTS:
            for rate in RATES:
                runs = []
                for seed in range(seeds):
                    loss = pattern.run(torch.full((len(ids),), rate), burst, torch.Generator().manual_seed(seed))
                    if layout == 'channels':        # packet k has the channels k, k + packets, …; lost ones become their mean
                        arrived = loss.arrived[:, torch.arange(tokens.shape[2]) % pattern.packets]
                        answers = [stream.split.tail(torch.where(mask[:, None], part, mean)).argmax(1)
                                   for part, mask in zip(tokens.split(100), arrived.split(100), strict=True)]
                    else:
                        received = pattern.received_tokens(loss.arrived)
                        answers = [omission.recover(tokens[k:k + 1] * received[k:k + 1, :, None], received[k:k + 1],
                                                    torch.tensor([rate])).logits(stream.split).argmax(1) for k in range(len(ids))]
                    runs.append(100 * (uncut - float((torch.cat(answers) == ids).float().mean())))
                table[f'{layout}, burst {burst}, {rate:g}'] = {'lost': float(np.mean(runs)), 'runs': runs}
                print(f'{model} cut {cut}: {layout:>9}, burst {burst}, {100 * rate:.0f} % loss: {np.mean(runs):.1f} points lost',
                      flush=True)
    return {'model': model, 'cut': cut, 'data': data, 'images': len(ids), 'seeds': seeds, 'uncut': uncut, 'points': table}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='python -m benchmarks.packet_layouts', description=__doc__.partition('\n')[0])
    parser.add_argument('--model', default='artifacts/cifar10_vit')
    parser.add_argument('--data', default='data/cifar10')
    parser.add_argument('--cut', type=not_negative_int, default=4)
    parser.add_argument('--images', type=positive_int, default=300)
    parser.add_argument('--seeds', type=positive_int, default=2)
    options = parser.parse_args(arguments)
    try:
        result = measure(options.model, options.data, options.cut, options.images, options.seeds)
    except (ValueError, OSError) as error:
        print(f'packet_layouts: {error}', file=sys.stderr)
        return 1
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    write_json(str(REPORT), result)
    print(f'the figures are in {REPORT}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
