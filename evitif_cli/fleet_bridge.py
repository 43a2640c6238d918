"""`evitif fleet bridge`: one bridge of a fleet as a process without ROS. SIGTERM sends its robots to the other bridges first."""

from __future__ import annotations

import argparse
import logging
import threading
from typing import Any

import yaml

from evitif.pipeline import BridgeRuntime
from evitif.settings import bridge_settings
from evitif_lab.commands.options import whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument('--directories', required=True, metavar='HOST:PORT,…', help='the directories of the fleet')
    parser.add_argument('--fleet-key', required=True, metavar='FILE', help='key of the fleet')
    parser.add_argument('--number', type=whole(1, 65_535), required=True, help='of this bridge in the fleet, which no other has')
    parser.add_argument('--set', action='append', default=[], metavar='NAME=VALUE', dest='changes',
                        help='a setting of bridge_node, again and again: model=…, cut=…, key_file=…, port=…')
    parser.add_argument('--strategy', default='split', help='(default: %(default)s)')


def run(options: argparse.Namespace, command: str) -> int:
    """Serve until SIGINT or SIGTERM; return the exit status."""
    logging.basicConfig(format='%(levelname)s %(message)s', level=logging.INFO)
    values: dict[str, Any] = {'bridge_name': f'bridge-{options.number}', 'directories': options.directories, 'fleet_key': options.fleet_key,
                              'bridge_number': options.number}
    for change in options.changes:
        name, equals, value = change.partition('=')
        if not equals:
            raise ValueError(f'--set {change!r}: expected NAME=VALUE')
        values[name] = yaml.safe_load(value)
    try:
        settings = bridge_settings(options.strategy, **values)
    except TypeError as error:
        raise ValueError(f'--set: {error}; expected settings of bridge_node') from None
    bridge = BridgeRuntime(settings, on_prediction=lambda robot, prediction: None)
    bridge.start()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        if not bridge.drain():
            logging.warning('some robots are still here: no other bridge took them')
        bridge.stop()
    return 0
