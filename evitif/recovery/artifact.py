"""A trained recovery on disk: `<kind>-cut<k>.safetensors` and a description of the same name in JSON, beside the model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from evitif.files import read_json
from evitif.model.artifact import part_of, read_arrays, read_artifact, require_fingerprint
from evitif.model.errors import ArtifactError
from evitif.model.model_identity import Identity
from evitif.model.split import SplitModel
from evitif.model.tensors import read_tensors, write_described
from evitif.recovery.linear import LearnedRecovery, LinearCompletion
from evitif.recovery.methods import METHODS, Sequence
from evitif.recovery.paldn import Paldn
from evitif.vocabulary import RecoveryName

FORMAT, TITLE = 2, 'recovery artifact'
LEARNED: dict[str, type[LearnedRecovery]] = {Paldn.name: Paldn, LinearCompletion.name: LinearCompletion}      # by kind


def register(*kinds: type[LearnedRecovery]) -> None:
    """Let `load_recovery` load these kinds, too: the laboratory's baselines, which no bridge knows."""
    LEARNED.update((kind.name, kind) for kind in kinds)


def require_known(name: str) -> None:
    """Raise ArtifactError where a recovery of this name is only a baseline of the laboratory, which is not loaded here."""
    if name in RecoveryName.values() and name not in (RecoveryName.NONE, *METHODS, *LEARNED):
        raise ArtifactError(f'recovery {name} is a baseline for `evitif evaluate recovery` and does not run on a bridge: '
                            f'expected auto or one of {", ".join((*METHODS, *LEARNED))}')


def save_recovery(path: Path | str, network: LearnedRecovery, description: dict) -> dict:
    """Write weights, parameters as fp16, and `description` (model, fingerprint, cut, loss_range, …), and return it as it was written."""
    path = Path(path)
    parameters = dict(network.named_parameters())
    content = {'format': FORMAT, 'kind': network.name, 'sequence': asdict(network.sequence),
               'options': network.options, **description}
    write_described(path, content, path.with_suffix('.safetensors'), {name: tensor.half() if name in parameters else tensor
                                                                      for name, tensor in network.state_dict().items()})
    return read_json(path)


def load_recovery(path: Path | str, identity: Identity | str, split: SplitModel) -> tuple[LearnedRecovery, dict]:
    """Load the recovery described by the JSON file `path` for `split`, a model of this identity, taken to its grid of patches; or of this
    fingerprint (`evitif.model.fingerprint` with the cut). Raises ArtifactError where it was trained for another one, cannot be taken to
    the grid, or is a baseline that is not registered here."""
    description = read_artifact(path, TITLE, FORMAT, RecoveryName.values())
    require_known(kind := description['kind'])
    if description.get('cut') != split.cut:
        raise ArtifactError(f'recovery artifact {path} was trained for cut {description.get("cut")}, '
                            f'the model is cut after block {split.cut}')
    if isinstance(identity, str):
        require_fingerprint(path, TITLE, description.get('fingerprint'), description.get('model'), identity)
    else:
        identity.fitted_grid(path, TITLE, description)
    sequence = part_of(Sequence, description, 'sequence', path, TITLE)

    def network_of(weights: Path) -> LearnedRecovery:
        network = LEARNED[kind](sequence, **description['options'])
        network.attach(split)
        network.load_state_dict({name: tensor.float() if tensor.dtype == torch.float16 else tensor
                                 for name, tensor in read_tensors(weights).items()})
        return network.eval()
    network = read_arrays(path, TITLE, network_of)
    if network.sequence.grid == split.grid:
        return network, description
    try:
        return network.regridded(split.grid), description
    except ValueError as error:
        raise ArtifactError(f'{TITLE} {path}: {error}') from None
