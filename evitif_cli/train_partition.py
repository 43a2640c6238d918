"""`evitif train partition`: divide a model by class among several devices."""

from __future__ import annotations

import argparse

from evitif_cli.arguments import add_overwrite, chosen, show
from evitif_lab.commands.options import MOST, not_negative_int, positive, positive_int, seed, whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument('--model', required=True, help='a model folder, or the name of a timm model')
    parser.add_argument('--checkpoint', help='a file with weights, for a timm name')
    parser.add_argument('--pretrained', action='store_true', help="weights from timm's hub, for a timm name")
    parser.add_argument('--data', required=True, help='fashion-mnist, or a folder in the ImageFolder layout with train and val')
    parser.add_argument('--output', required=True, help='folder of the artifact')
    parser.add_argument('--devices', type=positive_int, metavar='N', help='(default: 3)')
    parser.add_argument('--subsets', metavar='WHICH', help='similar (default), random, or a JSON file: a list of class ids a device')
    parser.add_argument('--redundancy', type=positive_int, metavar='R', help='devices that each class is on (default: 1)')
    parser.add_argument('--reduction', type=positive, metavar='X',
                        help="the original's parameters over a sub-model's, at least (default: 2, 4, 6, 10, 28.9 for 1, 2, 3, 5, 10 "
                             'devices, else 3 N)')
    parser.add_argument('--multiply-adds', type=whole(1, 2**62), help="a sub-model's at most, for one image")
    parser.add_argument('--inventory', metavar='YAML', help='devices with name, memory (bytes) and compute (multiply-adds a second)')
    parser.add_argument('--rate', type=positive, help='frames a second, for the inventory (default: 10)')
    parser.add_argument('--images', type=positive_int, help='training images at most (default: 50000)')
    parser.add_argument('--calibration-images', type=positive_int, help='by which a device is pruned (default: 64)')
    parser.add_argument('--begin', metavar='PARTITION', help='go on from an earlier partition of the model: its sub-models and fusion')
    parser.add_argument('--body', nargs='+', metavar='STAGE',
                        help='prune the sub-models from a model of all classes that is pruned and trained once, in stages REDUCTION:STEPS '
                             'and at last STEPS, such as 8:400 3000 (default: from the original)')
    parser.add_argument('--body-learning-rate', type=positive, help='(default: 5e-3; where little is pruned, rather a tenth)')
    parser.add_argument('--body-matrix-rate', type=positive, help='(default: 0.01, likewise)')
    parser.add_argument('--common-blocks', type=not_negative_int, metavar='K',
                        help='the first K blocks are the same on all devices (default: 0)')
    parser.add_argument('--steps', type=positive_int, help='of the retraining (default: 2000)')
    parser.add_argument('--batch-size', type=positive_int)
    parser.add_argument('--learning-rate', type=positive, help="AdamW's (default: 3e-3)")
    parser.add_argument('--matrix-rate', type=positive, help="Muon's, of the blocks' weight matrices (default: 5e-3)")
    parser.add_argument('--held-out', type=whole(-MOST), metavar='IMAGES',
                        help='training images at least that no sub-model learns from, only the fusion, which then knows how far to trust '
                             'them (default: 0, it learns from theirs)')
    parser.add_argument('--fusion-images', type=positive_int, help='(default: 20000)')
    parser.add_argument('--fusion-steps', type=positive_int, help='(default: 1000)')
    parser.add_argument('--device-views', type=not_negative_int, metavar='PIXELS',
                        help='each device looks at the image moved by so many pixels, every second one at its mirror image; what is fused '
                             'then errs less alike (default: 0, all see it as it is); with --common-blocks all learn from it as it is')
    parser.add_argument('--views', type=not_negative_int, metavar='V',
                        help='train on V more views of each image too, moved and mixed, each answered by the original (default: 0)')
    parser.add_argument('--answers', metavar='DIR', help="where the original's answers on the training images and the bodies are kept, for "
                                                         'several trainings to share (default: OUTPUT/steps)')
    parser.add_argument('--seed', type=seed)
    parser.add_argument('--device', help='cpu, cuda, … (default: cpu)')
    parser.add_argument('--precision', choices=('fp32', 'bf16'))
    parser.add_argument('--answers-precision', choices=('fp32', 'bf16'))
    parser.add_argument('--step', choices=('all', 'subsets', 'body', 'prune', 'retrain', 'fuse'),
                        help='(default: all that are not done yet)')
    add_overwrite(parser, 'what another training began or made')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    from evitif_lab.training.partition import train_partition
    from evitif_lab.training.partition_settings import PartitionTraining
    configuration = PartitionTraining(**chosen(options, PartitionTraining))
    show(configuration)
    train_partition(configuration, command, options.overwrite)
    return 0
