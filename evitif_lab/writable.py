"""Whether results can be written, asked before hours of work."""

from __future__ import annotations

import os
from pathlib import Path

from evitif.files import WriteError, remove, write_error


def require_writable(folder: Path | str) -> None:
    """Raise WriteError unless files can be written into `folder`, which may be missing yet; nothing is left behind."""
    folder, made = Path(folder), []
    try:
        for part in reversed([folder, *folder.parents]):
            if not part.is_dir():
                part.mkdir()
                made.append(part)
        trial = folder / f'.writable-{os.getpid()}'
        try:
            trial.write_bytes(b'\0')
        finally:
            remove(trial)
    except OSError as error:
        raise write_error(folder, error) from None
    finally:
        for part in reversed(made):
            try:
                part.rmdir()
            except OSError:
                pass


def require_writable_file(path: Path | str) -> None:
    """Raise WriteError unless the file `path` can be written or replaced."""
    if Path(path).is_dir():
        raise WriteError(f'{path} cannot be written: it is a folder, and a file is expected')
    require_writable(Path(path).parent)
