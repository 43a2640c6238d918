"""The inputs that are kept for each target: one in base64 a line, so that they can be committed in one small file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent / 'corpus'


def read(target: str) -> list[bytes]:
    """The kept inputs of a target, none where there is no file."""
    path = FOLDER / f'{target}.txt'
    return [base64.b64decode(line) for line in path.read_text().splitlines()] if path.is_file() else []


def write(target: str, inputs: Iterable[bytes], limit: int) -> int:
    """Keep the shortest inputs whose lines take at most `limit` bytes together; returns how many."""
    lines, size = [], 0
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        line = base64.b64encode(data).decode()
        size += len(line) + 1
        if size > limit:
            break
        lines.append(line + '\n')
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f'{target}.txt').write_text(''.join(lines))
    return len(lines)


def unpack(target: str, folder: Path, more: Iterable[bytes] = ()) -> None:
    """Put the kept inputs and `more` into a folder, a file each, named as libFuzzer names them."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in (*read(target), *more):
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)
