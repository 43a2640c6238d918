"""`evitif train recovery`: train PALDN for a model and a cut; needs images, no labels."""

from __future__ import annotations

import argparse

from evitif.cli.arguments import add_model, chosen, positive_int, rate, show


def add_parser(verbs) -> None:
    parser = verbs.add_parser('recovery', help='train PALDN for a model and a cut; needs images, no labels')
    add_model(parser)
    parser.add_argument('--data', required=True, help='fashion-mnist, or a folder of images')
    parser.add_argument('--output', help='folder of the artifact (default: the model folder)')
    parser.add_argument('--initial', metavar='JSON', help='go on from this artifact for the same model and cut')
    for name in ('steps', 'batch-size', 'width', 'depth'):
        parser.add_argument(f'--{name}', type=positive_int)
    for name in ('learning-rate', 'logit-weight'):
        parser.add_argument(f'--{name}', type=float)
    for name in ('lowest-loss', 'highest-loss', 'burst-share'):
        parser.add_argument(f'--{name}', type=rate)
    parser.add_argument('--shift-pixels', type=int)
    parser.add_argument('--seed', type=int)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, command: str) -> int:
    from evitif.training.recovery import RecoveryTraining, train_recovery
    configuration = RecoveryTraining(**chosen(options, RecoveryTraining))
    show(configuration)
    description = train_recovery(configuration, command)
    figures = description['figures']
    print(f'PALDN for {description["model"]} at cut {description["cut"]}: {figures["parameters"]:,} parameters, '
          f'{100 * figures["share_of_tail_multiply_adds"]:.1f} % of the tail\'s multiply-adds')
    return 0
