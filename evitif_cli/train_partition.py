"""`evitif train partition`: divide a model by class among several devices."""

from __future__ import annotations

import argparse

from evitif_cli.arguments import add_overwrite, configured
from evitif_lab.commands.configuration import add_options
from evitif_lab.training.partition import train_partition
from evitif_lab.training.partition_settings import PartitionTraining


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    add_options(parser, PartitionTraining)
    add_overwrite(parser, 'what another training began or made')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    train_partition(configured(options, PartitionTraining), command, options.overwrite)
    return 0
