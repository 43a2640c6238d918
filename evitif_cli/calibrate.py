"""`evitif calibrate`: choose when the robot answers alone and how much it sends, for a light and a large model."""

from __future__ import annotations

import argparse

from evitif_cli.arguments import chosen, show
from evitif_lab.commands.options import positive, positive_int, rate, real, seed, share


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_pair(parser)
    parser.add_argument('--data', required=True, help='a folder with train/ in the ImageFolder layout')
    parser.add_argument('--output', help="folder of selection.json (default: the light model's)")
    parser.add_argument('--points', type=real(0, 100),
                        help='of accuracy that may be lost against the large model, in percent (default: 0.5)')
    parser.add_argument('--bytes', type=positive, help='on the wire for an image on average, instead: as accurate as that allows')
    parser.add_argument('--minimise', choices=('bytes', 'cost'), help='for the wished accuracy (default: bytes)')
    parser.add_argument('--score-rule', choices=('last', 'rollout', 'selective'))
    parser.add_argument('--gate-rule', choices=('min-entropy', 'entropy', 'margin'))
    parser.add_argument('--delta', type=rate, nargs='+', help='to choose from')
    parser.add_argument('--quantisation', nargs='+', help='of patches, to choose from (default: klt1 klt1.5 klt2)')
    parser.add_argument('--prior-weight', type=real(0, 10), help="of the light model's answer (default: the best of a few)")
    parser.add_argument('--held-out', type=share, metavar='SHARE',
                        help="of the training images (default: what the light model's training left out)")
    parser.add_argument('--images', type=positive_int, help='of these, at most (default: all)')
    parser.add_argument('--seed', type=seed)


def add_pair(parser: argparse.ArgumentParser) -> None:
    """The arguments that name a light and a large model."""
    parser.add_argument('--light', required=True, help="the robot's model: a model folder, or the name of a timm model")
    parser.add_argument('--large', required=True, help='the model off-board, with a code for its patches beside it (`evitif train code '
                                                       '--pixels`)')
    parser.add_argument('--light-checkpoint', help='a file with weights, for a timm name')
    parser.add_argument('--light-image-size', type=positive_int, help='pixels, for a timm name')
    parser.add_argument('--large-checkpoint', help='a file with weights, for a timm name')
    parser.add_argument('--device', default='cpu', help='cpu, cuda, cuda:0, mps, … (default: cpu)')
    parser.add_argument('--precision', choices=('fp32', 'bf16'), help='of the arithmetic (default: fp32)')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    from evitif_lab.training.calibration import Calibration, calibrate
    configuration = Calibration(**chosen(options, Calibration))
    show(configuration)
    path, artifact = calibrate(configuration, command)
    expected, settings = artifact.description['expected'], artifact.settings
    print(f'{path}: eta {settings.eta:.3f}, delta {settings.delta:g}, patches as {settings.quantisation}, temperature '
          f'{settings.temperature:g}, prior {settings.prior_weight:g}\n'
          f'expected on {expected["images"]} training images: {100 * expected["top1"]:.2f} % (light alone '
          f'{100 * expected["top1_light"]:.2f} %, large alone {100 * expected["top1_large"]:.2f} %), '
          f'{100 * expected["asked"]:.0f} % of the images asked about, cost '
          f'{expected["cost"]:.3f}, {expected["bytes"]:.0f} bytes an image')
    return 0
