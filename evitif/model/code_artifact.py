"""A transform code on disk, beside the model: `klt-cut<k>.safetensors`, described by a JSON file of the same name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evitif.files import read_json
from evitif.model.artifact import read_arrays, read_artifact, require_fingerprint
from evitif.model.errors import ArtifactError
from evitif.model.folder import artifact_beside, artifact_folders, artifact_path, find_model_folder
from evitif.model.model_identity import Identity
from evitif.model.regrid import Grid
from evitif.model.tensors import read_tensors, write_described
from evitif.model.transform_code import RATES, TransformCode

KIND = 'klt'
FORMAT, TITLE = 1, 'transform code'


def save_code(path: Path | str, code: TransformCode, description: dict, kind: str = KIND) -> dict:
    """Write the code, which `half_precision` has rounded, and its description, and return that as it was written."""
    path = Path(path)
    write_described(path, {'format': FORMAT, 'kind': kind, 'digest': code.digest, **description}, path.with_suffix('.safetensors'),
                    _stored(code))
    return read_json(path)


def half_precision(code: TransformCode) -> TransformCode:
    """The code with its means and bases rounded to fp16."""
    return TransformCode.from_arrays(_stored(code))     # which makes them float32 again


def _stored(code: TransformCode) -> dict[str, np.ndarray]:
    with np.errstate(over='ignore'):        # the writer refuses what is infinite in fp16
        return {name: array if name.startswith(('levels', 'order')) else array.astype(np.float16) for name, array in code.arrays().items()}


def load_code(path: Path | str, identity: Identity | str | None, kind: str = KIND) -> tuple[TransformCode, dict]:
    """Load the code and description of the JSON file `path`, for a model of this identity, resampled to its grid of patches; or of this
    fingerprint (`evitif.model.fingerprint` with the cut), as it is; None: not known here.

    Raises ArtifactError where it cannot be read or was made for another model.
    """
    description = read_artifact(path, TITLE, FORMAT, (kind,))
    if str(description.get('default')) not in RATES:
        raise ArtifactError(f'{TITLE} {path}: its default is {description.get("default")!r}: expected one of {", ".join(RATES)}')
    if isinstance(identity, str):
        require_fingerprint(path, TITLE, description.get('fingerprint'), description.get('model'), identity)
    grid = identity.fitted_grid(path, TITLE, description) if isinstance(identity, Identity) else None
    code = read_arrays(path, TITLE, lambda arrays: TransformCode.from_arrays(
        {name: tensor.numpy() for name, tensor in read_tensors(arrays).items()}))
    if code.digest != description.get('digest'):
        raise ArtifactError(f'{TITLE} {Path(path).with_suffix(".safetensors")} is not the one that {Path(path).name} describes: its '
                            f'digest is {code.digest[:16]}…, expected {str(description.get("digest"))[:16]}…')
    return code if grid is None else regridded(path, code, grid, identity.grid), description


def regridded(path: Path | str, code: TransformCode, old: Grid, new: Grid) -> TransformCode:
    """The code for another grid. Raises ArtifactError where it was not fitted to a grid `old`."""
    try:
        return code.regridded(old, new)
    except ValueError as error:
        raise ArtifactError(f'{TITLE} {path}: {error}') from None


def choose_code(model: str, cut: int, identity: Identity | str, quantisation: str,
                within: str | None = None) -> tuple[str, TransformCode | None, dict | None]:
    """The quantisation and, where it is one, the transform code with its description.

    `auto` is the rate that the code beside `model`, or in the folder `within`, names for this cut, and int8 where there is none for these
    weights.
    Raises ArtifactError if a code was asked for by name and there is none, or the one in a model folder does not fit.
    """
    if quantisation not in ('auto', *RATES):
        return quantisation, None, None
    path = artifact_beside(model, cut, KIND, identity.suffix if isinstance(identity, Identity) else '', within)
    if path is None and quantisation == 'auto':
        return 'int8', None, None
    if path is None:
        folders = artifact_folders(model) if within is None else [Path(within)]
        wanted = artifact_path(folders[0] if folders else Path('artifacts') / model, cut, KIND)
        raise ArtifactError(f'quantisation {quantisation} needs a transform code for {model} at cut {cut}, and there is no '
                            f'{wanted}: fit one with `evitif train code`, or take fp16, int8 or int4')
    try:
        code, description = load_code(path, identity)
    except ArtifactError:
        if quantisation != 'auto' or within is not None or find_model_folder(model) is not None:
            raise
        return 'int8', None, None       # other weights of an architecture that a code ships for
    return (description['default'] if quantisation == 'auto' else quantisation), code, description
