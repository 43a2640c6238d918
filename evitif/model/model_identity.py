"""Who a cut model is to the codes and recoveries that were fitted to it, at whatever image size it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from evitif.identity import join_parts, parts
from evitif.image_size import size_text
from evitif.model.artifact import require_fingerprint
from evitif.model.field_of_view import fit_of
from evitif.model.fingerprint import fingerprint, preprocessing_digest
from evitif.model.preprocess import data_config_of, tuples_of

_VIEW = ('input_size', 'crop_pct', 'crop_mode')


@dataclass(frozen=True)
class Identity:
    """Who a cut model is to what was fitted to it: its fingerprint, and what that would be with other image sizes and fits.

    A code or a recovery depends on weights, architecture and cut. What it holds for each place can be resampled to another grid of
    patches, so one that was fitted at the model's own size serves the others.
    """

    fingerprint: str
    data_config: dict           # of the preprocessing
    native: dict                # the same as the weights came
    grid: tuple[int, int]       # (rows, columns) of patches

    @property
    def suffix(self) -> str:
        """Of the names of files that were fitted at this image size and fit: '-352x480-pad'; '' where both are the model's own."""
        size, own_size = (tuple(config['input_size'][1:]) for config in (self.data_config, self.native))
        fit, own_fit = fit_of(self.data_config), fit_of(self.native)
        return (f'-{size_text(size)}' if size != own_size else '') + (f'-{fit}' if fit != own_fit else '')

    @classmethod
    def of(cls, module: nn.Module, cut: int, grid: tuple[int, int], native: dict | None = None) -> Identity:
        """That of a model in evaluation mode.

        :param native: its preprocessing before image size and fit were changed; None: it is as it was built
        """
        config = data_config_of(module)
        return cls(fingerprint(module, cut), config, config if native is None else native, grid)

    def with_view(self, data_config: dict) -> str:
        """The fingerprint of the same model and cut with this preprocessing."""
        found = parts(self.fingerprint)
        return join_parts(found['weights'], found['architecture'], preprocessing_digest(data_config), int(found['cut'], 16))

    @property
    def native_fingerprint(self) -> str:
        """That of the model as its weights came, without another image size or fit."""
        return self.with_view(self.native)

    def fitted_grid(self, path: Path | str, title: str, description: dict) -> tuple[int, int]:
        """The grid (rows, columns) that an artifact of this model was fitted at, by its description.

        Raises ArtifactError, with both fingerprints and what differs, where it is of another model.
        """
        own, made_for = self.fingerprint, description.get('fingerprint')
        for config in (self.data_config, self.native, {**self.native, **tuples_of(seen_by(description))}):
            if made_for == self.with_view(config):
                sizes = self.grid, self.data_config['input_size'][1:], config['input_size'][1:]
                return tuple(count * new // old for count, old, new in zip(*sizes, strict=True))
        require_fingerprint(path, title, made_for, description.get('model'), own)
        return self.grid


def view_of(data_config: dict) -> dict:
    """For the description of an artifact: how the model that it was fitted to looked at pictures."""
    return {'view': {name: data_config.get(name) for name in _VIEW}}


def seen_by(description: dict) -> dict:
    """What `view_of` wrote; empty where there is nothing of it."""
    view = description.get('view')
    size = view.get('input_size') if isinstance(view, dict) and set(view) == set(_VIEW) else None
    fits = isinstance(size, list | tuple) and len(size) == 3 and all(type(side) is int and side > 0 for side in size)
    return view if fits else {}
