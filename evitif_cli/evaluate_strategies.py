"""`evitif evaluate strategies`: what was measured of the strategies, side by side."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument('--results', type=Path, metavar='DIR', help='folder with recovery/ and selection/ (default: docs/results)')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status."""
    from evitif_lab.evaluation.strategies import RESULTS, compare_all
    print(compare_all(options.results or RESULTS))
    return 0
