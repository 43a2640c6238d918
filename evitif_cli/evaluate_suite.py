"""`evitif evaluate suite`: every table and plot of the recovery documentation from the artifacts that ship (`make evaluate`)."""

from __future__ import annotations

import argparse

from evitif_lab.commands.options import positive_int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    from evitif_lab.evaluation.suite import MAIN_IMAGES, QUICK_IMAGES, REPOSITORY, SAMPLE_IMAGES
    parser.add_argument('--quick', action='store_true',
                        help=f'{QUICK_IMAGES} images, 2 seeds, 2 rates, one cut of each model, into reports/evaluate')
    parser.add_argument('--only', nargs='+', default=[], metavar='MODEL', help='these folders of artifacts/')
    parser.add_argument('--output', metavar='DIR', help='(default: docs/results)')
    parser.add_argument('--images', type=positive_int,
                        help=f'that judge, at most (default: {MAIN_IMAGES}, or {SAMPLE_IMAGES} where tokens do not travel as by default)')
    parser.add_argument('--artifacts', default=str(REPOSITORY / 'artifacts'), metavar='DIR')
    parser.add_argument('--data', nargs='+', default=[], type=_assignment, metavar='MODEL=FOLDER',
                        help='the images that judge a model (default: what it was trained for)')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status: 1 where nothing could be measured."""
    from evitif_lab.evaluation.suite import Suite
    suite = Suite(options.artifacts, options.output, quick=options.quick, only=tuple(options.only), images=options.images,
                  data=dict(options.data))
    return 0 if suite.run(command) else 1


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition('=')
    if not equals or not name or not value:
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form MODEL=FOLDER')
    return name, value
