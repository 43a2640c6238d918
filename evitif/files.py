"""Files that are written whole or not at all, and JSON that any program can read.

A file is written under another name and then renamed in one step: a reader finds the old file or the new one, even after a power cut or
on a full disk.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evitif.wording import reason_of

NEW = '.new'            # behind the name of a file that is being written


class WriteError(OSError):
    """A file that cannot be written; the message names it, and the free space if the disk is full."""


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A path to write to; its file replaces `path` if the block succeeds, else it is deleted. Makes missing folders. Raises WriteError."""
    path = Path(path)
    new = path.with_name(path.name + NEW)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield new
        with open(new, 'rb') as file:
            os.fsync(file.fileno())     # else a power failure may leave an empty file under the new name
        new.replace(path)
    except BaseException as error:
        remove(new)
        # A writer in another language raises its own error after the system's.
        cause = _first_os_error(error) if isinstance(error, Exception) else None
        if cause is None or isinstance(error, WriteError):
            raise
        raise write_error(path, cause) from None


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write a file, whole or not at all. Raises WriteError."""
    with replacing(path) as new:
        new.write_bytes(content)


def write_text(path: Path | str, text: str) -> None:
    """Write a file in UTF-8, whole or not at all. Raises WriteError."""
    write_bytes(path, text.encode())


def write_json(path: Path | str, content: dict) -> None:
    """Write strict JSON. Raises WriteError; ValueError, naming file and key, for a number that is NaN or infinite."""
    write_text(path, json_text(path, content))


def json_text(path: Path | str, content: dict) -> str:
    """Strict JSON for the file `path`. Raises ValueError, naming file and key, for a number that is NaN or infinite."""
    require_finite(content, f'{path} is not written')
    return json.dumps(content, indent=2, allow_nan=False) + '\n'


def parse_json(text: str | bytes) -> Any:
    """Parse strict JSON. Raises ValueError, for NaN and Infinity too."""
    def refuse(constant: str) -> None:
        raise ValueError(f'{constant} is no number in JSON')
    return json.loads(text, parse_constant=refuse)


def read_json(path: Path | str) -> Any:
    """What is in a file of strict JSON; `typed_json.typed` checks it. Raises OSError; ValueError, naming the file."""
    try:
        return parse_json(Path(path).expanduser().read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path}: not valid JSON: {reason_of(error)}') from None


def require_finite(content: object, title: str) -> None:
    """Raise ValueError, with `title` and the key, where a number in `content` (JSON values, tensors, arrays) is NaN or infinite."""
    if (found := not_finite(content)) is not None:
        raise ValueError(f'{title}: {found}')


def not_finite(content: object, name: str = '') -> str | None:
    """The first number that is NaN or infinite, with its key; None where all are finite."""
    if isinstance(content, float):
        return None if math.isfinite(content) else f'{name or "a number"} is {content}'
    if isinstance(content, dict):
        parts = ((f'{name}.{key}' if name else str(key), value) for key, value in content.items())
    elif isinstance(content, list | tuple):
        parts = ((f'{name}[{index}]', value) for index, value in enumerate(content))
    else:
        return _not_finite_in(content, name)
    return next((found for key, value in parts if (found := not_finite(value, key)) is not None), None)


def _not_finite_in(array: Any, name: str) -> str | None:
    """The same for a tensor or an array, without importing either library."""
    if hasattr(array, 'isfinite'):                                          # a tensor
        whole = not array.is_floating_point() or bool(array.isfinite().all())
    elif getattr(getattr(array, 'dtype', None), 'kind', '') == 'f':         # an array
        whole = math.isfinite(float(abs(array).max())) if array.size else True
    else:
        return None
    return None if whole else f'the tensor {name} has values that are NaN or infinite'


def write_error(path: Path, error: OSError) -> WriteError:
    """Why `path` cannot be written, by the system's error."""
    room = ''
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        there = next(parent for parent in path.absolute().parents if parent.exists())
        room = f' ({shutil.disk_usage(there).free / 2**20:.1f} MiB are free on the disk of {there})'
    # The system's message does not say that a parent folder is a file.
    file = next((parent for parent in (path, *path.parents) if parent.exists() and not parent.is_dir()), None)
    reason = f'{file} is a file, and a folder is expected' if file and error.errno in (errno.EEXIST, errno.ENOTDIR) else reason_of(error)
    return WriteError(f'{path} cannot be written: {reason}{room}')


def _first_os_error(error: BaseException | None) -> OSError | None:
    while error is not None:
        if isinstance(error, OSError):
            return error
        error = error.__cause__ or error.__context__
    return None


def remove(path: Path) -> None:
    """Delete a file that may be gone already, or that cannot be deleted."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        pass
