"""`evitif evaluate selection`: accuracy over cost, bytes and loss of a light and a large model together."""

from __future__ import annotations

import argparse

from evitif_cli.arguments import configured, show_report
from evitif_lab.commands.configuration import add_options
from evitif_lab.evaluation import selection_report
from evitif_lab.evaluation.selection import SelectionEvaluation, evaluate_selection


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_options(parser, SelectionEvaluation)


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    configuration = configured(options, SelectionEvaluation)
    show_report(evaluate_selection(configuration, command), selection_report, configuration.json)
    return 0
