"""What a fleet needs, computed from what one bridge was measured to do (robots.json).

With w the worker's and o the other threads' processor time for a frame, both in seconds, and b a frame's bytes:

    frames/s of one bridge   F = 1 / max(w, o)                  with two cores: the worker has one, receiving the other
    first to saturate        the worker where w > o, else the receiving thread
    bridges for N robots     N r / (L F)                        r frames/s each, at a load of L = 0.7
    cores                    N r (w + o) / L
    network, bit/s           8 N r (b + 28 bytes of IP and UDP header for each datagram)
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from benchmarks.part import ROOT, PartError, command
from evitif.files import read_json, write_json, write_text
from evitif_lab.commands.options import positive, positive_int

TITLE = 'What a fleet needs'
MEASURED = ROOT / 'docs' / 'results' / 'bench' / 'robots.json'
LOAD = 0.7              # beyond which waiting times grow fast
HEADERS = 28 / 1200     # of a datagram's payload
COLUMNS = {'model': 'model', 'cut': 'cut', 'tokens': 'tokens', 'measured_with': 'measured with so many robots', 'batch': 'batch',
           'worker_ms': 'worker, ms a frame', 'other_ms': 'other threads, ms a frame', 'bridge_hz': 'one bridge, frames/s',
           'bridge_robots': 'one bridge, robots', 'first_to_saturate': 'full first', 'bridges': 'bridges', 'cores': 'cores',
           'gbit_s': 'network, Gbit/s'}


def needs(cell: dict, robots: int, rate: float) -> dict:
    """Of a fleet, from one measured cell of robots.json."""
    worker, other = cell['worker_ms'] / 1e3, cell['other_ms'] / 1e3
    frames_hz = 1 / max(worker, other)
    return {'model': cell['model'], 'cut': cell['cut'], 'tokens': cell['tokens'], 'measured_with': cell['robots'], 'batch': cell['batch'],
            'worker_ms': cell['worker_ms'], 'other_ms': cell['other_ms'], 'bridge_hz': round(frames_hz, 1),
            'bridge_robots': math.floor(LOAD * frames_hz / rate), 'first_to_saturate': 'worker' if worker > other else 'receiving',
            'bridges': math.ceil(robots * rate / (LOAD * frames_hz)), 'cores': math.ceil(robots * rate * (worker + other) / LOAD),
            'gbit_s': round(8e-9 * robots * rate * cell['frame_bytes'] * (1 + HEADERS), 2)}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `evitif bench scaling`."""
    parser.add_argument('--robots', type=positive_int, default=10_000, help='(default: %(default)s)')
    parser.add_argument('--rate', type=positive, default=10.0, help='frames/s of each robot (default: %(default)g)')
    parser.set_defaults(output=ROOT / 'docs' / 'results')


def run(output: Path, robots: int, rate: float) -> dict:
    """Compute, and write scaling.json and scaling.md.

    :raises PartError: no bridge was measured
    """
    try:
        measured = read_json(MEASURED)
        rows = [needs(cell, robots, rate) for cell in measured['figures']['cells']]
    except (OSError, ValueError, KeyError) as error:
        raise PartError(f'{MEASURED} cannot be used: {error!r}; expected what `evitif bench --only robots` writes') from None
    report = {'command': command('scaling', robots=robots, rate=f'{rate:g}'), 'robots': robots, 'rate': rate, 'load': LOAD,
              'measured_by': measured['command'], 'machine': measured['machine'], 'targets': [], 'needs': rows}
    write_json(output / 'scaling.json', report)
    write_text(output / 'scaling.md', section(report, output))
    return report


def section(result: dict, _images: Path) -> str:
    """The page, in Markdown."""
    return '\n'.join([
        f'# {result["robots"]:,} robots at {result["rate"]:g} frames a second', '',
        f'Computed by `{result["command"]}` from what `{result["measured_by"]}` measured on {result["machine"]["processor"]}, at a load of '
        f'{100 * LOAD:g} %.', '', '| ' + ' | '.join(COLUMNS.values()) + ' |', '| --- |' + ' ---: |' * (len(COLUMNS) - 1),
        *('| ' + ' | '.join(str(row[name]) for name in COLUMNS) + ' |' for row in result['needs']), ''])
