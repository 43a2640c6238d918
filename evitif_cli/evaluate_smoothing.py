"""`evitif evaluate smoothing`: how much answers flicker on video, with and without the bridge's filter."""

from __future__ import annotations

import argparse

from evitif_cli.arguments import configured, show_report
from evitif_lab.commands.configuration import add_options
from evitif_lab.evaluation import smoothing
from evitif_lab.evaluation.smoothing import SmoothingEvaluation, evaluate_smoothing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_options(parser, SmoothingEvaluation)


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    configuration = configured(options, SmoothingEvaluation)
    show_report(evaluate_smoothing(configuration, command), smoothing, configuration.json)
    return 0
