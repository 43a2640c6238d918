"""`evitif link`: a UDP relay with a bad link inside, between a robot and its bridge."""

from __future__ import annotations

import argparse

from evitif.transport import link_simulator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    link_simulator.add_arguments(parser)


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    return link_simulator.run(options)
