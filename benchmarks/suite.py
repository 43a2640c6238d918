"""Make docs/benchmarks.md and the page of each part again: `make bench`, or in a few minutes, in reports/bench, `make bench QUICK=1`.

Each part is a module of `PARTS` (see `benchmarks.part`). What has been measured already on this machine with these sources is not
measured again, and a part that was interrupted goes on where it can. A part that cannot run here says why, and the others go on.

    python -m benchmarks.suite [--quick] [--only NAME …] [--again | --page]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

from benchmarks.part import LIBRARY, ROOT, PartError, as_json, from_json, machine, sources_digest
from benchmarks.suite_page import Measured, page, part_page
from evitif.files import read_json, write_json

# In the order of the page.
PARTS = (
    'benchmarks.link.end_to_end',
    'benchmarks.link.transport',
    'benchmarks.adaptive',
    'benchmarks.link.accuracy_per_byte',
    'benchmarks.robots',
    'benchmarks.flood',
    'benchmarks.transport_calls',
    'benchmarks.sealing_cost',
    'benchmarks.recovery_cost',
)


def name_of(part: str) -> str:
    """A part's name: that of its module, its JSON and its `--only`."""
    return part.rpartition('.')[2]


def identity_of(part: str, module: ModuleType, quick: bool) -> dict:
    """What has to be the same for figures to stand: the extent, the machine, and the sources that they come from."""
    own = Path(*part.split('.'))
    folders = (*LIBRARY, *getattr(module, 'SOURCES', ()), *([str(own.parent)] if own.parent.name != 'benchmarks' else []), f'{own}.py')
    return {'quick': quick, 'machine': machine(), 'sources': sources_digest(folders)}


def read_result(path: Path) -> dict | None:
    """A part's result on disk, or None where there is none or it cannot be read."""
    try:
        result = from_json(read_json(path))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and 'figures' in result else None


def measure(part: str, quick: bool, results: Path, again: bool = False) -> dict:
    """
    The result of a part: that on disk where it stands, else a new one.

    :raises PartError: it cannot be measured here
    """
    name = name_of(part)
    try:
        module = importlib.import_module(part)
    except ImportError as error:
        raise PartError(f'{error}') from None
    identity = json.loads(json.dumps(identity_of(part, module, quick)))
    earlier = read_result(results / f'{name}.json')
    if earlier is not None and earlier.get('identity') == identity and not again:
        print(f'{name}: measured already', flush=True)
        return earlier
    print(f'{name}: {getattr(module, "TITLE", name)}', flush=True)
    began = time.monotonic()
    result = {**module.run(quick, results), 'identity': identity, 'seconds': round(time.monotonic() - began, 1)}
    write_json(results / f'{name}.json', as_json(result))
    return result


def shown(part: str, results: Path, images: Path) -> Measured | None:
    """What a part has to show of its result on disk, its plots drawn into `images`; None where there is no result."""
    name = name_of(part)
    result = read_result(results / f'{name}.json')
    if result is None:
        return None
    module = importlib.import_module(part)
    section, summary = (getattr(module, function, None) for function in ('section', 'summary'))
    return Measured(getattr(module, 'TITLE', name), result, section(result, images) if section else None,
                    summary(result) if summary else None)


def run(options: argparse.Namespace, command: str) -> int:
    """Measure the parts that are asked for and write the pages of all that are there; return the exit status."""
    names = [name_of(part) for part in PARTS]
    for name in options.only:
        if name not in names:
            raise ValueError(f'there is no part {name!r} (expected some of {", ".join(names)})')
    folder = Path(options.output) if options.output else ROOT / ('reports/bench' if options.quick else 'docs')
    beside = options.quick or bool(options.output)
    results, images = (folder, folder) if beside else (folder / 'results' / 'bench', folder / 'images')
    results.mkdir(parents=True, exist_ok=True)
    left_out = {}
    for part in PARTS:
        if options.page or options.only and name_of(part) not in options.only:
            continue
        try:
            measure(part, options.quick, results, options.again)
        except (PartError, ValueError, OSError) as error:
            left_out[name_of(part)] = str(error)
            print(f'{name_of(part)} was left out: {error}', file=sys.stderr, flush=True)
    parts = [part for part in (shown(part, results, images) for part in PARTS) if part is not None]
    if not parts:
        return 1
    for part in parts:
        (results / part.page).write_text(part_page(part, Path(os.path.relpath(images, results))))
    path = folder / 'benchmarks.md'
    path.write_text(page(parts, command, left_out, results.relative_to(folder)))
    for part in parts:
        for entry in part.result['targets']:
            verdict = {True: 'holds', False: 'NOT REACHED', None: '-'}[entry['holds']]
            print(f'{verdict:>11}  {entry["name"]}: {entry["measured"]} (target: {entry["target"]})')
    print(f'the tables and plots are in {path}')
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0, 1 where nothing could be measured, 130 after an interruption."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog='python -m benchmarks.suite', description=__doc__.partition('\n')[0])
    parser.add_argument('--quick', action='store_true', help='less of everything, into reports/bench')
    parser.add_argument('--only', nargs='+', default=[], metavar='NAME', help=f'of {", ".join(map(name_of, PARTS))}')
    parser.add_argument('--again', action='store_true', help='measure even what was measured already')
    parser.add_argument('--page', action='store_true', help='measure nothing; write the pages of what was measured')
    parser.add_argument('--output', metavar='DIR', help='(default: docs, or reports/bench with --quick)')
    options = parser.parse_args(arguments)
    # As Ctrl-C, so that what was begun is cleaned up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(options, 'make bench QUICK=1' if options.quick else 'make bench')
    except ValueError as error:
        print(f'bench: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('bench: interrupted; run the same command again to go on', file=sys.stderr)
        return 130


if __name__ == '__main__':
    sys.exit(main())
