"""An entropy code on disk, beside the model: `entropy-cut<k>.safetensors`, described by a JSON file of the same name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evitif.files import read_json
from evitif.model.artifact import read_arrays, read_artifact, require_fingerprint
from evitif.model.entropy_code import EntropyCode
from evitif.model.errors import ArtifactError
from evitif.model.model_identity import Identity
from evitif.model.regrid import Grid, distances_resampled, places_resampled
from evitif.model.tensors import read_tensors, write_described

KIND = 'entropy'
FORMAT, TITLE = 1, 'entropy code'
NEAR = 3            # patches, of the kernel for another grid
_SCALE = 1024       # binary16 has no room for the synthesis of one level


def save_entropy_code(path: Path | str, code: EntropyCode, description: dict, kind: str = KIND) -> dict:
    """Write the code, which `half_precision` has rounded, and its description, and return that as it was written."""
    path = Path(path)
    write_described(path, {'format': FORMAT, 'kind': kind, 'digest': code.digest, **description}, path.with_suffix('.safetensors'),
                    _stored(code))
    return read_json(path)


def half_precision(code: EntropyCode) -> EntropyCode:
    """The code with its means and transforms as they are stored."""
    return _restored(_stored(code))


def load_entropy_code(path: Path | str, identity: Identity | str | None, kind: str = KIND) -> tuple[EntropyCode, dict]:
    """Load the code and description of the JSON file `path`, for a model of this identity, resampled to its grid of patches; or of this
    fingerprint (`evitif.model.fingerprint` with the cut), as it is; None: not known here.

    Raises ArtifactError where it cannot be read or was made for another model.
    """
    description = read_artifact(path, TITLE, FORMAT, (kind,))
    if isinstance(identity, str):
        require_fingerprint(path, TITLE, description.get('fingerprint'), description.get('model'), identity)
    elif identity is not None:
        identity.fitted_grid(path, TITLE, description)
    code = read_arrays(path, TITLE, lambda arrays: _restored({name: tensor.numpy() for name, tensor in read_tensors(arrays).items()}))
    if code.digest != description.get('digest'):
        raise ArtifactError(f'{TITLE} {Path(path).with_suffix(".safetensors")} is not the one that {Path(path).name} describes: its '
                            f'digest is {code.digest[:16]}…, expected {str(description.get("digest"))[:16]}…')
    return regridded(code, identity.grid) if isinstance(identity, Identity) else code, description


def regridded(code: EntropyCode, new: Grid) -> EntropyCode:
    """The code for the same model with another grid of patches: the means go with the positions, the rest knows no place. It has the digest
    of this one, since both sides do it alike but for the last bit of a mean.

    Of the kernel only what is `NEAR` goes along, by distance. Farther apart it is what all patches have in common, which adds up as they
    become more: on CamVid at 352x480 the whole kernel of 224x224 takes half as many bytes again and answers no better.
    """
    old = (code.kernel.shape[0] + 1) // 2, (code.kernel.shape[1] + 1) // 2
    if old == new:
        return code
    apart = np.maximum.outer(*(np.abs(np.arange(1 - side, side)) for side in new))
    kernel = np.where(apart <= NEAR, distances_resampled(code.kernel, new), 0).astype(np.float32)
    found = EntropyCode(places_resampled(code.mean, old, new), code.analysis, code.synthesis, kernel, code.tables)
    found.__dict__['digest'] = code.digest
    return found


def _stored(code: EntropyCode) -> dict[str, np.ndarray]:
    arrays = code.arrays()
    with np.errstate(over='ignore'):        # the writer refuses what is infinite in fp16
        halves = {name: arrays[name].astype(np.float16) for name in ('mean', 'analysis', 'kernel')}
        return {**arrays, **halves, 'synthesis': (arrays['synthesis'] * _SCALE).astype(np.float16)}


def _restored(arrays: dict[str, np.ndarray]) -> EntropyCode:
    if 'synthesis' in arrays:
        arrays = {**arrays, 'synthesis': arrays['synthesis'].astype(np.float32) / _SCALE}
    return EntropyCode.from_arrays(arrays)
