"""`evitif train model`: train a timm Vision Transformer on labelled images."""

from __future__ import annotations

import argparse

from evitif.wording import few
from evitif_cli.arguments import add_overwrite, chosen, keyword, show
from evitif_lab.commands.options import not_negative, not_negative_int, positive, positive_int, rate, rate_below_one, real, seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument('--data', required=True, help='fashion-mnist, or a folder with train/ and val/ in the '
                                                      'ImageFolder layout')
    parser.add_argument('--output', required=True, help='the model folder to write')
    parser.add_argument('--architecture', default='vit_tiny_patch16_224', help='name of a timm model')
    parser.add_argument('--model-kwargs', nargs='*', type=keyword, metavar='NAME=VALUE',
                        help='keyword arguments of timm.create_model, such as patch_size=4 depth=6')
    parser.add_argument('--initial-weights', help="'pretrained' (timm's hub), a checkpoint or a model folder to start from")
    parser.add_argument('--reset-head', action='store_true', default=None,
                        help='a new classifier, where --initial-weights have none (a backbone such as DINOv2) or another one is wanted')
    parser.add_argument('--image-size', type=positive_int, metavar='PIXELS', help="(default: the architecture's own)")
    parser.add_argument('--default-cut', type=not_negative_int, help='where to cut unless one says otherwise (default: half of the depth)')
    parser.add_argument('--epochs', type=positive_int)
    parser.add_argument('--batch-size', type=positive_int)
    parser.add_argument('--distil-from', metavar='MODEL', help='a model folder of the same classes, whose answers are learned as well')
    parser.add_argument('--distil-views', action='store_true', default=None,
                        help='ask it about each shifted, mirrored, erased and mixed image as the student sees it: better and slower')
    parser.add_argument('--held-out', type=rate_below_one, metavar='SHARE',
                        help='share of the training images left for `evitif calibrate` (default: 0)')
    parser.add_argument('--learning-rate', type=positive)
    for name in ('weight-decay', 'warmup-epochs', 'mixup-alpha'):
        parser.add_argument(f'--{name}', type=not_negative)
    parser.add_argument('--distil-temperature', type=real(0, 1000, above=True))
    for name in ('label-smoothing', 'erase-probability', 'distil-weight'):
        parser.add_argument(f'--{name}', type=rate)
    parser.add_argument('--average-decay', type=rate_below_one)
    parser.add_argument('--shift-pixels', type=not_negative_int)
    parser.add_argument('--seed', type=seed)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--precision', choices=('fp32', 'bf16'), help='of the arithmetic (default: fp32)')
    parser.add_argument('--stored-as', choices=('float32', 'float16', 'int8'),
                        help='how the weights are written (default: float16); int8 has a step for each output channel')
    add_overwrite(parser, 'a model that is there, and begin anew')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    from evitif.model.device import place
    from evitif_lab.training.backbone import BackboneTraining, train_backbone
    from evitif_lab.training.judging import describe_figures
    given = options.model_kwargs or ()
    options.model_kwargs = dict(given)
    if len(options.model_kwargs) < len(given):
        raise ValueError(f'--model-kwargs are {few(name for name, _ in given)}: expected each name once')
    configuration = BackboneTraining(**chosen(options, BackboneTraining))
    show(configuration)
    print(place(configuration.device, configuration.precision).sentence)
    figures = train_backbone(configuration, command, options.overwrite)
    print(f'{configuration.output}: {describe_figures(figures)}, {figures["parameters"]:,} parameters')
    return 0
