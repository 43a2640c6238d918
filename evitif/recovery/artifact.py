"""A trained recovery on disk: `<kind>-cut<k>.safetensors` and a description of the same name in JSON, beside the model."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from evitif.model.folder import find_model_folder
from evitif.model.split import SplitModel
from evitif.recovery.kinds import LEARNED
from evitif.recovery.learned import LearnedRecovery, Sequence

FORMAT = 2


class ArtifactError(ValueError):
    """An artifact that cannot be read or was trained for another model; the message names both values."""


def artifact_path(folder: Path | str, cut: int, kind: str = 'paldn') -> Path:
    """Where the description of the recovery of this kind for `cut` lies in a model folder."""
    return Path(folder) / f'{kind}-cut{cut}.json'


def artifact_folders(model: str) -> list[Path]:
    """The folders in which recoveries for `model` are looked for: the model folder itself, or for the name of a timm
    model `artifacts/<name>`, where a name without a tag (vit_tiny_patch16_224) stands for its default one as well."""
    folder = find_model_folder(model)
    if folder is not None or os.sep in model or ':' in model:
        return [] if folder is None else [folder]
    from evitif.model.timm_import import timm
    default = None if '.' in model else timm.get_pretrained_cfg(model)
    names = [model] if default is None or not default.tag else [model, f'{model}.{default.tag}']
    found = [find_model_folder(os.path.join('artifacts', name)) for name in names]
    return [folder for folder in found if folder is not None]


def artifact_beside(model: str, cut: int, kind: str = 'paldn') -> Path | None:
    """The description of the recovery of this kind that ships for `model` at this cut (see `artifact_folders`), or None.

    That it was trained for these weights is checked by `load_recovery` only.
    """
    paths = (artifact_path(folder, cut, kind) for folder in artifact_folders(model))
    return next((path for path in paths if path.is_file()), None)


def save_recovery(path: Path | str, network: LearnedRecovery, description: dict) -> dict:
    """Write description and weights, parameters as fp16, and return the description as it was written.

    `description` has model, fingerprint, cut, loss_range, data, seed, figures, …
    """
    from safetensors.torch import save_file
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    parameters = dict(network.named_parameters())
    save_file({name: (tensor.half() if name in parameters else tensor).detach().cpu().contiguous()
               for name, tensor in network.state_dict().items()}, path.with_suffix('.safetensors'))
    content = {'format': FORMAT, 'kind': network.name, 'sequence': network.sequence.as_dict(),
               'options': network.options, **description}
    path.write_text(json.dumps(content, indent=2) + '\n')
    return json.loads(path.read_text())


def load_recovery(path: Path | str, fingerprint: str, split: SplitModel) -> tuple[LearnedRecovery, dict]:
    """Load the recovery described by the JSON file `path` for `split`, a model with this fingerprint
    (`evitif.model.fingerprint` with the cut). Raises ArtifactError when it was trained for another one."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    path = Path(path).expanduser()
    try:
        description = json.loads(path.read_text())
    except OSError as error:
        raise ArtifactError(f'recovery artifact {path}: cannot be read: {error.strerror}') from None
    except ValueError as error:
        raise ArtifactError(f'recovery artifact {path}: not valid JSON: {error}') from None
    if not isinstance(description, dict) or description.get('format') != FORMAT or description.get('kind') not in LEARNED:
        raise ArtifactError(f'recovery artifact {path}: expected a description of format {FORMAT} and one of the kinds '
                            f'{", ".join(LEARNED)}')
    if description.get('cut') != split.cut:
        raise ArtifactError(f'recovery artifact {path} was trained for cut {description.get("cut")}, '
                            f'the model is cut after block {split.cut}')
    if description.get('fingerprint') != fingerprint:
        raise ArtifactError(f'recovery artifact {path} was trained for the model {description.get("model")!r} with '
                            f'fingerprint {str(description.get("fingerprint"))[:16]}…, this model has {fingerprint[:16]}…')
    weights = path.with_suffix('.safetensors')
    try:
        network = LEARNED[description['kind']](Sequence(**description['sequence']), **description['options'])
        network.attach(split)
        network.load_state_dict({name: tensor.float() if tensor.dtype == torch.float16 else tensor
                                 for name, tensor in load_file(weights).items()})
    except (OSError, SafetensorError, RuntimeError, TypeError, KeyError, ValueError) as error:
        raise ArtifactError(f'recovery artifact {weights}: cannot be read: {" ".join(str(error).split())[:200]}') from None
    return network.eval(), description
