"""Lines of the run time, room by room, against a budget. Exits with 1 where a file or the whole is too long.

The run time is what a robot and a server need: the library and the nodes. The laboratory, the command, the measurements and the
tests may be as long as they need to be.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN_TIME = ('evitif', 'evitif_ros', 'evitif_edge_node', 'evitif_cloud_bridge')
BUDGET_LINES = 31_000       # of the whole run time
FILE_LINES = 400            # of one file: it can be read in one sitting


def lines_of(root: Path = ROOT) -> dict[Path, int]:
    """The lines of each Python file of the run time, by its path below `root`."""
    return {path.relative_to(root): len(path.read_text().splitlines())
            for package in RUN_TIME for path in sorted((root / package).rglob('*.py'))}


def room_of(path: Path) -> str:
    """`evitif/protocol` for a file anywhere below it, `evitif` for one that lies there itself."""
    return '/'.join(path.parts[:-1][:2])


def complaints(lines: dict[Path, int], budget: int = BUDGET_LINES) -> list[str]:
    """A sentence for each file that is too long, and one for the whole."""
    found = [f'{path} has {count} lines: expected at most {FILE_LINES}' for path, count in lines.items() if count > FILE_LINES]
    total = sum(lines.values())
    return found + ([f'the run time has {total:,} lines: expected at most {budget:,}'] if total > budget else [])


def main() -> int:
    """Print the table and the complaints."""
    lines = lines_of()
    rooms: Counter[str] = Counter()
    for path, count in lines.items():
        rooms[room_of(path)] += count
    for room, count in sorted(rooms.items()):
        print(f'{count:7,} {room}')
    print(f'{sum(rooms.values()):7,} of {BUDGET_LINES:,} lines in {len(lines)} files')
    found = complaints(lines)
    for text in found:
        print(f'size: {text}', file=sys.stderr)
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
