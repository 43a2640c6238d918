"""Whether what a training keeps in memory fits, asked before hours are spent on it."""

from __future__ import annotations

import os
from pathlib import Path

SPARE = 0.85    # of what is available may be taken
_CGROUP = Path('/sys/fs/cgroup')


def available_bytes() -> int:
    """Memory that can be had without swapping, the container's limit included; PyTorch's own share is already out."""
    candidates = []
    try:
        lines = dict(line.split(':', 1) for line in Path('/proc/meminfo').read_text().splitlines())
        candidates.append(int(lines['MemAvailable'].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        candidates.append(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'))
    try:
        limit = (_CGROUP / 'memory.max').read_text().strip()
        if limit != 'max':
            candidates.append(int(limit) - int((_CGROUP / 'memory.current').read_text()))
    except (OSError, ValueError):
        pass
    return max(0, min(candidates))


def fits(needed: int) -> bool:
    """Whether `needed` bytes fit into the memory that is available, with some to spare."""
    return needed <= SPARE * available_bytes()


def require_memory(needed: int, purpose: str) -> None:
    """Raise MemoryError, naming the need and what there is, unless `needed` bytes fit."""
    available = available_bytes()
    if needed > SPARE * available:
        raise MemoryError(f'{purpose} need {needed / 2**30:.1f} GiB of memory; {available / 2**30:.1f} GiB are available '
                          f'({SPARE:.0%} of that may be used)')
