"""What an interrupted measurement has reached, in a file beside the result, so that the same command goes on from there."""

from __future__ import annotations

import json
from pathlib import Path


class PartialResult:
    """The counts so far of the measurement `identity`, in `<result>.partial`. Without a result file nothing is kept."""

    def __init__(self, result: Path | str | None, identity: dict):
        self.path = None if result is None else Path(f'{result}.partial')
        self.identity = json.loads(json.dumps(identity))

    def load(self) -> dict | None:
        """What `save` was given, or None where there is nothing of this very measurement; says so in a sentence."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            content = json.loads(self.path.read_text())
            saved, state = content['identity'], content['state']
        except (OSError, ValueError, KeyError, TypeError):
            print(f'{self.path} cannot be read: starting afresh', flush=True)
            return None
        different = [key for key in self.identity if saved.get(key) != self.identity[key]]
        if different:
            print(f'{self.path} is of another measurement ({", ".join(different)}): starting afresh', flush=True)
            return None
        print(f'going on from {state["next"]} ({self.path})', flush=True)
        return state

    def save(self, state: dict) -> None:
        if self.path is not None:
            write_json(self.path, {'identity': self.identity, 'state': state})

    def remove(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def write_json(path: Path | str, content: dict) -> None:
    """Write, replacing the file at once, so that none is ever seen half written."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + '.new')
    temporary.write_text(json.dumps(content, indent=2) + '\n')
    temporary.replace(path)
