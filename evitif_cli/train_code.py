"""`evitif train code`: fit the codes that send a model's tokens in few bytes; needs images, no labels."""

from __future__ import annotations

import argparse

from evitif.pipeline.coded_table import FIGURES as STEP_FIGURES
from evitif.pipeline.rate_table import FIGURES
from evitif_cli.arguments import add_overwrite, configured
from evitif_lab.commands.configuration import add_options
from evitif_lab.training.entropy_training import measure_steps_again, train_entropy_code
from evitif_lab.training.transform_code import CodeTraining, measure_again, train_code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_options(parser, CodeTraining)
    parser.add_argument('--table-only', action='store_true',
                        help='keep the code and measure again what its rates cost, with the recovery that now lies beside it')
    add_overwrite(parser, 'codes of another configuration, and fit them anew')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    if options.table_only and options.pixels:
        raise ValueError('--table-only is for the code of tokens: patches of an image have no such table')
    configuration = configured(options, CodeTraining)
    found = measure_again(configuration, command) if options.table_only else train_code(configuration, command, overwrite=options.overwrite)
    for description in found:
        tell(description)
    if options.table_only:
        measure_steps_again(configuration)
    else:
        for description in train_entropy_code(configuration, command, overwrite=options.overwrite):
            tell_steps(description)
    return 0


def tell(description: dict) -> None:
    """Print what the rates of a fitted code cost."""
    for kind, figures in description['figures'].items():
        if isinstance(figures, dict) and 'token_bytes' in figures:
            print(f'{kind} for {description["model"]} at cut {description["cut"]}: {figures["token_bytes"]} bytes a token, '
                  f'the same class as without for {100 * figures["training_agreement"]:.1f} % of the training images judged')
    if table := description['figures'].get(FIGURES):
        print(f'expected loss of top-1 in points, with {table["recovery"]} for what is lost: '
              + ', '.join(f'{kind} {100 * cost:.2f}' for kind, cost in table['coding'].items()) + '; without '
              + ', '.join(f'{100 * share:g} % of the patches {100 * cost:.2f}' for share, cost in table['lost'][1:]))


def tell_steps(description: dict) -> None:
    """Print what the steps of a fitted entropy code cost."""
    table = description['figures'][STEP_FIGURES]
    for step, cost in table['coding'].items():
        print(f'step {step} for {description["model"]} at cut {description["cut"]}: {table["bytes"][step]:.0f} bytes for the patches of a '
              f'frame, {100 * cost:.2f} points of top-1 lost as expected')
