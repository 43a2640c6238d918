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
