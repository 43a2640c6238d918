"""`evitif link`: a UDP relay with a bad link inside, between a robot and its bridge."""

from __future__ import annotations

import argparse

from evitif.transport import link_simulator


def add_parser(verbs) -> None:
    parser = verbs.add_parser('link', help='relay UDP with simulated loss, bursts, delay, …')
    link_simulator.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, command: str) -> int:
    return link_simulator.run(options)
