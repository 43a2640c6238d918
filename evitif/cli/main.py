"""The console command `evitif`."""

from __future__ import annotations

import argparse
import shlex
import sys

from evitif import __version__
from evitif.cli import (
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


def main(arguments: list[str] | None = None) -> int:
    """Run `evitif`; return the exit status: 0, 1 for a mistake that the message names, 2 for unknown arguments."""
    arguments = sys.argv[1:] if arguments is None else arguments
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
    options = parser.parse_args(arguments)
    try:
        return options.run(options, shlex.join(['evitif', *arguments]))
    except (ValueError, OSError, MemoryError) as error:  # what a user can cause; anything else is a bug and shows where
        print(f'evitif: {error or type(error).__name__}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('evitif: interrupted; run the same command again to go on', file=sys.stderr)
        return 130
