"""The console command `evitif`."""

from __future__ import annotations

import argparse
import shlex
import sys

from evitif import __version__
from evitif_cli import (
    calibrate,
    evaluate_partition,
    evaluate_recovery,
    evaluate_selection,
    key,
    link,
    train_code,
    train_model,
    train_partition,
    train_recovery,
)
from evitif_lab.commands import command


def main(arguments: list[str] | None = None) -> int:
    """Run `evitif`; return the exit status: 0, 1 for a mistake that the message names, 2 for unknown arguments, 130 or 143 after an
    interruption."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = build_parser().parse_args(arguments)
    return command.run('evitif', lambda: options.run(options, shlex.join(['evitif', *arguments])))


def build_parser() -> argparse.ArgumentParser:
    """All verbs with their arguments."""
    parser = argparse.ArgumentParser(prog='evitif', description='A large Vision Transformer for a small robot, over a '
                                                                'bad radio link.')
    parser.add_argument('--version', action='version', version=f'evitif {__version__}')
    verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')
    train = verbs.add_parser('train', help='train a model, its recovery or its code').add_subparsers(required=True, metavar='WHAT')
    evaluate = verbs.add_parser('evaluate', help='measure what a trained artifact does').add_subparsers(
        required=True, metavar='WHAT')
    train_model.add_parser(train)
    train_recovery.add_parser(train)
    train_code.add_parser(train)
    train_partition.add_parser(train)
    evaluate_recovery.add_parser(evaluate)
    evaluate_selection.add_parser(evaluate)
    calibrate.add_parser(verbs)
    evaluate_partition.add_parser(evaluate)
    link.add_parser(verbs)
    key.add_parser(verbs)
    return parser
