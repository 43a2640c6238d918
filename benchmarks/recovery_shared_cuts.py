"""One PALDN for several cuts beside one for each: `python -m benchmarks.recovery_shared_cuts --model … --data …`.

All have the width that the latest cut's budget allows and see each cut for as many steps. What is shared learns from all cuts, and one
artifact would do for a robot that moves its cut. What has a closed form (means, linear completion) is each cut's own in any case.
Judged as `benchmarks.recovery_ablation` judges; writes reports/bench/recovery_shared_cuts.json.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.recovery_ablation import points_lost
from evitif.datasets import open_images
from evitif.files import write_json
from evitif.model.device import mixed_precision
from evitif.options import not_negative_int, positive_int
from evitif.pipeline.cut_model import CutModel
from evitif.progress import Progress
from evitif.recovery import Paldn, Sequence
from evitif.recovery.loss_patterns import PacketLoss
from evitif.settings import SplitSettings
from evitif_lab.evaluation.statistics import half_interval95
from evitif_lab.training.descent import Descent, descend
from evitif_lab.training.images import Normalise, load_images
from evitif_lab.training.recovery import RecoveryTraining, recovery_losses
from evitif_lab.training.token_cache import TokenCache

REPORT = Path('reports/bench/recovery_shared_cuts.json')
SHARED = {
    'one for each cut': (),
    'the blocks shared, the projections not': ('blocks', 'rate', 'norm'),
    'everything shared': ('blocks', 'rate', 'norm', 'project', 'restore', 'spread', 'position', 'lost'),
}


def networks(cuts: list[int], sequence: Sequence, width: int, shared: tuple[str, ...]) -> nn.ModuleDict:
    """A PALDN for each cut, whose parts named in `shared` are one and the same."""
    found = nn.ModuleDict({str(cut): Paldn(sequence, width) for cut in cuts})
    first, *others = found.values()
    for other in others:
        for name in shared:
            setattr(other, name, getattr(first, name))
    return found


def train(found: nn.ModuleDict, streams: dict[int, CutModel], cache: TokenCache, pattern: PacketLoss,
          c: RecoveryTraining) -> nn.ModuleDict:
    """The cuts take turns."""
    cuts = list(streams)

    def losses(step: int) -> dict[str, torch.Tensor]:
        cut = cuts[step % len(cuts)]
        return recovery_losses(step, cache, cut, found[str(cut)], streams[cut].split, pattern, c)
    descent = Descent(c.steps * len(cuts), c.learning_rate, weight_decay=0.01, warmup=100, average_decay=c.average_decay, save_every=10**9)
    trained, _, _ = descend(descent, found.train(), losses, lambda parts: parts['features'] + c.logit_weight * parts['divergence'],
                            [list(found.parameters())], 'training')
    return trained.eval()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='python -m benchmarks.recovery_shared_cuts', description=__doc__)
    parser.add_argument('--model', default='artifacts/fashion_mnist')
    parser.add_argument('--data', default='fashion-mnist')
    parser.add_argument('--cuts', type=not_negative_int, nargs='+', default=[2, 3, 5])
    parser.add_argument('--steps', type=positive_int, default=200, help='for each cut')
    parser.add_argument('--images', type=positive_int, default=4000, help='training images')
    parser.add_argument('--judged', type=positive_int, default=1000, help='validation images')
    parser.add_argument('--seeds', type=positive_int, default=2)
    options = parser.parse_args(arguments)
    streams = {cut: CutModel.load(SplitSettings(model=options.model, cut=cut, quantisation='int8')) for cut in sorted(options.cuts)}
    last = streams[max(streams)]
    for stream in streams.values():
        stream.split.module.requires_grad_(False)
    normalise, random = Normalise(last.preprocessor.data_config), np.random.default_rng(0)
    splits = {cut: stream.split for cut, stream in streams.items()}
    caches = {}
    for name, count in (('train', options.images), ('test', options.judged)):
        images, ids = load_images(open_images(options.data, name, ranked=True), last.split.image_size[0])
        chosen = random.permutation(len(images))[:count]
        caches[name] = TokenCache(splits, images[chosen], normalise, 'cpu', 'bf16'), ids[chosen]
    cache, (judge, ids) = caches['train'][0], caches['test']
    parameters = last.parameters
    sequence, pattern = Sequence(parameters.grid, parameters.prefix_tokens, parameters.channels), PacketLoss(parameters, patch_copies=1)
    base = RecoveryTraining(model=options.model, data=[options.data], steps=options.steps, precision='bf16')
    width = Paldn.sized(sequence, base.budget * last.split.tail_multiply_adds).options['width']
    table = {}
    for name, shared in Progress(SHARED.items(), desc='variants', unit='variant'):
        runs: list[dict] = []
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            found = networks(list(streams), sequence, width, shared)
            for cut in streams:
                found[str(cut)].fit(cache.take(cut, torch.arange(min(1000, len(cache))))[0])
            trained = train(found, streams, cache, pattern, RecoveryTraining(**{**vars(base), 'seed': seed}))
            with mixed_precision('cpu', 'bf16'):
                runs.append({cut: points_lost(trained[str(cut)], stream, pattern, *judge.take(cut, torch.arange(len(judge))), ids)
                             for cut, stream in streams.items()})
        table[name] = {cut: {channel: {'mean': float(np.mean([run[cut][channel] for run in runs])),
                                       'interval95': half_interval95([run[cut][channel] for run in runs])} for channel in runs[0][cut]}
                       for cut in streams}
        for cut, cells in table[name].items():
            print(f'{name}, cut {cut}: ' + ', '.join(f'{channel}: {cell["mean"]:.2f}' for channel, cell in cells.items()), flush=True)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    command = shlex.join(['python', '-m', 'benchmarks.recovery_shared_cuts', *(sys.argv[1:] if arguments is None else arguments)])
    write_json(REPORT, {'command': command, 'model': parameters.model, 'width': width, 'steps_for_each_cut': options.steps,
                                  'seeds': options.seeds, 'images': len(cache), 'judged': len(ids), 'points_lost': table})
    print(f'written to {REPORT}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
