"""What each step of a partition's training found, in files that an interrupted one, or one that differs in a later step, goes on from."""

from __future__ import annotations

from pathlib import Path

from evitif.wording import shortened
from evitif_lab.differences import differences
from evitif_lab.plain import plain
from evitif_lab.training.checkpoint import Checkpoint
from evitif_lab.training.state import read_state, write_state


class StepResults:
    """The results of the steps in `folder`.

    :param belongs_to: of each step, in their order, what its own result depends on, as JSON holds it. A result is of use as long as
        nothing that its step or an earlier one depends on has changed
    """

    def __init__(self, folder: Path, belongs_to: dict[str, dict]):
        self.folder = folder
        self._belongs_to, so_far = {}, {}
        for step, about in belongs_to.items():
            so_far = {**so_far, **plain(about)}
            self._belongs_to[step] = so_far

    def load(self, step: str) -> dict | None:
        """Raises ValueError for a file that is damaged; says so where there is one of another training."""
        path = self._path(step)
        if not path.is_file():
            return None
        state = read_state(path)
        if different := differences(state.get('belongs_to', {}), self._belongs_to[step]):
            print(f'{step}: done anew, since {path} is of another training ({shortened("; ".join(different), 300)})', flush=True)
            return None
        return state.get('result')

    def save(self, step: str, result: dict) -> None:
        """Raises files.WriteError; ValueError for a result that is not finite."""
        write_state(self._path(step), {'belongs_to': self._belongs_to[step], 'result': result})

    def checkpoint(self, step: str, overwrite: bool) -> Checkpoint:
        """For the training within a step."""
        return Checkpoint(self.folder / step, self._belongs_to[step], overwrite)

    def _path(self, step: str) -> Path:
        return self.folder / f'{step}.pt'
