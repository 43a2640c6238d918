"""The fingerprint by which edge, bridge and artifacts recognise the same model and cut.

It has a part for each thing that decides an answer, so a refusal can say which of them differs (`evitif.identity`):

- *weights*: names, types, shapes and bytes of the state dict;
- *architecture*: what the shapes do not say. The module tree with each module's class and settings: heads, scale, activation, eps, pooling,
  positions, window, image size. It leaves out what does nothing in evaluation (dropout, stochastic depth, identities), what only changes
  speed, what the shapes of the weights say already, and settings that are off. So a timm release with a new setting, off by default,
  changes nothing; one that renames a class does, and then both sides need the same timm;
- *preprocessing*: image size, mean, standard deviation, crop and interpolation;
- *cut*: its number.

The same on every machine and device: nothing in it is computed by the model, and floats are rounded to seven digits. So a model that was
resized (`resize.py`) has the weights and the architecture of before, and only the preprocessing says that it sees another size: resampled
positions may differ in their last bit between two machines.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from evitif.identity import PARTS, join_parts, parts
from evitif.model.artifact import require_fingerprint
from evitif.model.preprocess import data_config_of, tuples_of

_IDLE = {'Identity', 'Dropout', 'Dropout1d', 'Dropout2d', 'DropPath', 'DropBlock2d', 'PatchDropout', 'PatchDropoutWithIndices'}
_OF_TRAINING = {'training', 'inplace', 'grad_checkpointing', 'weight_init_mode', 'fix_init', 'head_init_scale', 'init_values', 'p',
                'drop_prob', 'scale_by_keep', 'drop_rate', 'momentum', 'aug_active', 'shift_coords', 'jitter_coords', 'rescale_coords'}
_OF_SPEED = {'fused_attn', 'pos_embed_cached', 'device', 'dtype'}
_IN_THE_SHAPES = {'num_classes', 'in_chans', 'num_features', 'head_hidden_size', 'embed_dim', 'attn_dim', 'latent_dim', 'in_features',
                  'out_features', 'in_channels', 'out_channels', 'normalized_shape', 'num_patches', 'elementwise_affine', 'affine',
                  'hidden_dim', 'hidden_features', 'prune_locs', 'feature_info', 'depth', 'strict_img_size'}
_OF_THE_HUB = {'pretrained_cfg', 'default_cfg', 'pretrained_model_args', 'model_args'}
_LEFT_OUT = _OF_TRAINING | _OF_SPEED | _IN_THE_SHAPES | _OF_THE_HUB
_VIEW = ('input_size', 'crop_pct', 'crop_mode')
_PREPROCESSING = {'input_size': None, 'mean': None, 'std': None, 'interpolation': 'bicubic', 'crop_pct': None, 'crop_mode': 'center'}


def fingerprint(module: nn.Module, cut: int | None = None, data_config: dict | None = None) -> str:
    """64 hexadecimal digits of a model in evaluation mode, float32, as it was built.

    :param cut: None where it is not cut
    :param data_config: the preprocessing (`evitif.model.preprocess`), where it is not the module's own
    """
    native = _native_of(module)
    weights, architecture = (weights_digest(module), architecture_digest(module)) if native is None else (native.weights, native.architecture)
    return join_parts(weights, architecture, preprocessing_digest(data_config_of(module) if data_config is None else data_config), cut)


@dataclass(frozen=True)
class _Native:
    """What a resized model was before."""

    weights: str
    architecture: str
    data_config: dict
    resized: str            # digest of the weights just after


@contextmanager
def remember_native(module: nn.Module) -> Iterator[None]:
    """Inside `with`, the model is resized: its identity stays what it is, until its weights are trained any further."""
    before = _native_of(module)
    weights, architecture, config = (weights_digest(module), architecture_digest(module), data_config_of(module)) if before is None else \
        (before.weights, before.architecture, before.data_config)
    yield
    module.__dict__['_evitif_native'] = _Native(weights, architecture, config, weights_digest(module))


def _native_of(module: nn.Module) -> _Native | None:
    native = module.__dict__.get('_evitif_native')
    return native if native is not None and native.resized == weights_digest(module) else None


@dataclass(frozen=True)
class Identity:
    """Who a cut model is to what was fitted to it: its fingerprint, and what that would be with other image sizes and fits.

    A code or a recovery depends on weights, architecture and cut. What it holds for each place can be resampled to another grid of
    patches, so one that was fitted at the model's own size serves the others.
    """

    fingerprint: str
    data_config: dict           # of the preprocessing
    native: dict                # the same as the weights came
    grid: tuple[int, int]       # (rows, columns) of patches

    @classmethod
    def of(cls, module: nn.Module, cut: int, grid: tuple[int, int], native: dict | None = None) -> Identity:
        """That of a model in evaluation mode.

        :param native: its preprocessing before image size and fit were changed; None: it is as it was built
        """
        config = data_config_of(module)
        return cls(fingerprint(module, cut), config, config if native is None else native, grid)

    def with_view(self, data_config: dict) -> str:
        """The fingerprint of the same model and cut with this preprocessing."""
        found = parts(self.fingerprint)
        return join_parts(found['weights'], found['architecture'], preprocessing_digest(data_config), int(found['cut'], 16))

    def fitted_grid(self, path: Path | str, title: str, description: dict) -> tuple[int, int]:
        """The grid (rows, columns) that an artifact of this model was fitted at, by its description.

        Raises ArtifactError, with both fingerprints and what differs, where it is of another model.
        """
        own, made_for = self.fingerprint, description.get('fingerprint')
        for config in (self.data_config, self.native, {**self.native, **tuples_of(seen_by(description))}):
            if made_for == self.with_view(config):
                sizes = self.grid, self.data_config['input_size'][1:], config['input_size'][1:]
                return tuple(count * new // old for count, old, new in zip(*sizes, strict=True))
        require_fingerprint(path, title, made_for, description.get('model'), own)
        return self.grid


def view_of(data_config: dict) -> dict:
    """For the description of an artifact: how the model that it was fitted to looked at pictures."""
    return {'view': {name: data_config.get(name) for name in _VIEW}}


def seen_by(description: dict) -> dict:
    """What `view_of` wrote; empty where there is nothing of it."""
    view = description.get('view')
    fits = isinstance(view, dict) and set(view) == set(_VIEW) and isinstance(view['input_size'], list | tuple) and len(view['input_size']) == 3 \
        and all(type(side) is int and side > 0 for side in view['input_size'])
    return view if fits else {}


def weights_digest(module: nn.Module) -> str:
    """Hex SHA-256 over the state dict, in the order of its names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)  # reshape: a 0-d tensor has no byte view
    return digest.hexdigest()


