"""`evitif evaluate partition`: what partitions reach, with devices gone and packets lost, and what a device costs."""

from __future__ import annotations

import argparse

from evitif.protocol.frames.packetiser import MAX_PATCH_COPIES
from evitif_cli.arguments import chosen, show
from evitif_lab.commands.options import positive_int, rate_below_one, whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument('--partitions', nargs='+', required=True, metavar='DIR', help='folders that `evitif train partition` wrote')
    parser.add_argument('--data', nargs='+', help='for each partition, or one for all (default: what each was trained for)')
    parser.add_argument('--model', help='the original (default: what the partition names)')
    parser.add_argument('--loss', nargs='+', type=rate_below_one, metavar='RATE', help='packet error rates (default: 0.3 0.6)')
    parser.add_argument('--copies', type=whole(1, MAX_PATCH_COPIES), metavar='N',
                        help="datagrams that carry a device's features (default: as many as it sends at that loss)")
    parser.add_argument('--seeds', type=positive_int, help='repetitions with other losses (default: 5)')
    parser.add_argument('--images', type=positive_int, help='judge by so many images (default: all)')
    parser.add_argument('--baselines', action='store_true', default=None,
                        help='train a small ViT of the same size, as many of them as there are devices, and a split CNN, and judge them')
    parser.add_argument('--json', metavar='FILE', help='write the figures there, beside those that it has of other partitions, and '
                                                       'beside it a table (.md) and a plot (.png)')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    from evitif_lab.evaluation.partition import PartitionEvaluation, evaluate_partitions
    from evitif_lab.evaluation.partition_report import markdown, write_report
    from evitif_lab.training.partition_baselines import judge_baselines
    configuration = PartitionEvaluation(**chosen(options, PartitionEvaluation))
    show(configuration)
    result = evaluate_partitions(configuration, command, judge_baselines)
    print(markdown(result))
    if configuration.json:
        print('', f'the figures are in {configuration.json}', *write_report(result, configuration.json), sep='\n')
    return 0
