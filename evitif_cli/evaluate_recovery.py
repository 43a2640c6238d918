"""`evitif evaluate recovery`: accuracy over packet loss, for several methods of recovery."""

from __future__ import annotations

import argparse

from evitif_cli.arguments import configured
from evitif_lab.commands.configuration import add_options
from evitif_lab.evaluation.recovery import RecoveryEvaluation, evaluate_recovery
from evitif_lab.evaluation.report import markdown, write_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_options(parser, RecoveryEvaluation)


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    configuration = configured(options, RecoveryEvaluation)
    result = evaluate_recovery(configuration, command)
    print(markdown(result))
    if configuration.json:
        print('', f'the figures are in {configuration.json}', *write_report(result, configuration.json), sep='\n')
    return 0
