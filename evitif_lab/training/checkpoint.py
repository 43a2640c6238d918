"""Interruption and resumption: the whole state of a training in one file, replaced atomically."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evitif.wording import shortened
from evitif_lab.differences import differences
from evitif_lab.plain import plain
from evitif_lab.training.state import read_state, write_state

FILE = 'checkpoint.pt'
FORMAT = 2              # of the state: what another version of this library began is not gone on with


class Checkpoint:
    """The state of one training in `folder`.

    :param belongs_to: all that the training depends on, as JSON holds it: its configuration, the data (`identity_of`), the weights that
        it starts from. A checkpoint of another training is refused, naming what differs
    :param overwrite: begin anew instead
    """

    def __init__(self, folder: Path | str, belongs_to: dict, overwrite: bool = False):
        self.path = Path(folder) / FILE
        self.belongs_to = plain({**belongs_to, 'format': FORMAT})
        self.overwrite = overwrite

    def load(self) -> dict | None:
        """Return what `save` was given, or None where there is nothing to resume. Raises ValueError on a mismatch and for a file that is
        damaged."""
        if not self.path.is_file():
            return None
        try:
            state = read_state(self.path, self._advice)
            saved = state.pop('belongs_to', state.pop('configuration', {}))
            if different := differences(saved, self.belongs_to):
                raise ValueError(f'{self.path} is of another training ({"; ".join(different[:4])}'
                                 f'{f"; and {len(different) - 4} more" if len(different) > 4 else ""}); {self._advice}')
        except ValueError as error:
            if not self.overwrite:
                raise
            print(f'beginning anew: {error}', flush=True)
            self.path.unlink()
            return None
        return state

    def restore(self, parts: dict[str, Any]) -> dict | None:
        """Give every part (a module, an optimiser, …) its saved state, and return the rest of it; None where there is nothing to resume.
        Raises as `load`."""
        state = self.load()
        if state is None:
            return None
        try:
            for name, part in parts.items():
                part.load_state_dict(state.pop(name))
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f'{self.path} does not fit this training ({shortened(error)}); {self._advice}') from None
        return state

    def save(self, state: dict) -> None:
        """Raises files.WriteError; ValueError for a state that is not finite, and keeps the earlier one."""
        write_state(self.path, {**state, 'belongs_to': self.belongs_to})

    @property
    def kept(self) -> str:
        """A phrase about the last good state; '' where there is none."""
        return f'; the last good state is kept in {self.path}' if self.path.is_file() else ''

    @property
    def _advice(self) -> str:
        return f'to begin anew, remove {self.path} or give --overwrite; else choose another output folder'

    def remove(self) -> None:
        """Remove the file, and its folder where nothing else is in it."""
        self.path.unlink(missing_ok=True)
        try:
            self.path.parent.rmdir()
        except OSError:  # not empty, or never made
            pass
