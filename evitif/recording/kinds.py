"""What is a recording, by what is there: this needs no library that reads bags."""

from __future__ import annotations

import re
from pathlib import Path

from evitif.recording.errors import RecordingError

MCAP, ROS1, SQLITE, ZSTD = b'\x89MCAP0\r\n', b'#ROSBAG V', b'SQLite format 3\0', b'\x28\xb5\x2f\xfd'
SUFFIXES = {MCAP: '.mcap', ROS1: '.bag', SQLITE: '.db3'}
METADATA = 'metadata.yaml'      # of a rosbag2 folder


def is_recording(source: str) -> bool:
    """Whether `source` is a bag, or a bag and a topic (`rover.mcap:/camera/image_raw`), by what is there."""
    path = split_source(source)[0]
    if path.is_dir():
        return (path / METADATA).is_file() or bool(files_of(path))
    return path.is_file() and magic_of(path) is not None


def split_source(source: str) -> tuple[Path, str]:
    """`rover.mcap:/camera/image_raw` as its path and its topic ('' where none is given)."""
    whole = Path(source).expanduser()
    if ':' not in source or whole.exists():
        return whole, ''
    path, _, topic = source.rpartition(':')
    return Path(path).expanduser(), topic


def magic_of(path: Path) -> bytes | None:
    """What a file begins with, of the kinds that are read; None: another one. Raises RecordingError where it cannot be opened."""
    try:
        with path.open('rb') as file:
            start = file.read(16)
    except OSError as error:
        raise RecordingError(f'{path} cannot be opened: {error.strerror}') from None
    return next((magic for magic in (*SUFFIXES, ZSTD) if start.startswith(magic)), None)


def files_of(folder: Path) -> list[Path]:
    """The files of a bag, in the order of their numbers (bag_2 before bag_10)."""
    found = [path for path in folder.iterdir() if path.suffix in ('.mcap', '.db3') and path.is_file()]
    return sorted(found, key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', path.name)])
