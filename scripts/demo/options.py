"""The demo's arguments, and the models that they ask for."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from evitif.datasets import FashionMnist, MovingFashion
from evitif.settings import AUTO, STRATEGY, CommonSettings, model_settings
from evitif.vocabulary import Strategy

LIGHT_MODEL, NO_LIGHT_MODEL = 'artifacts/fashion_mnist_light', 'none'
# The model that ships for each data set, and the data set of each strategy: a light model for video does not ship.
MODELS = {MovingFashion.name: 'artifacts/moving_fashion', FashionMnist.name: 'artifacts/fashion_mnist'}


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; exits with a sentence for a bad value."""
    parser = argparse.ArgumentParser(prog='demo', description='Camera, edge node, lossy link and bridge on this machine.')
    parser.add_argument('--strategy', choices=STRATEGY.choices, default=STRATEGY.default,
                        help='how edge and bridge share the work (default: %(default)s)')
    parser.add_argument('--model', help='a model folder or a timm name; of selection the large one (default: the one that ships for '
                        '--images)')
    parser.add_argument('--light-model', default='', help=f'of selection: a folder, or {NO_LIGHT_MODEL}: the robot runs no model and sends '
                        f'the patches that moved (default: {LIGHT_MODEL})')
    parser.add_argument('--frame-bytes', type=number(0, 1e9), default=0.0,
                        help='of auto: bytes for an image, both ways, that the link carries (default: any)')
    parser.add_argument('--partition', default='artifacts/fashion_mnist/partition-3', help='of partition: a folder (default: %(default)s)')
    parser.add_argument('--checkpoint', help="weights for a timm name (default: timm's hub)")
    parser.add_argument('--head', default='', help="a head that classifies, whose answers are shown in the place of the model's own")
    parser.add_argument('--cut', type=number(0, 1000, int), help="cut after this block (default: the model's own)")
    parser.add_argument('--artifact', help="a trained PALDN's description (default: the one in the model folder)")
    parser.add_argument('--images', help=f'{", ".join(MODELS)}, or a folder of images (default: moving-fashion with the strategy split '
                        'or without a light model, and with the model that ships for it, else fashion-mnist)')
    parser.add_argument('--loss', type=number(0, 1), default=0.6, help='packet loss each way (default: %(default)s)')
    parser.add_argument('--burst', type=number(1, 1000), default=1.0, help='mean length of a run of lost packets')
    parser.add_argument('--frames', type=number(1, 10**6, int), default=300)
    parser.add_argument('--rate', type=number(0.1, 1000), default=10.0, help='images a second')
    parser.add_argument('--seed', type=number(0, 2**31, int), default=0, help='of the images and of the losses')
    parser.add_argument('--reports', type=Path, default=Path('reports/demo'))
    options = parser.parse_args(words)
    video = MODELS[MovingFashion.name]
    if options.images is None:
        takes_video = options.strategy == Strategy.SPLIT or options.strategy == Strategy.SELECTION and options.light_model == NO_LIGHT_MODEL
        moves = takes_video and (options.model is None or Path(options.model).resolve() == Path(video).resolve())
        options.images = MovingFashion.name if moves else FashionMnist.name
    if options.model is None:
        options.model = MODELS.get(options.images.replace('_', '-').lower(), MODELS[FashionMnist.name])
    return options


def number(low: float, high: float, kind: Callable = float) -> Callable[[str], float]:
    """An argument type: a number from `low` to `high`."""
    def check(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f'{text}: expected {low:g} to {high:g}')
        return value
    check.__name__ = 'number'
    return check


def model_config(options: argparse.Namespace) -> CommonSettings:
    """The models of both sides. Raises ValueError."""
    if options.strategy == Strategy.PARTITION:
        return model_settings(options.strategy, partition=options.partition, heads=options.head)
    pretrained = not options.checkpoint and not Path(options.model).expanduser().is_dir() and '/' not in options.model
    own = {
        Strategy.SPLIT: {'cut': options.cut},
        Strategy.SELECTION: {'light_model': '' if options.light_model == NO_LIGHT_MODEL else options.light_model or LIGHT_MODEL},
        AUTO: {'cut': options.cut, 'light_model': options.light_model, 'auto_loss': options.loss,
               'auto_frame_bytes': options.frame_bytes},
    }[options.strategy]
    return model_settings(options.strategy, model=options.model, checkpoint=options.checkpoint, pretrained=pretrained, heads=options.head,
                          **own)


def model_parameters(config: CommonSettings) -> dict:
    """The same as parameters of the nodes, without the defaults."""
    given = {field.name: value for field in dataclasses.fields(config) if (value := getattr(config, field.name)) != field.default}
    return {'strategy': config.strategy, **given}


def edge_names(options: argparse.Namespace) -> tuple[str, ...]:
    """The namespaces of the edge nodes: one without a name, or the names of a partition's devices."""
    if options.strategy != Strategy.PARTITION:
        return ('',)
    from evitif.partition import read_partition
    return tuple(entry.name.replace('-', '_') for entry in read_partition(options.partition).devices)
