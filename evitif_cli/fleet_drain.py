"""`evitif fleet drain`: asks the directory; it needs no Ray."""

from __future__ import annotations

import argparse

from evitif.protocol.sealing.keys import read_secret
from evitif.protocol.sealing.tickets import FleetKey
from evitif_fleet.admin import ask
from evitif_fleet.configuration import read_configuration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument('configuration', metavar='FLEET.YAML')
    parser.add_argument('bridge', metavar='NAME', help='as `evitif fleet status` shows it')
    parser.add_argument('--undo', action='store_true', help='let it take robots again')


def run(options: argparse.Namespace, command: str) -> int:
    """Send a bridge's robots elsewhere; return the exit status."""
    fleet = read_configuration(options.configuration)
    key = FleetKey(read_secret(fleet.fleet_key, 'fleet_key'))
    print(ask(fleet.admin, key, '/drain', bridge=options.bridge, on='0' if options.undo else '1')['said'])
    return 0
