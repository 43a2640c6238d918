"""`evitif fuzz`: coverage-guided fuzzing of every parser and state machine; needs the source tree (`make fuzz`)."""

from __future__ import annotations

import argparse
from pathlib import Path

from evitif_cli.tree import from_sources
from evitif_lab.commands.options import positive_int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this verb."""
    parser.add_argument('--minutes', type=positive_int, default=16, help='over all targets (default: %(default)s)')
    parser.add_argument('--keep', action='store_true', help='write the inputs that cover something into fuzz/corpus')
    parser.add_argument('--output', type=Path, default=Path('reports/fuzz'), help='(default: %(default)s)')


def run(options: argparse.Namespace, command: str) -> int:
    """Return the exit status: 1 where an input failed."""
    return from_sources('fuzz.run').fuzz_all(options.minutes, options.keep, options.output)
