"""`evitif fleet down`: needs Ray (requirements/fleet.txt)."""

from __future__ import annotations

import argparse

from evitif_fleet.configuration import read_configuration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument('configuration', metavar='FLEET.YAML')


def run(options: argparse.Namespace, command: str) -> int:
    """End a fleet; return the exit status."""
    fleet = read_configuration(options.configuration)
    from evitif_fleet import placement  # imports Ray
    print(placement.down(fleet))
    return 0
