"""Where a model folder is looked for, so that the shipped ones are found from any working directory."""

from __future__ import annotations

import os
from pathlib import Path

DESCRIPTION_FILE = 'model.json'
_REPOSITORY = Path(__file__).resolve().parents[2]


def find_model_folder(model: str) -> Path | None:
    """The folder that `model` names, or None where it is no folder's name (a timm model, say).

    A relative path is taken from the working directory, else from this repository, else from `share/evitif` of the
    prefixes in AMENT_PREFIX_PATH (where `colcon build` installs `artifacts/`).
    """
    path = Path(model).expanduser()
    candidates = [path]
    if not path.is_absolute():
        prefixes = [entry for entry in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if entry]
        candidates += [_REPOSITORY / path, *(Path(prefix) / 'share' / 'evitif' / path for prefix in prefixes)]
    # A folder that happens to have a timm model's name is not meant, unless it is a model folder.
    is_path = os.sep in model or model in ('.', '..')
    return next((candidate for candidate in candidates
                 if (candidate / DESCRIPTION_FILE).is_file() or is_path and candidate.is_dir()), None)


def artifact_folders(model: str) -> list[Path]:
    """The folders in which what was trained for `model` is looked for: the model folder itself, or for the name of a timm
    model `artifacts/<name>`, where a name without a tag (vit_tiny_patch16_224) stands for its default one as well."""
    folder = find_model_folder(model)
    if folder is not None or os.sep in model or ':' in model:
        return [] if folder is None else [folder]
    from evitif.model.timm_import import timm
    default = None if '.' in model else timm.get_pretrained_cfg(model)
    names = [model] if default is None or not default.tag else [model, f'{model}.{default.tag}']
    found = [find_model_folder(os.path.join('artifacts', name)) for name in names]
    return [folder for folder in found if folder is not None]


def artifact_path(folder: Path | str, cut: int, kind: str = 'paldn') -> Path:
    """Where the description of what was trained for `cut` lies in a model folder: a recovery of this kind, or the code."""
    return Path(folder) / f'{kind}-cut{cut}.json'


def artifact_beside(model: str, cut: int, kind: str = 'paldn') -> Path | None:
    """The description of what was trained for `model` at this cut (see `artifact_folders`), or None.

    That it was trained for these weights is checked where it is loaded.
    """
    paths = (artifact_path(folder, cut, kind) for folder in artifact_folders(model))
    return next((path for path in paths if path.is_file()), None)
