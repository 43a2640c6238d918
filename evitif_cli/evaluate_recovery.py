"""`evitif evaluate recovery`: accuracy over packet loss, for several methods of recovery."""

from __future__ import annotations

import argparse

from evitif.protocol.frames.packetiser import MAX_PATCH_COPIES
from evitif_cli.arguments import add_model, chosen, show
from evitif_lab.commands.options import positive, positive_int, rate, whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_model(parser, quantisation='auto')
    parser.add_argument('--data', required=True, help='fashion-mnist, or a folder in the ImageFolder layout')
    parser.add_argument('--loss', nargs='+', type=rate, metavar='RATE', help='packet error rates (default: 0 0.3 0.6)')
    parser.add_argument('--pattern', choices=('iid', 'burst', 'drift'),
                        help='independent losses (default), bursts, or a rate that sweeps from 0 to RATE and back')
    parser.add_argument('--burst', type=positive, metavar='L',
                        help='mean length of a run of lost packets (default: 8 with --pattern burst, else 1)')
    parser.add_argument('--patch-copies', type=whole(1, MAX_PATCH_COPIES), metavar='N',
                        help='packets that each patch token travels in (default: 1, or with a transform code what the bytes of '
                             'int8 once allow)')
    parser.add_argument('--methods', nargs='+', metavar='METHOD',
                        help='zero, mean, omission, paldn, … (default: all that need no training, and those whose '
                             'artifact lies beside the model)')
    parser.add_argument('--recovery-artifact', metavar='JSON', help='of the method that it is of (default: beside the model)')
    parser.add_argument('--images', type=positive_int, help='judge by so many images, drawn over all classes (default: all)')
    parser.add_argument('--seeds', type=positive_int, help='repetitions with other losses (default: 1)')
    parser.add_argument('--json', metavar='FILE',
                        help='write the figures there, and beside it a table (.md) and a plot (.png); an interrupted '
                             'measurement goes on from there')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    from evitif_lab.evaluation.recovery import RecoveryEvaluation, evaluate_recovery
    from evitif_lab.evaluation.report import markdown, write_report
    configuration = RecoveryEvaluation(**chosen(options, RecoveryEvaluation))
    show(configuration)
    result = evaluate_recovery(configuration, command)
    print(markdown(result))
    if configuration.json:
        print('', f'the figures are in {configuration.json}', *write_report(result, configuration.json), sep='\n')
    return 0
