"""What an interrupted measurement has reached, in a file beside the result, so that the same command goes on from there."""

from __future__ import annotations

from pathlib import Path

from evitif.files import read_json, write_json
from evitif.wording import shortened
from evitif_lab.differences import differences
from evitif_lab.plain import plain
from evitif_lab.writable import require_writable_file

BESIDE = ('.md', '.png')        # the table and the plot of a report


class PartialResult:
    """The counts so far of the measurement `identity`, in `<result>.partial`. Without a result file nothing is kept."""

    def __init__(self, result: Path | str | None, identity: dict):
        self.result, self.path = result, None if result is None else Path(f'{result}.partial')
        self.identity = plain(identity)

    def load(self) -> dict | None:
        """What `save` was given, or None where there is nothing of this very measurement; says so in a sentence, and whether the
        result of another measurement will be replaced."""
        if self.path is None:
            return None
        self._tell_what_is_replaced()
        if not self.path.is_file():
            return None
        try:
            content = read_json(self.path)
            saved, state = dict(content['identity']), dict(content['state'])
            reached = int(state['next'])
        except (OSError, ValueError, KeyError, TypeError):
            print(f'{self.path} cannot be read: starting afresh', flush=True)
            return None
        if different := differences(saved, self.identity):
            print(f'{self.path} is of another measurement ({shortened("; ".join(different), 300)}): starting afresh', flush=True)
            return None
        print(f'going on from {reached} ({self.path})', flush=True)
        return state

    def _tell_what_is_replaced(self) -> None:
        try:
            earlier = dict(read_json(self.result)['identity'])
        except (OSError, ValueError, KeyError, TypeError):
            return
        if different := differences(earlier, self.identity):
            print(f'{self.result} will be replaced: it is of another measurement ({shortened("; ".join(different), 300)})', flush=True)

    def save(self, state: dict) -> None:
        """Raises files.WriteError."""
        if self.path is not None:
            write_json(self.path, {'identity': self.identity, 'state': state})

    def remove(self) -> None:
        """Remove the file; the measurement has finished."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def require_report(path: Path | str | None) -> None:
    """Raise files.WriteError or ValueError unless the report `path` (JSON), its table and its plot can be written."""
    if path is None:
        return
    if Path(path).suffix in BESIDE:
        raise ValueError(f'the report is to be {path}: expected another ending, such as .json, since a table (.md) and a plot (.png) of '
                         'that name are written beside it')
    for one in (Path(path), *(Path(path).with_suffix(suffix) for suffix in BESIDE)):
        require_writable_file(one)
