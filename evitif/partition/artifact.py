"""A partition on disk: a folder with `partition.json`, one artifact for each device and the fusion's weights.

| file | what it is | who needs it |
| --- | --- | --- |
| `partition.json` | the original's fingerprint, subsets, devices with the digest of their weights, figures, how it was made | all |
| `device-<i>.safetensors` | sub-model i: weights as fp16, with the partition's identity in the file's metadata | device i |
| `fusion.safetensors` | the fusion network, likewise | the bridge |

The partition's identity is a SHA-256 over the original's fingerprint, the subsets, the digests of all weights and the views, so that a
device and a bridge can tell in their handshake whether they are parts of one system.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from evitif.files import read_json, require_finite, write_json
from evitif.identity import difference
from evitif.model.artifact import read_artifact
from evitif.model.build import ModelSpec, build_model
from evitif.model.errors import ArtifactError
from evitif.model.fingerprint import fingerprint
from evitif.model.folder import find_model_folder
from evitif.model.preprocess import Preprocessor, tuples_of
from evitif.model.tensors import read_tensors, write_tensors
from evitif.partition.checks import check_device_name, check_subsets, check_unique
from evitif.partition.fusion import FusionNetwork
from evitif.partition.slicing import Shape, blank
from evitif.partition.view import View
from evitif.typed_json import typed
from evitif.wording import shortened

FORMAT = 1
DESCRIPTION_FILE, FUSION_FILE = 'partition.json', 'fusion.safetensors'


@dataclass(frozen=True)
class DeviceEntry:
    """What `partition.json` says of a device."""

    index: int
    name: str
    classes: tuple[int, ...]         # ids of the original's classes that it was pruned for
    shape: Shape
    parameters: int
    multiply_adds: int               # for one image
    digest: str                      # the sub-model's fingerprint (`evitif.model.fingerprint`), of its weights, settings and preprocessing
    fingerprint: str                 # hex SHA-256: the device's identity in the partition, for the handshake
    view: View = View()              # how it looks at the image


@dataclass(frozen=True)
class Description:
    """`partition.json`, read and checked."""

    folder: Path
    content: dict                    # all of it
    fingerprint: str                 # hex SHA-256: the partition's identity
    original: str                    # the fingerprint of the model that was divided
    model: str                       # its name
    class_names: tuple[str, ...]
    labels: tuple[str, ...]
    features: int                    # channels that each device sends
    redundancy: int                  # devices that each class is on
    data_config: dict                # preprocessing, as timm names it
    devices: tuple[DeviceEntry, ...]

    def device(self, which: str | int) -> DeviceEntry:
        """A device by name or number. Raises ArtifactError."""
        for entry in self.devices:
            if which in (entry.name, entry.index) or str(which) == str(entry.index):
                return entry
        raise ArtifactError(f'partition {self.folder} has no device {which!r} (expected one of '
                            f'{", ".join(entry.name for entry in self.devices)}, or its number)')


@dataclass(frozen=True)
class DeviceModel:
    """One device's sub-model with its preprocessing, in evaluation mode."""

    entry: DeviceEntry
    partition: Description
    module: nn.Module
    preprocessor: Preprocessor

    @property
    def labels(self) -> tuple[str, ...]:
        """Of `local_probabilities`: those of the device's classes, and 'other'."""
        return (*(self.partition.labels[index] for index in self.entry.classes), 'other')

    @torch.inference_mode()
    def features(self, image: torch.Tensor) -> np.ndarray:
        """A preprocessed image [1, C, H, W] to float32 [F]: the normed, pooled token; a narrower sub-model's ends in zeros."""
        return self.features_of(image)[0].cpu().numpy()

    def features_of(self, images: torch.Tensor) -> torch.Tensor:
        """Preprocessed images [B, C, H, W], as all devices are given them, to float32 [B, F]."""
        return sub_features(self.module, self.entry.view(images), self.partition.features)

    @torch.inference_mode()
    def local_probabilities(self, features: np.ndarray) -> np.ndarray:
        """Features float32 [F] to float32 [own + 1]: what this device alone says of its classes, and of 'other'."""
        weight = self.module.head.weight
        own = torch.from_numpy(np.asarray(features, np.float32))[:weight.shape[1]].to(weight)
        return self.module.head(own).float().softmax(0).cpu().numpy()


