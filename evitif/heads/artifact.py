"""A head on disk: a folder with `head.safetensors` and its description, `head.json`. The folder's name is the head's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evitif.files import read_json
from evitif.heads.classify import LinearProbe, Prototypes
from evitif.heads.depth import DepthHead
from evitif.heads.embed import EmbedHead
from evitif.heads.head import Head, Reading
from evitif.heads.segment import SegmentHead
from evitif.identity import difference, of_a_model
from evitif.image_size import size_text
from evitif.model.artifact import part_of, read_arrays, read_artifact
from evitif.model.errors import ArtifactError
from evitif.model.field_of_view import fit_of
from evitif.model.fingerprint import trunk_fingerprint
from evitif.model.folder import find_folder
from evitif.model.preprocess import data_config_of
from evitif.model.split import SplitModel
from evitif.model.tensors import read_tensors, write_described
from evitif.vocabulary import Task

FORMAT, TITLE = 1, 'head'
DESCRIPTION_FILE, WEIGHTS_FILE = 'head.json', 'head.safetensors'
HEADS: dict[str, type[Head]] = {kind.kind: kind for kind in (LinearProbe, Prototypes, EmbedHead, SegmentHead, DepthHead)}


def register(*kinds: type[Head]) -> None:
    """Let `load_head` load these kinds, too."""
    HEADS.update((kind.kind, kind) for kind in kinds)


@dataclass(frozen=True)
class HeadDescription:
    """What `head.json` says and whoever reads a head's answers needs; no weights."""

    kind: str
    task: Task
    model: str                          # the backbone's name
    fingerprint: str                    # of the backbone up to the last block that is read (`trunk_fingerprint`)
    reading: Reading
    digest: str                         # of the weights, hex: edge and bridge compare it
    labels: tuple[str, ...] = ()
    options: dict = field(default_factory=dict)
    name: str = ''                      # of its topics

    @property
    def identity(self) -> tuple[str, str]:
        """Name, and 16 hexadecimal digits of all that decides what an answer means, which edge and bridge compare."""
        said = [self.kind, self.task, self.fingerprint, asdict(self.reading), self.digest, self.labels, self.options]
        return self.name, sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def head_folder(name: str) -> Path:
    """The folder that `name` names: a path, or below `artifacts/`. Raises ArtifactError where there is none with a head."""
    folder = find_folder(name, DESCRIPTION_FILE) or find_folder(f'artifacts/{name}', DESCRIPTION_FILE)
    if folder is None:
        raise ArtifactError(f'head {name!r} does not exist: expected a folder with {DESCRIPTION_FILE} and {WEIGHTS_FILE}, which '
                            '`evitif train head` writes')
    return folder


def save_head(folder: Path | str, head: Head, module: nn.Module, description: dict, data_config: dict | None = None) -> dict:
    """Write a head for the backbone `module` (float32, as it was built) and return its description.

    :param description: what else to say: model, data, seed, figures, made_by
    """
    folder = Path(folder)
    weights = {name: tensor.detach().cpu().float() for name, tensor in head.state_dict().items()}
    content = {'format': FORMAT, 'kind': head.kind, 'task': head.task.value,
               'fingerprint': trunk_fingerprint(module, head.reading.last_block, head.reading.final_norm, data_config),
               'reading': asdict(head.reading), 'labels': list(head.labels), 'options': head.options, 'digest': _digest_of(weights),
               **description}
    write_described(folder / DESCRIPTION_FILE, content, folder / WEIGHTS_FILE, weights)
    return read_json(folder / DESCRIPTION_FILE)


def read_head(name: str) -> HeadDescription:
    """The description of the head in the folder `name`. Raises ArtifactError where there is none or it cannot be used."""
    folder = head_folder(name)
    path = folder / DESCRIPTION_FILE
    description = read_artifact(path, TITLE, FORMAT, HEADS)
    found = part_of(HeadDescription, {'head': {**description, 'name': folder.resolve().name}}, 'head', path, TITLE)
    if HEADS[found.kind].task != found.task:
        raise ArtifactError(f'{TITLE} {path}: a head of the kind {found.kind} cannot have the task {found.task}: expected '
                            f'{HEADS[found.kind].task}')
    return found


def load_head(name: str, backbone: str, split: SplitModel, fingerprint_of: Callable[[int, bool], str]) -> Head:
    """Load the head in the folder `name` for `split`, a model named `backbone`.

    :param fingerprint_of: `trunk_fingerprint` of the model as it was built, of a block and final norm
    :raises ArtifactError: it was made for another backbone or another picture size, or reads what the robot keeps; both are named
    """
    about, folder = read_head(name), head_folder(name)
    path, reading = folder / DESCRIPTION_FILE, about.reading
    _require_view(folder, about, backbone, split)
    if reading.last_block > split.depth or (found := fingerprint_of(reading.last_block, reading.final_norm)) != about.fingerprint:
        why = f' (it reads block {reading.last_block} and there are {split.depth})' if reading.last_block > split.depth else \
            difference(about.fingerprint, found) if of_a_model(about.fingerprint) else ''
        raise ArtifactError(f'{TITLE} {folder} was trained on the backbone {about.model} (fingerprint {about.fingerprint[:16]}…), this '
                            f'model is {backbone}{"" if reading.last_block > split.depth else f" (fingerprint {found[:16]}…)"}{why}')
    if early := [block for block in reading.blocks if block < split.cut]:
        raise ArtifactError(f'{TITLE} {folder} reads the output of block {early[0]}, which stays on the robot: {backbone} is cut after '
                            f'block {split.cut}; expected a cut of at most {min(reading.blocks)}')

    def head_of(weights: Path) -> Head:
        kind: Any = HEADS[about.kind]
        head = kind(reading, about.labels, **about.options)
        tensors = read_tensors(weights)
        head.load_state_dict(tensors)
        if _digest_of(tensors) != about.digest:
            raise ValueError(f'they are not those that {path.name} describes')
        head.name = about.name
        return head.eval()
    return read_arrays(path, TITLE, head_of)


def _digest_of(weights: dict[str, torch.Tensor]) -> str:
    digest = sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f'{name} {tuple(tensor.shape)}'.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _require_view(folder: Path, about: HeadDescription, backbone: str, split: SplitModel) -> None:
    """Raise ArtifactError where the backbone sees pictures in another size or fit than in the head's training."""
    reading, fit = about.reading, fit_of(data_config_of(split.module))
    if reading.image_size != split.image_size or reading.fit not in (None, fit):
        wanted, seen = ('' if reading.fit in (None, fit) else f' and fit {each}' for each in (reading.fit, fit))
        trained, here = size_text(reading.image_size), size_text(split.image_size)
        raise ArtifactError(f'{TITLE} {folder} was trained for pictures of {trained} pixels{wanted} with {about.model}, {backbone} here '
                            f'takes {here}{seen}: leave image_size and fit to the heads (empty and auto), or train the head again')
