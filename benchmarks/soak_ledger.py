"""What became of each frame of a soak, in a file that several processes write and that outlives those that are killed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

# Outcomes of a frame. SUBMITTED stays with those that were replaced by a newer image, had no session and no fallback, or were on
# their way when their edge was killed.
NOT_YET, SUBMITTED, ANSWERED, LOCAL, EXPIRED = range(5)

FRAME = np.dtype([('outcome', 'u1'), ('predictions', 'u1'), ('wrong', 'u1'), ('life', 'u2'), ('submitted_at', 'f8'), ('ended_at', 'f8')])
# Of one life of the edge or the bridge; times are of the monotonic clock, which all processes of a machine share.
LIFE = np.dtype([('bridge', 'u1'), ('ready_at', 'f8'), ('ended', 'u1'), ('received', 'u8'), ('replaced', 'u8'), ('failed', 'u8'),
                 ('unsent', 'u8'), ('sent', 'u8'), ('answered', 'u8'), ('expired', 'u8'), ('local', 'u8'), ('ready', 'u8')])


class Ledger:
    """`frames` [n] and `lives` [m], mapped from two files; they are made, filled with zeros, where they are not there."""

    def __init__(self, folder: Path | str, frames: int, lives: int):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.frames = _mapped(folder / 'frames.bin', FRAME, frames)
        self.lives = _mapped(folder / 'lives.bin', LIFE, lives)

    @property
    def submitted(self) -> int:
        """Frames that were begun; they are numbered from 0 without a gap."""
        return int(np.count_nonzero(self.frames['outcome']))


def _mapped(path: Path, kind: np.dtype, count: int) -> np.memmap:
    there = path.is_file() and path.stat().st_size == kind.itemsize * count
    return np.memmap(path, kind, 'r+' if there else 'w+', shape=(count,))
