"""`evitif soak`: a robot and a bridge over a bad link for as long as it takes; needs the source tree (`make soak`)."""

from __future__ import annotations

import argparse
from pathlib import Path

from evitif_cli.tree import from_sources
from evitif_lab.commands.options import positive, positive_int, seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument('--frames', type=positive_int, default=100_000, help='(default: %(default)s)')
    parser.add_argument('--rate', type=positive, default=60.0, help='frames/s (default: %(default)s)')
    parser.add_argument('--seed', type=seed, default=0)
    parser.add_argument('--quick', action='store_true', help='2,000 frames, 8 restarts, one cut of 4 s')
    parser.add_argument('--output', type=Path, default=Path('reports/soak'), help='(default: %(default)s)')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status: 1 where a target was missed."""
    soak = from_sources('benchmarks.soak')
    plan = soak.QUICK if options.quick else soak.Plan(options.frames)
    report = soak.run(plan, rate=options.rate, seed=options.seed, folder=options.output.resolve())
    from_sources('benchmarks.soak_report').write_report({**report, 'command': command}, options.output)
    return int(not all(target['holds'] for target in report['targets']))
