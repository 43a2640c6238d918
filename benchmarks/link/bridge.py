"""The bridge's process: serves every contestant that it was told of, until the end."""

from __future__ import annotations

import json
import sys
import time

from benchmarks.link.conditions import Condition
from benchmarks.link.contestants import CONTESTANTS
from benchmarks.link.contestants.context import Context
from benchmarks.link.processes import serve


class Bridge:
    def __init__(self, settings: dict):
        self._context = Context(settings)
        self._sides: dict[str, object] = {}

    def connect(self, contestant: str, condition: dict) -> None:
        """Make the contestant ready for the condition."""
        entry = CONTESTANTS[contestant]
        if contestant not in self._sides:
            self._sides[contestant] = entry.part('Bridge')(self._context, {**entry.options, 'name': contestant})
        self._sides[contestant].connect(Condition(**condition))

    def cpu(self) -> dict:
        """CPU seconds so far."""
        return {'cpu_s': time.process_time(), 'wall_s': time.monotonic()}


def main() -> int:
    """Do what the robot's side asks for."""
    bridge = Bridge(json.loads(sys.argv[1]))
    serve({'connect': bridge.connect, 'cpu': bridge.cpu})
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
