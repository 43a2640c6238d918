"""`evitif evaluate recovery`: accuracy over packet loss, for several methods of recovery."""

from __future__ import annotations

import argparse

from evitif_cli.arguments import configured, show_report
from evitif_lab.commands.configuration import add_options
from evitif_lab.evaluation import report
from evitif_lab.evaluation.recovery import RecoveryEvaluation, evaluate_recovery


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_options(parser, RecoveryEvaluation)


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    configuration = configured(options, RecoveryEvaluation)
    show_report(evaluate_recovery(configuration, command), report, configuration.json)
    return 0
