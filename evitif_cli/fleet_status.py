"""`evitif fleet status`: asks the directory; it needs no Ray."""

from __future__ import annotations

import argparse

from evitif.protocol.sealing.keys import read_secret
from evitif.protocol.sealing.tickets import FleetKey
from evitif_fleet.admin import ask
from evitif_fleet.configuration import read_configuration
from evitif_fleet.shown import table_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument('configuration', metavar='FLEET.YAML')


def run(options: argparse.Namespace, command: str) -> int:
    """Print the bridges; return the exit status."""
    fleet = read_configuration(options.configuration)
    print(table_of(ask(fleet.admin, FleetKey(read_secret(fleet.fleet_key, 'fleet_key')), '/status')))
    return 0
