"""A trained recovery on disk: `<kind>-cut<k>.safetensors` and a description of the same name in JSON, beside the model."""

from __future__ import annotations

from pathlib import Path

import torch

from evitif.files import read_json
from evitif.model.artifact import read_arrays, read_artifact, require_fingerprint
from evitif.model.errors import ArtifactError
from evitif.model.split import SplitModel
from evitif.model.tensors import read_tensors, write_described
from evitif.recovery.kinds import LEARNED
from evitif.recovery.learned import LearnedRecovery, Sequence
from evitif.typed_json import typed

FORMAT, TITLE = 2, 'recovery artifact'


def save_recovery(path: Path | str, network: LearnedRecovery, description: dict) -> dict:
    """Write description and weights, parameters as fp16, and return the description as it was written.

    `description` has model, fingerprint, cut, loss_range, data, seed, figures, …
    """
    path = Path(path)
    parameters = dict(network.named_parameters())
    content = {'format': FORMAT, 'kind': network.name, 'sequence': network.sequence.as_dict(),
               'options': network.options, **description}
    write_described(path, content, path.with_suffix('.safetensors'), {name: tensor.half() if name in parameters else tensor
                                                                      for name, tensor in network.state_dict().items()})
    return read_json(path)


def load_recovery(path: Path | str, fingerprint: str, split: SplitModel) -> tuple[LearnedRecovery, dict]:
    """Load the recovery described by the JSON file `path` for `split`, a model with this fingerprint
    (`evitif.model.fingerprint` with the cut). Raises ArtifactError when it was trained for another one."""
    description = read_artifact(path, TITLE, FORMAT, LEARNED)
    if description.get('cut') != split.cut:
        raise ArtifactError(f'recovery artifact {path} was trained for cut {description.get("cut")}, '
                            f'the model is cut after block {split.cut}')
    require_fingerprint(path, TITLE, description.get('fingerprint'), description.get('model'), fingerprint)

    def network_of(weights: Path) -> LearnedRecovery:
        network = LEARNED[description['kind']](typed(Sequence, description['sequence'], 'sequence'), **description['options'])
        network.attach(split)
        network.load_state_dict({name: tensor.float() if tensor.dtype == torch.float16 else tensor
                                 for name, tensor in read_tensors(weights).items()})
        return network.eval()
    return read_arrays(path, TITLE, network_of), description
