"""Make docs/benchmarks.md and the page of each part again: `evitif bench`, or in a few minutes, in reports/bench, `evitif bench --quick`.

Each part is a module (see `benchmarks.part`). A part that was measured already on this machine with these sources is not measured
again; an interrupted one goes on where it can. A part that cannot run here says why, and the others go on.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from benchmarks.part import LIBRARY, ROOT, PartError, as_json, from_json, machine, sources_digest
from benchmarks.suite_page import Measured, page_of, part_page
from evitif.files import read_json, write_json, write_text
from evitif_lab.plain import plain

# In the order of the page.
PARTS = (
    'benchmarks.link.end_to_end',
    'benchmarks.link.transport',
    'benchmarks.adaptive',
    'benchmarks.streams.accuracy_per_byte',
    'benchmarks.streams.video',
    'benchmarks.robots',
    'benchmarks.flood',
    'benchmarks.transport_calls',
    'benchmarks.sealing_cost',
    'benchmarks.recovery_cost',
)
# Measured when they are asked for by name, and on no page of the suite.
OTHER_PARTS = ('benchmarks.adviser', 'benchmarks.coded_tokens', 'benchmarks.coding_cost', 'benchmarks.congestion',
               'benchmarks.heads', 'benchmarks.images', 'benchmarks.path_changes', 'benchmarks.scaling',
               'benchmarks.streams.maps', 'benchmarks.timm_families', 'benchmarks.video_statistics')


def name_of(part: str) -> str:
    """A part's name: that of its module, its JSON and its `--only`."""
    return part.rpartition('.')[2]


def sentence_of(part: str) -> str:
    """What a part measures: the first line of its module, which is not imported for that."""
    path = (ROOT / part.replace('.', '/')).with_suffix('.py')
    return (ast.get_docstring(ast.parse(path.read_text())) or '').partition('\n')[0].rstrip('.') if path.is_file() else ''


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
    """The result of a part: that on disk where it stands, else a new one.

    :raises PartError: it cannot be measured here
    """
    name = name_of(part)
    try:
        module = importlib.import_module(part)
    except ImportError as error:
        raise PartError(f'{error}') from None
    identity = plain(identity_of(part, module, quick))
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


def run(*, quick: bool = False, only: Sequence[str] = (), again: bool = False, page: bool = False, output: Path | None = None) -> int:
    """Measure the parts and write the pages of all that are there; return the exit status, 1 where nothing could be measured.

    :param only: names of parts; empty for all
    :param again: measure even what was measured already
    :param page: measure nothing
    :param output: folder of the page (default: docs, or reports/bench where it is quick)
    """
    names = [name_of(part) for part in PARTS]
    for name in only:
        if name not in names:
            raise ValueError(f'there is no part {name!r} (expected some of {", ".join(names)})')
    folder = output or ROOT / ('reports/bench' if quick else 'docs')
    beside = quick or output is not None
    results, images = (folder, folder) if beside else (folder / 'results' / 'bench', folder / 'images')
    results.mkdir(parents=True, exist_ok=True)
    left_out = {}
    for part in PARTS:
        if page or only and name_of(part) not in only:
            continue
        try:
            measure(part, quick, results, again)
        except (PartError, ValueError, OSError) as error:
            left_out[name_of(part)] = str(error)
            print(f'{name_of(part)} was left out: {error}', file=sys.stderr, flush=True)
    parts = [part for part in (shown(part, results, images) for part in PARTS) if part is not None]
    if not parts:
        return 1
    for part in parts:
        write_text(results / part.page, part_page(part, Path(os.path.relpath(images, results))))
    path = folder / 'benchmarks.md'
    write_text(path, page_of(parts, 'make bench QUICK=1' if quick else 'make bench', left_out, results.relative_to(folder)))
    for part in parts:
        for entry in part.result['targets']:
            verdict = {True: 'holds', False: 'NOT REACHED', None: '-'}[entry['holds']]
            print(f'{verdict:>11}  {entry["name"]}: {entry["measured"]} (target: {entry["target"]})')
    print(f'the tables and plots are in {path}')
    return 0
