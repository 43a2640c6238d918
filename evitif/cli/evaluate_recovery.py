"""`evitif evaluate recovery`: accuracy over packet loss, for several methods of recovery."""

from __future__ import annotations

import argparse

from evitif.cli.arguments import add_model, chosen, positive_int, rate, show


def add_parser(verbs) -> None:
    parser = verbs.add_parser('recovery', help='accuracy over packet loss, for several methods of recovery')
    add_model(parser)
    parser.add_argument('--data', required=True, help='fashion-mnist, or a folder in the ImageFolder layout')
    parser.add_argument('--loss', nargs='+', type=rate, metavar='RATE', help='packet error rates (default: 0 0.3 0.6)')
    parser.add_argument('--burst', type=float, help='mean length of a run of lost packets; 1: independent (default)')
    parser.add_argument('--methods', nargs='+', metavar='METHOD', help='zero, mean, omission, paldn (default: all)')
    parser.add_argument('--recovery-artifact', metavar='JSON', help='of paldn (default: the one in the model folder)')
    parser.add_argument('--images', type=positive_int, help='judge by the first so many images (default: all)')
    parser.add_argument('--seeds', type=positive_int, help='repetitions with other losses (default: 1)')
    parser.add_argument('--json', metavar='FILE', help='write the figures there')
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, command: str) -> int:
    from evitif.evaluation.recovery import RecoveryEvaluation, evaluate_recovery, markdown
    configuration = RecoveryEvaluation(**chosen(options, RecoveryEvaluation))
    show(configuration)
    result = evaluate_recovery(configuration, command)
    print(markdown(result))
    return 0
