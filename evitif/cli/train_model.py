"""`evitif train model`: train a timm Vision Transformer on labelled images."""

from __future__ import annotations

import argparse

from evitif.cli.arguments import chosen, keyword, positive_int, rate, show


def add_parser(verbs) -> None:
    parser = verbs.add_parser('model', help='train a timm Vision Transformer and write a model folder')
    parser.add_argument('--data', required=True, help='fashion-mnist, or a folder with train/ and val/ in the '
                                                      'ImageFolder layout')
    parser.add_argument('--output', required=True, help='the model folder to write')
    parser.add_argument('--architecture', default='vit_tiny_patch16_224', help='name of a timm model')
    parser.add_argument('--model-kwargs', nargs='*', type=keyword, metavar='NAME=VALUE',
                        help='keyword arguments of timm.create_model, such as patch_size=4 depth=6')
    parser.add_argument('--initial-weights', help="'pretrained' (timm's hub), a checkpoint or a model folder to start from")
    parser.add_argument('--image-size', type=positive_int)
    parser.add_argument('--default-cut', type=int, help='where to cut unless one says otherwise (default: half of the '
                                                        'depth)')
    parser.add_argument('--epochs', type=positive_int)
    parser.add_argument('--batch-size', type=positive_int)
    parser.add_argument('--distil-from', metavar='MODEL', help='a model folder of the same classes, whose answers are learned as well')
    parser.add_argument('--distil-views', action='store_true', default=None,
                        help='ask it about each shifted, mirrored, erased and mixed image as the student sees it: better and slower')
    parser.add_argument('--held-out', type=rate, metavar='SHARE',
                        help='share of the training images left for `evitif calibrate` (default: 0)')
    for name in ('learning-rate', 'weight-decay', 'warmup-epochs', 'mixup-alpha', 'distil-temperature'):
        parser.add_argument(f'--{name}', type=float)
    for name in ('label-smoothing', 'erase-probability', 'average-decay', 'distil-weight'):
        parser.add_argument(f'--{name}', type=rate)
    parser.add_argument('--shift-pixels', type=int)
    parser.add_argument('--seed', type=int)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--precision', choices=('fp32', 'bf16'), help='of the arithmetic (default: fp32)')
    parser.add_argument('--stored-as', choices=('float32', 'float16', 'int8'),
                        help='how the weights are written (default: float16); int8 has a step for each output channel')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, command: str) -> int:
    from evitif.model.device import place
    from evitif.training.backbone import BackboneTraining, train_backbone
    from evitif.training.judging import describe_figures
    options.model_kwargs = dict(options.model_kwargs or ())
    configuration = BackboneTraining(**chosen(options, BackboneTraining))
    show(configuration)
    print(place(configuration.device, configuration.precision).note)
    figures = train_backbone(configuration, command)
    print(f'{configuration.output}: {describe_figures(figures)}, {figures["parameters"]:,} parameters')
    return 0
