"""`evitif evaluate heads`: masks or depth over packet loss, for several methods of recovery."""

from __future__ import annotations

import argparse

from evitif_cli.arguments import configured, show_report
from evitif_lab.commands.configuration import add_options
from evitif_lab.evaluation import heads_report
from evitif_lab.evaluation.heads import HeadEvaluation, evaluate_heads


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_options(parser, HeadEvaluation)


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    configuration = configured(options, HeadEvaluation)
    show_report(evaluate_heads(configuration, command), heads_report, configuration.json)
    return 0
