"""Writes what arrives over a link as a trace that the link simulator plays (`link_trace`), a file for each session."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from evitif.protocol.arrivals import Arrivals
from evitif.transport.link_trace import COLUMNS

FILE_BYTES = 8 << 20        # of one file, a few minutes; then the next is begun
FILES = 8                   # of a robot that are kept, the newest
MOST_ROBOTS = 64            # at once; no further one is written
FLUSH_S = 1.0               # what may be lost with the power


class TraceWriter:
    """Takes `Arrivals` and writes them to `FOLDER/ROBOT-DIRECTION-NUMBER.csv`. What cannot be written is said once, and ends it.

    :param direction: 'uplink' or 'downlink': what arrives here
    :param say: gets a level and a sentence for the log
    :raises ValueError: the folder cannot be made
    """

    def __init__(self, folder: str, direction: str, say: Callable[[int, str], None], file_bytes: int = FILE_BYTES, files: int = FILES):
        self._folder, self._direction, self._say = Path(folder).expanduser(), direction, say
        self._file_bytes, self._most = file_bytes, files
        self._open: dict[str, _File] = {}
        self._ended = False
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f'trace_folder {folder!r}: the folder cannot be made: {error.strerror or error}') from None

    def __call__(self, arrivals: Arrivals) -> None:
        """Note datagrams."""
        if self._ended:
            return
        try:
            file = self._open.get(arrivals.robot)
            if file is None or file.session_id != arrivals.session_id or file.size >= self._file_bytes:
                file = self._begin(arrivals, file)
            if file is not None:
                file.write(arrivals)
        except (OSError, ValueError) as error:
            self._say(logging.ERROR, f'the trace of the link is no longer written to {self._folder}: '
                                     f'{getattr(error, "strerror", None) or error}')
            self.close()

    def close(self) -> None:
        """Close all files, and take nothing any more."""
        self._ended = True
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _begin(self, arrivals: Arrivals, former: _File | None) -> _File | None:
        if former is not None:
            former.close()
            del self._open[arrivals.robot]
        elif len(self._open) >= MOST_ROBOTS:
            return None
        name = re.sub(r'[^\w.-]', '_', arrivals.robot) or 'robot'
        pattern = re.compile(rf'{re.escape(name)}-{self._direction}-(\d+)\.csv')
        there = sorted((int(match[1]), path) for path in self._folder.iterdir() if (match := pattern.fullmatch(path.name)))
        for _, old in there[:max(0, len(there) - self._most + 1)]:
            old.unlink(missing_ok=True)
        path = self._folder / f'{name}-{self._direction}-{there[-1][0] + 1 if there else 1:04}.csv'
        file = self._open[arrivals.robot] = _File(path, arrivals)
        if not there:
            self._say(logging.INFO, f'the {self._direction} of {arrivals.robot} is written to {path}')
        return file


class _File:
    """One open file. Times are seconds since its first datagram: arrived on the receiver's clock, sent on the sender's."""

    def __init__(self, path: Path, first: Arrivals):
        self.session_id, self.size = first.session_id, 0
        self._arrived, self._sent = first.arrived_at, math.nan
        self._flush_at = first.arrived_at + FLUSH_S
        self._file: TextIO = path.open('w')
        self._file.write(f'{COLUMNS}\n')

    def write(self, arrivals: Arrivals) -> None:
        """Add a line for each datagram."""
        sent = ''
        if math.isfinite(arrivals.sent_at):
            self._sent = arrivals.sent_at if math.isnan(self._sent) else self._sent
            sent = f'{arrivals.sent_at - self._sent:.6f}'
        rest = f',{arrivals.arrived_at - self._arrived:.6f},{arrivals.size},{sent}\n'
        self.size += sum(self._file.write(f'{sequence}{rest}') for sequence in arrivals.sequences)
        if arrivals.arrived_at >= self._flush_at:
            self._file.flush()
            self._flush_at = arrivals.arrived_at + FLUSH_S

    def close(self) -> None:
        """Close it; a full disk does not matter any more."""
        try:
            self._file.close()
        except OSError:
            pass
