"""`evitif evaluate selection`: accuracy over cost, bytes and loss of a light and a large model together."""

from __future__ import annotations

import argparse

from evitif_cli.arguments import chosen, show
from evitif_cli.calibrate import add_pair
from evitif_lab.commands.options import not_negative, positive_int, rate, share


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_pair(parser)
    parser.add_argument('--data', required=True, help='a folder in the ImageFolder layout')
    parser.add_argument('--artifact', metavar='JSON', help="what was calibrated (default: selection.json in the light model's folder)")
    parser.add_argument('--delta', type=rate, nargs='+', help='to sweep (default: 0.5 0.7 0.85 0.95 1)')
    parser.add_argument('--eta', type=not_negative, nargs='+', help='to sweep (default: those that ask about 10 to 100 %% of the images)')
    parser.add_argument('--quantisation', nargs='+', metavar='KIND', help='of patches, to sweep (default: pixels klt1 klt1.5 klt2)')
    parser.add_argument('--loss', type=share, nargs='+', metavar='RATE', help='packet error rates beside 0 (default: 0.3 0.6)')
    parser.add_argument('--seeds', type=positive_int, help='repetitions where there is chance (default: 5)')
    parser.add_argument('--images', type=positive_int, help='judge by so many images, drawn over all classes (default: all)')
    parser.add_argument('--json', metavar='FILE', help='write the figures there, and beside it a table (.md) and a plot (.png); an '
                                                       'interrupted measurement goes on from there')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    from evitif_lab.evaluation.selection import SelectionEvaluation, evaluate_selection
    from evitif_lab.evaluation.selection_report import markdown, write_report
    configuration = SelectionEvaluation(**chosen(options, SelectionEvaluation))
    show(configuration)
    result = evaluate_selection(configuration, command)
    print(markdown(result))
    if configuration.json:
        print('', f'the figures are in {configuration.json}', *write_report(result, configuration.json), sep='\n')
    return 0
