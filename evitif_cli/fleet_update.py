"""`evitif fleet update`: needs Ray (requirements/fleet.txt)."""

from __future__ import annotations

import argparse
import time
from typing import Any

import yaml

from evitif_fleet.configuration import read_configuration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument('configuration', metavar='FLEET.YAML')
    parser.add_argument('--version', required=True, metavar='NAME', help='what you call the new version')
    parser.add_argument('--model', metavar='NEW', help='model folder of the new version')
    parser.add_argument('--set', action='append', default=[], metavar='NAME=VALUE', dest='changes',
                        help='another setting of bridge_node that the new version has')


def run(options: argparse.Namespace, command: str) -> int:
    """Update and say how it goes; return the exit status: 0 when the fleet has the new version, 1 when it was taken back."""
    fleet = read_configuration(options.configuration)
    changes: dict[str, Any] = {} if options.model is None else {'model': options.model}
    for change in options.changes:
        name, equals, value = change.partition('=')
        if not equals:
            raise ValueError(f'--set {change!r}: expected NAME=VALUE')
        changes[name] = yaml.safe_load(value)
    from evitif_fleet import placement  # imports Ray
    print(placement.update(fleet, options.version, changes), flush=True)
    shown: list[str] = []
    while True:
        news = placement.news(fleet)
        for text in news['said']:
            if text not in shown:
                shown.append(text)
                print(text, flush=True)
        if news['updating'] is None:
            return 0 if news['version'] == options.version else 1
        time.sleep(1.0)