@dataclass(frozen=True)
class Fusion:
    """The fusion network with the devices that it knows."""

    partition: Description
    network: FusionNetwork

    @torch.inference_mode()
    def answer(self, features: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Features float32 [N, F] of the devices by index, and which of them were heard bool [N], to probabilities
        float32 [classes]. Rows of absent devices are not looked at. Raises ValueError on another shape."""
        count, channels = len(self.partition.devices), self.partition.features
        if np.shape(features) != (count, channels) or np.shape(present) != (count,):
            raise ValueError(f'expected features [{count}, {channels}] and present [{count}], got '
                             f'{list(np.shape(features))} and {list(np.shape(present))}')
        weight = self.network.linear.weight
        heard = torch.from_numpy(np.asarray(present, bool)).to(weight.device)
        values = torch.from_numpy(np.where(np.asarray(present, bool)[:, None], features, 0).astype(np.float32)).to(weight)
        return self.network(values[None], heard[None])[0].float().softmax(0).cpu().numpy()


def sub_features(module: nn.Module, images: torch.Tensor, channels: int) -> torch.Tensor:
    """The normed, pooled token of a sub-model [B, width], with zeros up to `channels`."""
    pooled = module.forward_head(module.forward_features(images), pre_logits=True).float()
    return torch.nn.functional.pad(pooled, (0, channels - pooled.shape[1]))


def save_partition(folder: Path | str, modules: list[nn.Module], network: FusionNetwork, about: dict) -> dict:
    """Write a whole partition and return `partition.json` as it was written.

    Modules and network are rounded in place to fp16, which is how they are stored.

    :param about: `original`, `model`, `architecture`, `model_kwargs`, `class_names`, `labels`, `data_config`, `redundancy`,
        `features`, `devices` (for each a dict with name, classes, shape, parameters, multiply_adds, where it has one its view, …),
        `figures`, `made_by`
    """
    folder = Path(folder)
    for module in (*modules, network):
        module.half().float()
    digests = [fingerprint(module, data_config=about['data_config']) for module in modules]
    fusion_digest = _digest(network)
    identity = _identity(about['original'], about['devices'], digests, fusion_digest)
    require_finite(about, f'{folder / DESCRIPTION_FILE} is not written')
    for index, module in enumerate(modules):
        write_tensors(folder / _device_file(index), _halved(module), {'partition': identity, 'device': str(index)})
    write_tensors(folder / FUSION_FILE, _halved(network), {'partition': identity})
    devices = [{'index': index, **entry, 'digest': digests[index]} for index, entry in enumerate(about['devices'])]
    content = {'format': FORMAT, 'fingerprint': identity, **about, 'devices': devices,
               'fusion': {**network.options, 'digest': fusion_digest}}
    write_json(folder / DESCRIPTION_FILE, content)
    return read_json(folder / DESCRIPTION_FILE)


def read_partition(folder: Path | str) -> Description:
    """Read and check `partition.json`, found as model folders are. Raises ArtifactError: unreadable, unfinished or contradictory."""
    folder = find_model_folder(str(folder)) or Path(folder).expanduser()
    path = folder / DESCRIPTION_FILE
    content = read_artifact(path, 'partition', FORMAT, advice='; `evitif train partition` makes one')
    try:
        identity = _identity(content['original'], content['devices'], [entry['digest'] for entry in content['devices']],
                             content['fusion']['digest'])
        devices = [{**entry, 'index': index, 'fingerprint': _device_identity(identity, index, entry['digest']),
                    'view': View(**entry.get('view', {}))}
                   for index, entry in enumerate(content['devices'])]
        found = typed(Description, {**content, 'folder': folder, 'content': content, 'devices': devices})
        check_subsets([device.classes for device in found.devices], len(found.class_names), found.redundancy, found.class_names)
        for device in found.devices:
            check_device_name(device.name, f'device {device.index}')
        check_unique([device.name for device in found.devices], 'devices')
        if identity != found.fingerprint:
            raise ValueError(f'its fingerprint is {found.fingerprint[:16]}…, what it describes has {identity[:16]}…')
        return found
    except (KeyError, TypeError, ValueError) as error:
        what = f'the key {error} is missing' if isinstance(error, KeyError) else str(error)
        raise ArtifactError(f'partition {path}: {what}') from None


def load_device(folder: Path | str, which: str | int, device: str | torch.device = 'cpu') -> DeviceModel:
    """Load a device's sub-model by name or number; reads `partition.json` and that device's file alone. Raises ArtifactError."""
    description = read_partition(folder)
    entry = description.device(which)
    path = description.folder / _device_file(entry.index)
    weights = _load(path, description)
    content = description.content
    kwargs = {**content['model_kwargs'], 'num_classes': len(description.class_names)}
    module = build_model(ModelSpec(content['architecture'], random_seed=0, model_kwargs=kwargs)).module
    blank(module, entry.shape, len(entry.classes) + 1)
    _fill(module, weights, path)
    if (found := fingerprint(module, data_config=description.data_config)) != entry.digest:
        raise ArtifactError(f'{path} is not the sub-model that {DESCRIPTION_FILE} describes: its digest is '
                            f'{found[:16]}…, expected {entry.digest[:16]}…{difference(entry.digest, found)}')
    return DeviceModel(entry, description, module.eval().requires_grad_(False).to(device), Preprocessor(tuples_of(description.data_config)))


def load_fusion(folder: Path | str, device: str | torch.device = 'cpu') -> Fusion:
    """Load the fusion network; needs `partition.json` and its own file alone. Raises ArtifactError."""
    description = read_partition(folder)
    path = description.folder / FUSION_FILE
    weights = _load(path, description)
    options = dict(description.content['fusion'])
    digest = options.pop('digest')
    try:
        network = FusionNetwork(**options)
    except TypeError as error:
        raise ArtifactError(f'partition {description.folder}: the fusion has the options {options}: {error}') from None
    _fill(network, weights, path)
    if _digest(network) != digest:
        raise ArtifactError(f'{path} is not the fusion that {DESCRIPTION_FILE} describes: its digest is '
                            f'{_digest(network)[:16]}…, expected {digest[:16]}…')
    return Fusion(description, network.eval().requires_grad_(False).to(device))


def _device_file(index: int) -> str:
    return f'device-{index}.safetensors'


def _halved(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().half().contiguous() for name, tensor in module.state_dict().items()}


def _load(path: Path, description: Description) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, 'pt') as file:
            found = (file.metadata() or {}).get('partition')
            if found != description.fingerprint:
                raise ArtifactError(f'{path} is of the partition {str(found)[:16]}…, {DESCRIPTION_FILE} beside it describes '
                                    f'{description.fingerprint[:16]}…')
        return {name: tensor.float() for name, tensor in read_tensors(path).items()}
    except ArtifactError:
        raise
    except (OSError, SafetensorError, ValueError) as error:
        raise ArtifactError(f'{path}: cannot be read: {shortened(error)}') from None


def _fill(module: nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise ArtifactError(f'{path}: does not fit its description: {shortened(error)}') from None


def _digest(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f'{name} {tuple(tensor.shape)}'.encode() + tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _identity(original: str, devices: list[dict], digests: list[str], fusion: str) -> str:
    content = [original, [list(entry['classes']) for entry in devices], digests, fusion]
    if any('view' in entry for entry in devices):       # a device that looked otherwise would send other features
        content.append([entry.get('view') for entry in devices])
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _device_identity(partition: str, index: int, digest: str) -> str:
    return hashlib.sha256(f'{partition} {index} {digest}'.encode()).hexdigest()
