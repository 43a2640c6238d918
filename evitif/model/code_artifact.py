"""A transform code on disk, beside the model: `klt-cut<k>.safetensors`, described by a JSON file of the same name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from evitif.model.errors import ArtifactError
from evitif.model.folder import artifact_beside, artifact_folders, artifact_path, find_model_folder
from evitif.model.transform_code import RATES, TransformCode

KIND = 'klt'
FORMAT = 1


def save_code(path: Path | str, code: TransformCode, description: dict) -> dict:
    """Write the code, as fp16 but for its levels, and its description, and return that as it was written.

    `code` has to have values that fp16 holds exactly (`half_precision`), so that what is loaded is what was measured.
    """
    from safetensors.numpy import save_file
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: array if name.startswith(('levels', 'order')) else array.astype(np.float16)
               for name, array in code.arrays().items()}, path.with_suffix('.safetensors'))
    path.write_text(json.dumps({'format': FORMAT, 'kind': KIND, 'digest': code.digest, **description}, indent=2) + '\n')
    return json.loads(path.read_text())


def half_precision(code: TransformCode) -> TransformCode:
    """The code with its means and bases rounded to fp16."""
    return TransformCode.from_arrays({name: array if name.startswith(('levels', 'order')) else
                                      array.astype(np.float16).astype(np.float32) for name, array in code.arrays().items()})


def load_code(path: Path | str, fingerprint: str) -> tuple[TransformCode, dict]:
    """Load the code and description of the JSON file `path`, for a model with this fingerprint (`evitif.model.fingerprint`
    with the cut).

    Raises ArtifactError where it cannot be read or was made for another model.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file
    path = Path(path)
    try:
        description = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f'transform code {path}: cannot be read: {error}') from None
    if not isinstance(description, dict) or description.get('format') != FORMAT or description.get('kind') != KIND \
            or str(description.get('default')) not in RATES:
        raise ArtifactError(f'transform code {path}: expected a description of format {FORMAT} and kind {KIND!r}, its default '
                            f'one of {", ".join(RATES)}')
    if description.get('fingerprint') != fingerprint:
        raise ArtifactError(f'transform code {path} was made for the model {description.get("model")!r} with fingerprint '
                            f'{str(description.get("fingerprint"))[:16]}…, this model has {fingerprint[:16]}…')
    weights = path.with_suffix('.safetensors')
    try:
        code = TransformCode.from_arrays(load_file(weights))
    except (OSError, SafetensorError, ValueError) as error:
        raise ArtifactError(f'transform code {weights}: cannot be read: {" ".join(str(error).split())[:200]}') from None
    if code.digest != description.get('digest'):
        raise ArtifactError(f'transform code {weights} is not the one that {path.name} describes: its digest is '
                            f'{code.digest[:16]}…, expected {str(description.get("digest"))[:16]}…')
    return code, description


def choose_code(model: str, cut: int, fingerprint: str, quantisation: str) -> tuple[str, TransformCode | None, dict | None]:
    """The quantisation and, where it is one, the transform code with its description.

    `auto` is the rate that the code beside `model` names for this cut, and int8 where there is none for these weights.
    Raises ArtifactError where a code was asked for by name and there is none, or the one in a model folder is of no use.
    """
    if quantisation not in ('auto', *RATES):
        return quantisation, None, None
    path = artifact_beside(model, cut, KIND)
    if path is None and quantisation == 'auto':
        return 'int8', None, None
    if path is None:
        folders = artifact_folders(model)
        wanted = artifact_path(folders[0] if folders else Path('artifacts') / model, cut, KIND)
        raise ArtifactError(f'quantisation {quantisation} needs a transform code for {model} at cut {cut}, and there is no '
                            f'{wanted}: fit one with `evitif train code`, or take fp16, int8 or int4')
    try:
        code, description = load_code(path, fingerprint)
    except ArtifactError:
        if quantisation != 'auto' or find_model_folder(model) is not None:
            raise
        return 'int8', None, None       # other weights of an architecture that a code ships for
    return (description['default'] if quantisation == 'auto' else quantisation), code, description
