"""Finds model folders, the shipped ones from any working directory."""

from __future__ import annotations

import os
from pathlib import Path

from evitif.vocabulary import RecoveryName

DESCRIPTION_FILE = 'model.json'
_REPOSITORY = Path(__file__).resolve().parents[2]


def find_model_folder(model: str) -> Path | None:
    """The folder that `model` names, or None where it is no folder's name (a timm model, say).

    A relative path is taken from the working directory, else from this repository, else from `share/evitif` of the
    prefixes in AMENT_PREFIX_PATH (where `colcon build` installs `artifacts/`).
    """
    # A folder with a timm model's name counts only if it is a model folder.
    is_path = os.sep in model or model in ('.', '..')
    return next((candidate for candidate in _candidates(model)
                 if (candidate / DESCRIPTION_FILE).is_file() or is_path and candidate.is_dir()), None)


def find_folder(name: str, file: str) -> Path | None:
    """The folder that `name` names in the same way and that holds `file`, or None."""
    return next((candidate for candidate in _candidates(name) if (candidate / file).is_file()), None)


def _candidates(name: str) -> list[Path]:
    path = Path(name).expanduser()
    if path.is_absolute():
        return [path]
    prefixes = [entry for entry in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if entry]
    return [path, _REPOSITORY / path, *(Path(prefix) / 'share' / 'evitif' / path for prefix in prefixes)]


def artifact_folders(model: str) -> list[Path]:
    """The folders that may hold what was trained for `model`: the model folder itself, or for a timm name `artifacts/<name>`, and for a
    name without a tag (vit_tiny_patch16_224) also that of its default tag."""
    folder = find_model_folder(model)
    if folder is not None or os.sep in model or ':' in model:
        return [] if folder is None else [folder]
    from evitif.model.timm_import import timm
    default = None if '.' in model else timm.get_pretrained_cfg(model)
    names = [model] if default is None or not default.tag else [model, f'{model}.{default.tag}']
    found = [find_model_folder(os.path.join('artifacts', name)) for name in names]
    return [folder for folder in found if folder is not None]


def artifact_path(folder: Path | str, cut: int, kind: str = RecoveryName.PALDN, suffix: str = '') -> Path:
    """The description of a recovery of this kind, or of the code, for `cut` in a model folder.

    :param suffix: of another image size or fit than the model's own (`Identity.suffix`)
    """
    return Path(folder) / f'{kind}-cut{cut}{suffix}.json'


def artifact_beside(model: str, cut: int, kind: str = RecoveryName.PALDN, suffix: str = '', within: str | None = None) -> Path | None:
    """The description of what was trained for `model` at this cut, maybe of other weights (see `artifact_folders`), or None: first
    what was trained at the image size and fit of `suffix`, then at the model's own.

    :param within: the folder that it lies in; None: those of the model
    """
    folders = artifact_folders(model) if within is None else [each for each in _candidates(within) if each.is_dir()]
    paths = (artifact_path(folder, cut, kind, each) for each in dict.fromkeys((suffix, '')) for folder in folders)
    return next((path for path in paths if path.is_file()), None)
