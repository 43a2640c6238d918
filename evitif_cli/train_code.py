"""`evitif train code`: fit the transform code that sends a model's tokens in a few bits a channel; needs images, no labels."""

from __future__ import annotations

import argparse

from evitif_cli.arguments import add_model, add_overwrite, chosen, show
from evitif_lab.commands.options import positive, positive_int, seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_model(parser, several_cuts=True)
    parser.add_argument('--data', nargs='+', required=True, help='fashion-mnist, or folders of images')
    parser.add_argument('--pixels', action='store_true', help="code the patches of an image as strategy selection sends them, instead of "
                                                              'tokens at a cut')
    parser.add_argument('--table-only', action='store_true',
                        help='leave the code as it is and measure again what its rates cost, with the recovery that lies beside it by now')
    parser.add_argument('--output', help='folder of the artifacts (default: the model folder)')
    parser.add_argument('--images', type=positive_int, help='drawn from all of them (default: 2000)')
    parser.add_argument('--gradient-images', type=positive_int, help='of these, for the metric (default: 512)')
    parser.add_argument('--ridge', type=positive, help='of the metric, against its mean eigenvalue (default: 0.1)')
    parser.add_argument('--views', type=positive_int, nargs='+', metavar='N',
                        help='random crops of each image, a number for each of --data (default: the images as they are)')
    parser.add_argument('--limits', type=positive_int, nargs='+', metavar='N',
                        help='images at most, a number for each of --data (default: all)')
    parser.add_argument('--seed', type=seed)
    add_overwrite(parser, 'codes of another configuration, and fit them anew')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    from evitif_lab.training.transform_code import CodeTraining, measure_again, train_code
    configuration = CodeTraining(**chosen(options, CodeTraining))
    if options.table_only and configuration.pixels:
        raise ValueError('--table-only is for the code of tokens: patches of an image have no such table')
    show(configuration)
    found = measure_again(configuration, command) if options.table_only else train_code(configuration, command, overwrite=options.overwrite)
    for description in found:
        tell(description)
    return 0


def tell(description: dict) -> None:
    """Print what the rates of a fitted code cost."""
    from evitif.pipeline.rate_table import FIGURES
    for kind, figures in description['figures'].items():
        if isinstance(figures, dict) and 'token_bytes' in figures:
            print(f'{kind} for {description["model"]} at cut {description["cut"]}: {figures["token_bytes"]} bytes a token, '
                  f'the same class as without for {100 * figures["training_agreement"]:.1f} % of the training images judged')
    if table := description['figures'].get(FIGURES):
        print(f'expected loss of top-1 in points, with {table["recovery"]} for what is lost: '
              + ', '.join(f'{kind} {100 * cost:.2f}' for kind, cost in table['coding'].items()) + '; without '
              + ', '.join(f'{100 * share:g} % of the patches {100 * cost:.2f}' for share, cost in table['lost'][1:]))
