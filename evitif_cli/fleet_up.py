"""`evitif fleet up`: needs Ray (requirements/fleet.txt)."""

from __future__ import annotations

import argparse

from evitif_fleet.configuration import read_configuration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument('configuration', metavar='FLEET.YAML')


def run(options: argparse.Namespace, command: str) -> int:
    """Start directory and bridges, or leave what runs of them; return the exit status."""
    fleet = read_configuration(options.configuration)
    from evitif_fleet import placement  # imports Ray
    print(placement.up(fleet))
    return 0
