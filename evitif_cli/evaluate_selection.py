"""`evitif evaluate selection`: accuracy over cost, bytes and loss of a light and a large model together."""

from __future__ import annotations

import argparse

from evitif_cli.arguments import configured
from evitif_lab.commands.configuration import add_options
from evitif_lab.evaluation.selection import SelectionEvaluation, evaluate_selection
from evitif_lab.evaluation.selection_report import markdown, write_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_options(parser, SelectionEvaluation)


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    configuration = configured(options, SelectionEvaluation)
    result = evaluate_selection(configuration, command)
    print(markdown(result))
    if configuration.json:
        print('', f'the figures are in {configuration.json}', *write_report(result, configuration.json), sep='\n')
    return 0
