"""`evitif evaluate partition`: what partitions reach, with devices gone and packets lost, and what a device costs."""

from __future__ import annotations

import argparse

from evitif_cli.arguments import configured
from evitif_lab.commands.configuration import add_options
from evitif_lab.evaluation.partition import PartitionEvaluation, evaluate_partitions
from evitif_lab.evaluation.partition_report import markdown, write_report
from evitif_lab.training.partition_baselines import judge_baselines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_options(parser, PartitionEvaluation)


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    configuration = configured(options, PartitionEvaluation)
    result = evaluate_partitions(configuration, command, judge_baselines)
    print(markdown(result))
    if configuration.json:
        print('', f'the figures are in {configuration.json}', *write_report(result, configuration.json), sep='\n')
    return 0
