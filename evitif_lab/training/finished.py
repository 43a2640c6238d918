"""What is there already when a training is asked for: the same one, finished, or another one that it would replace."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from evitif.model.errors import ModelError
from evitif.model.folder import find_model_folder
from evitif.wording import few, shortened
from evitif_lab.differences import differences
from evitif_lab.plain import plain
from evitif_lab.writable import require_writable

PLACE = ('output', 'device')        # where something lies or is computed changes nothing
RETIRED = 'retired'


def is_finished(path: Path | str, made_by: dict, configuration: dict, made_from: dict, overwrite: bool) -> bool:
    """Whether the artifact `path` is the one that is asked for; says so. The other arguments are those of `differs`.

    :param overwrite: it is not, whatever it is
    :raises ValueError: it is another one, which would be replaced; the text says what differs
    """
    if overwrite:
        print(f'{path} is replaced', flush=True)
        return False
    if different := differs(made_by, configuration, made_from):
        raise ValueError(f'{path} is there already, of another training ({shortened("; ".join(different), 600)}): choose another output '
                         'folder, or give --overwrite to replace it')
    print(f'{path} is there already, made by the same configuration', flush=True)
    return True


def differs(made_by: dict, configuration: dict, made_from: dict) -> list[str]:
    """In what an artifact is another one than is asked for: a phrase each.

    :param made_by: what its description says of how it was made
    :param configuration: of the training that is asked for, with defaults for what an older description does not name
    :param made_from: what else it depends on now: the data (`identity_of`) and fingerprints
    """
    known = {name: value for name, value in made_by.get('made_from', {}).items() if name in made_from}
    left_out = (*PLACE, *(['data'] if 'data' in known else []))      # which images they are says more than where they lie
    wanted = {name: value for name, value in plain(configuration).items() if name not in left_out}
    recorded = {name: value for name, value in made_by.get('configuration', {}).items() if name in wanted}
    return differences({**wanted, **recorded, **known}, {**wanted, **{name: plain(made_from)[name] for name in known}})


def artifact_folder(model: str, output: str | None) -> Path:
    """Where what is trained for `model` is written: `output`, or the model folder. Raises ValueError where there is neither, and
    files.WriteError where it cannot be written to."""
    folder = find_model_folder(model) if output is None else Path(output)
    if folder is None:
        if os.sep in model:
            raise ModelError(f'model folder {model!r} does not exist (expected one, or the name of a timm model)')
        raise ValueError(f'{model!r} is not a model folder: expected --output, a folder for the artifact')
    require_writable(folder)
    return folder


def digest_of(weights: Mapping[str, torch.Tensor]) -> str:
    """16 digits that tell these weights from others."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f'{name} {tuple(tensor.shape)}'.encode() + tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def retire(folder: Path | str, patterns: tuple[str, ...]) -> None:
    """Move what was made for a model that is replaced out of the way, into a folder of its own; says so."""
    folder = Path(folder)
    stale = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    if stale:
        number = next(number for number in range(1, 10_000) if not (folder / f'{RETIRED}-{number}').exists())
        place = folder / f'{RETIRED}-{number}'
        place.mkdir()
        for path in stale:
            path.rename(place / path.name)
        print(f'{few(path.name for path in stale)} belonged to the model that was replaced: moved into {place}', flush=True)
