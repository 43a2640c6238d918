"""A trained recovery on disk: `<kind>-cut<k>.safetensors` and a description of the same name in JSON, beside the model."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from evitif.model.errors import ArtifactError
from evitif.model.split import SplitModel
from evitif.recovery.kinds import LEARNED
from evitif.recovery.learned import LearnedRecovery, Sequence

FORMAT = 2


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
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f'recovery artifact {path}: not valid JSON: {error}') from None
    if not isinstance(description, dict) or description.get('format') != FORMAT or str(description.get('kind')) not in LEARNED:
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
