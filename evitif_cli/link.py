"""`evitif link`: a UDP relay with a bad link inside, between a robot and its bridge."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import signal
import sys
import threading
from collections.abc import Callable

from evitif.transport.addresses import TransportError, format_address, parse_address
from evitif.transport.impairment import FILE, KINDS, Impairment, check_setting
from evitif.transport.link_simulator import DIRECTIONS, LinkSimulator
from evitif_lab.commands.options import seed


def _address(text: str) -> tuple[str, int]:
    try:
        return parse_address(text)
    except TransportError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _setting_type(name: str, kind: str) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            return check_setting(name, kind, float(text))
        except ValueError:
            raise argparse.ArgumentTypeError(f'{text!r}: expected {KINDS[kind].expected}') from None
    return convert


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb: each setting for both directions, and again for one (`--uplink-loss`)."""
    parser.add_argument('--listen', type=_address, required=True, metavar='HOST:PORT', help='where robots send to')
    parser.add_argument('--forward', type=_address, required=True, metavar='HOST:PORT', help='where the bridge listens')
    parser.add_argument('--seed', type=seed, default=0, help='of the random numbers (default: %(default)s)')
    add_impairments(parser)


def add_impairments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a bad link: each setting for both directions, and again for one."""
    groups = {
        '': parser.add_argument_group('the link, in both directions'),
        'uplink-': parser.add_argument_group('robot to bridge, over the above'),
        'downlink-': parser.add_argument_group('bridge to robot, over the above'),
    }
    for prefix, group in groups.items():
        for field in dataclasses.fields(Impairment):
            file = field.metadata['kind'] == FILE
            general = f'{field.metadata["help"]} (default: {"none" if file else format(field.default, "g")})'
            group.add_argument(
                f'--{prefix}{field.name.replace("_", "-")}', type=str if file else _setting_type(field.name, field.metadata['kind']),
                metavar='FILE' if file else 'X', help=f'{field.name} of this direction' if prefix else general)


def impairments_of(arguments: argparse.Namespace) -> dict[str, Impairment]:
    """The impairment of each direction. Raises ValueError where loss and burst length do not go together."""
    result = {}
    for direction in DIRECTIONS:
        settings = {}
        for field in dataclasses.fields(Impairment):
            for value in (getattr(arguments, field.name), getattr(arguments, f'{direction}_{field.name}')):
                if value is not None:
                    settings[field.name] = value
        try:
            result[direction] = Impairment(**settings)
        except ValueError as error:
            raise ValueError(f'{direction}: {error}') from None
    return result


def run(arguments: argparse.Namespace, command: str) -> int:
    """Relay until SIGINT or SIGTERM, then print the counters; the exit status: 0, or 2 where it could not start."""
    logging.basicConfig(format='%(levelname)s %(message)s')
    try:
        impairments = impairments_of(arguments)
        simulator = LinkSimulator(arguments.listen, arguments.forward, seed=arguments.seed, **impairments)
        simulator.start()
    except (TransportError, ValueError) as error:
        print(f'link simulator: {error}', file=sys.stderr)
        return 2
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ends = format_address(simulator.local_address), format_address(arguments.forward)
    print('link simulator: {} to {}'.format(*ends), flush=True)
    while not ended.wait(3600.0):
        pass
    simulator.stop()
    for direction in DIRECTIONS:
        counts = dataclasses.asdict(simulator.counters(direction))
        print(f'{direction}: ' + ', '.join(f'{name} {count}' for name, count in counts.items()), flush=True)
    return 0
