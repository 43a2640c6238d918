"""What a fleet needs, computed from what one bridge was measured to do (robots.json).

    python -m benchmarks.scaling [--robots N] [--rate HZ] [--measured FILE] [--output FOLDER]

With w the worker's and o the other threads' processor time for a frame, both in seconds, and b a frame's bytes:

    frames/s of one bridge   F = 1 / max(w, o)                  with two cores: the worker has one, receiving the other
    first to saturate        the worker where w > o, else the receiving thread
    bridges for N robots     N r / (L F)                        r frames/s each, at a load of L = 0.7
    cores                    N r (w + o) / L
    network, bit/s           8 N r (b + 28 bytes of IP and UDP header for each datagram)
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from evitif.files import write_json
from evitif_lab.commands.options import positive, positive_int

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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='scaling', description=__doc__.splitlines()[0])
    parser.add_argument('--robots', type=positive_int, default=10_000)
    parser.add_argument('--rate', type=positive, default=10.0, help='frames/s of each robot (default: %(default)s)')
    parser.add_argument('--measured', type=Path, default=Path('docs/results/bench/robots.json'))
    parser.add_argument('--output', type=Path, default=Path('docs/results'))
    options = parser.parse_args(arguments)
    try:
        measured = json.loads(options.measured.read_text())
        rows = [needs(cell, options.robots, options.rate) for cell in measured['figures']['cells']]
    except (OSError, ValueError, KeyError) as error:
        parser.error(f'{options.measured} cannot be used: {error!r}; expected what `python -m benchmarks.robots` writes')
    report = {'command': f'python -m benchmarks.scaling --robots {options.robots} --rate {options.rate:g}', 'load': LOAD,
              'measured_by': measured['command'], 'machine': measured['machine'], 'needs': rows}
    write_json(options.output / 'scaling.json', report)
    lines = [f'# {options.robots:,} robots at {options.rate:g} frames a second', '',
             f'Computed by `{report["command"]}` from what `{measured["command"]}` measured on {measured["machine"]["processor"]}, at a '
             f'load of {100 * LOAD:g} %.', '', '| ' + ' | '.join(COLUMNS.values()) + ' |', '| --- |' + ' ---: |' * (len(COLUMNS) - 1),
             *('| ' + ' | '.join(str(row[name]) for name in COLUMNS) + ' |' for row in rows), '']
    (options.output / 'scaling.md').write_text('\n'.join(lines))
    print('\n'.join(lines))
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
