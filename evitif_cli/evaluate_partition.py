"""`evitif evaluate partition`: what partitions reach, with devices gone and packets lost, and what a device costs."""

from __future__ import annotations

import argparse

from evitif_cli.arguments import configured, show_report
from evitif_lab.commands.configuration import add_options
from evitif_lab.evaluation import partition_report
from evitif_lab.evaluation.partition import PartitionEvaluation, evaluate_partitions
from evitif_lab.training.partition_baselines import judge_baselines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_options(parser, PartitionEvaluation)


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    configuration = configured(options, PartitionEvaluation)
    show_report(evaluate_partitions(configuration, command, judge_baselines), partition_report, configuration.json)
    return 0
