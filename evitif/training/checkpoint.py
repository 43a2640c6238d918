"""Interruption and resumption: the whole state of a training in one file, replaced atomically."""

from __future__ import annotations

from pathlib import Path

import torch

FILE = 'checkpoint.pt'


class Checkpoint:
    """The state of one training in `folder`. A checkpoint of another configuration is refused, naming what differs."""

    def __init__(self, folder: Path | str, configuration: dict):
        self.path = Path(folder) / FILE
        self.configuration = configuration

    def load(self) -> dict | None:
        """Return what `save` was given, or None where there is nothing to resume. Raises ValueError on a mismatch."""
        if not self.path.is_file():
            return None
        state = torch.load(self.path, map_location='cpu', weights_only=True)
        saved = state.pop('configuration')
        different = [f'{key}: {saved.get(key)!r} there, {self.configuration.get(key)!r} now'
                     for key in sorted({*saved, *self.configuration}) if saved.get(key) != self.configuration.get(key)]
        if different:
            raise ValueError(f'{self.path} is of a training with another configuration ({"; ".join(different)}); '
                             'remove it or choose another output folder')
        return state

    def save(self, state: dict) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix('.partial')
        torch.save({**state, 'configuration': self.configuration}, partial)
        partial.replace(self.path)

    def remove(self) -> None:
        """Remove the file, and its folder where nothing else is in it."""
        self.path.unlink(missing_ok=True)
        try:
            self.path.parent.rmdir()
        except OSError:  # not empty, or never made
            pass
