"""What the parts of the benchmark have in common: the machine, targets, spread, and the JSON that each part writes.

A part is a module whose first line says what it measures, with

- `run(quick, output) -> dict`, which measures and writes `<name>.json` by `save`;
- `TITLE`, and `section(result, images) -> str`: its own page in Markdown, with plots drawn into the folder `images`.

It may also have

- `summary(result) -> str`: the table of it that docs/benchmarks.md shows;
- `QUICK`: a sentence on what is less with `--quick`;
- `add_options(parser)`: options of its own, which are further parameters of `run`;
- `SOURCES`: folders and files of the repository on which its figures depend, besides its own folder.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from evitif.files import write_json

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ('evitif/transport', 'evitif/protocol', 'evitif/pipeline')      # what the figures of every part depend on


class PartError(Exception):
    """A part cannot be measured here; the text says why."""


def machine() -> dict:
    """What the figures were measured on."""
    return {'processor': processor(), 'cpus': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(),
            'system': f'{platform.system()} {platform.release()}', 'architecture': platform.machine(),
            'python': platform.python_version()}


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')), platform.processor())


def sources_digest(folders: Iterable[str]) -> str:
    """What the Python sources in these folders and files of the repository are, in 16 digits."""
    digest = hashlib.sha256()
    for path in sorted({path for folder in folders for path in _sources(ROOT / folder)}):
        digest.update(str(path.relative_to(ROOT)).encode() + b'\0' + path.read_bytes() + b'\0')
    return digest.hexdigest()[:16]


def _sources(path: Path) -> list[Path]:
    if path.is_dir():
        # Pages and plots show figures; they do not make them.
        return [file for file in path.rglob('*.py') if not file.name.endswith('_page.py')]
    return [path]


def target(name: str, expected: str, measured: str, holds: bool | None, note: str = '') -> dict:
    """One target: what it asks for, what was measured, and whether it holds (None: it could not be judged)."""
    return {'name': name, 'target': expected, 'measured': measured, 'holds': None if holds is None else bool(holds), 'note': note}


def save(output: Path, name: str, command: str, figures: dict, targets: list[dict] | tuple = (), **more) -> dict:
    """Write `<output>/<name>.json` and return what is in it."""
    result = {'name': name, 'command': command, 'machine': machine(), **more, 'targets': list(targets), 'figures': figures}
    write_json(output / f'{name}.json', as_json(result))
    return result


def as_json(value: Any) -> Any:
    """`value` with words for what JSON has no number for: 'inf' (an answer that never came) and 'nan' (nothing was counted)."""
    if isinstance(value, dict):
        return {key: as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def from_json(value: Any) -> Any:
    """What `as_json` was given."""
    if isinstance(value, dict):
        return {key: from_json(one) for key, one in value.items()}
    if isinstance(value, list):
        return [from_json(one) for one in value]
    return float(value) if value in ('inf', '-inf', 'nan') else value


def command(name: str, quick: bool = False, **options: object) -> str:
    """The command that makes the part `name` alone."""
    return ' '.join(['evitif bench', name, *(f'--{key} {value}' for key, value in options.items()), *(['--quick'] if quick else [])])


def percentile(values: list[float | None], share: float) -> float:
    """
    The smallest value that at least `share` of all are not above (nearest rank); None, no answer, is above all others.

    :param share: above 0, at most 1
    :return: inf where that is an answer that never came, NaN without values
    """
    if not values:
        return math.nan
    ordered = sorted(math.inf if value is None else value for value in values)
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


def ratio_interval95(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a ratio (Wilson, JASA 1927); (0, 1) where nothing was counted."""
    if not count:
        return 0.0, 1.0
    z = 1.959964
    share, scale = hits / count, 1 + z * z / count
    middle = (share + z * z / (2 * count)) / scale
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)


def print_part(name: str, measure: Callable[[], dict], section: Callable[[dict, Path], str], output: Path) -> int:
    """Measure a part and print it and its targets; the exit status, 1 where it cannot be measured here."""
    try:
        result = measure()
    except PartError as error:
        print(f'{name}: {error}')
        return 1
    print(section(result, output))
    for entry in result['targets']:
        print(f'{entry["name"]}: {entry["measured"]} (target: {entry["target"]})')
    return 0