def architecture_digest(module: nn.Module) -> str:
    """Hex SHA-256 over `settings`."""
    return _sha256(settings(module))


def preprocessing_digest(data_config: dict) -> str:
    """Hex SHA-256 over what timm's evaluation transform is made from."""
    return _sha256({name: _plain(data_config.get(name, default)) for name, default in _PREPROCESSING.items()})


def same_preprocessing(fingerprint: str, data_config: dict) -> bool:
    """Whether a fingerprint is of a model with this preprocessing, asked without the model."""
    return parts(fingerprint)['preprocessing'] == preprocessing_digest(data_config)[:PARTS['preprocessing']]


def settings(module: nn.Module) -> dict[str, dict]:
    """What decides an answer beside the weights: each module's class and the settings that are on, by the module's name."""
    return {name: {'class': type(part).__name__, **_settings(part)} for name, part in sorted(module.named_modules())
            if type(part).__name__ not in _IDLE}


def _settings(part: nn.Module) -> dict:
    found = {name: _plain(value) for name, value in vars(part).items() if not name.startswith('_') and name not in _LEFT_OUT}
    return {name: value for name, value in sorted(found.items()) if not _off(value)}


def _plain(value: object) -> object:
    """`value` as JSON, without memory addresses and independent of order; None where it is no setting."""
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return f'{value:.7g}'
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in sorted(value.items(), key=lambda pair: str(pair[0]))}
    if isinstance(value, functools.partial):
        return [_plain(value.func), _plain(value.args), _plain(value.keywords)]
    if callable(value) and not isinstance(value, nn.Module):
        return getattr(value, '__qualname__', type(value).__qualname__)
    return None


def _off(value: object) -> bool:
    return all(_off(item) for item in value) if isinstance(value, list) else value in (None, False, 0, '0', '', {})


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
