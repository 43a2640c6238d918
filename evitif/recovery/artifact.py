"""A trained PALDN on disk: `paldn-cut<k>.safetensors` and a description of the same name in JSON, beside the model."""

from __future__ import annotations

import json
from pathlib import Path

from evitif.model.folder import find_model_folder
from evitif.recovery.paldn import Paldn, PaldnShape

FORMAT = 1


class ArtifactError(ValueError):
    """An artifact that cannot be read or was trained for another model; the message names both values."""


def artifact_path(folder: Path | str, cut: int) -> Path:
    """Where the description of the PALDN for `cut` lies in a model folder."""
    return Path(folder) / f'paldn-cut{cut}.json'


def artifact_beside(model: str, cut: int) -> Path | None:
    """The description of the PALDN that lies in the model folder `model` for this cut, or None."""
    folder = find_model_folder(model)
    path = None if folder is None else artifact_path(folder, cut)
    return path if path is not None and path.is_file() else None


def save_paldn(path: Path | str, network: Paldn, description: dict) -> None:
    """Write description and weights. `description` has model, fingerprint, cut, loss_range, data, seed, figures, …"""
    from safetensors.torch import save_file
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()},
              path.with_suffix('.safetensors'))
    content = {'format': FORMAT, 'kind': 'paldn', 'shape': network.shape.as_dict(), **description}
    path.write_text(json.dumps(content, indent=2) + '\n')


def load_paldn(path: Path | str, fingerprint: str, cut: int) -> tuple[Paldn, dict]:
    """Load the PALDN described by the JSON file `path` for the model with this fingerprint (`evitif.model.fingerprint`
    with the cut). Raises ArtifactError when it was trained for another one."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    path = Path(path).expanduser()
    try:
        description = json.loads(path.read_text())
    except OSError as error:
        raise ArtifactError(f'recovery artifact {path}: cannot be read: {error.strerror}') from None
    except ValueError as error:
        raise ArtifactError(f'recovery artifact {path}: not valid JSON: {error}') from None
    if not isinstance(description, dict) or (description.get('format'), description.get('kind')) != (FORMAT, 'paldn'):
        raise ArtifactError(f'recovery artifact {path}: expected a description of kind paldn, format {FORMAT}')
    if description.get('cut') != cut:
        raise ArtifactError(f'recovery artifact {path} was trained for cut {description.get("cut")}, '
                            f'the model is cut after block {cut}')
    if description.get('fingerprint') != fingerprint:
        raise ArtifactError(f'recovery artifact {path} was trained for the model {description.get("model")!r} with '
                            f'fingerprint {str(description.get("fingerprint"))[:16]}…, this model has {fingerprint[:16]}…')
    weights = path.with_suffix('.safetensors')
    try:
        network = Paldn(PaldnShape(**description['shape']))
        network.load_state_dict(load_file(weights))
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError, ValueError) as error:
        raise ArtifactError(f'recovery artifact {weights}: cannot be read: {" ".join(str(error).split())[:200]}') from None
    return network.eval(), description
