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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from evitif.identity import PARTS, join_parts, parts
from evitif.model.preprocess import data_config_of

_IDLE = {'Identity', 'Dropout', 'Dropout1d', 'Dropout2d', 'DropPath', 'DropBlock2d', 'PatchDropout', 'PatchDropoutWithIndices'}
_OF_TRAINING = {'training', 'inplace', 'grad_checkpointing', 'weight_init_mode', 'fix_init', 'head_init_scale', 'init_values', 'p',
                'drop_prob', 'scale_by_keep', 'drop_rate', 'momentum', 'aug_active', 'shift_coords', 'jitter_coords', 'rescale_coords'}
_OF_SPEED = {'fused_attn', 'pos_embed_cached', 'device', 'dtype'}
_IN_THE_SHAPES = {'num_classes', 'in_chans', 'num_features', 'head_hidden_size', 'embed_dim', 'attn_dim', 'latent_dim', 'in_features',
                  'out_features', 'in_channels', 'out_channels', 'normalized_shape', 'num_patches', 'elementwise_affine', 'affine',
                  'hidden_dim', 'hidden_features', 'prune_locs', 'feature_info', 'depth', 'strict_img_size'}
_OF_THE_HUB = {'pretrained_cfg', 'default_cfg', 'pretrained_model_args', 'model_args'}
_LEFT_OUT = _OF_TRAINING | _OF_SPEED | _IN_THE_SHAPES | _OF_THE_HUB
_BEHIND_THE_BLOCKS = {'head', 'head_dist', 'head_drop', 'fc_norm', 'attn_pool', 'blocks_token_only'}
_PREPROCESSING = {'input_size': None, 'mean': None, 'std': None, 'interpolation': 'bicubic', 'crop_pct': None, 'crop_mode': 'center'}


def fingerprint(module: nn.Module, cut: int | None = None, data_config: dict | None = None) -> str:
    """64 hexadecimal digits of a model in evaluation mode, float32, as it was built.

    :param cut: None where it is not cut
    :param data_config: the preprocessing (`evitif.model.preprocess`), where it is not the module's own
    """
    return join_parts(weights_digest(module), architecture_digest(module),
                  preprocessing_digest(data_config_of(module) if data_config is None else data_config), cut)


def trunk_fingerprint(module: nn.Module, block: int, final_norm: bool, data_config: dict | None = None) -> str:
    """The same of what leads to the outputs of the first `block` blocks alone; in the cut's place is that number.

    So models that differ only in later blocks or in the classifier have the same one.

    :param final_norm: the norm behind the last block belongs to it
    """
    def counts(name: str) -> bool:
        part, _, rest = name.partition('.')
        if part == 'blocks' and rest:
            return int(rest.partition('.')[0]) < block
        return part not in _BEHIND_THE_BLOCKS and (final_norm or part != 'norm')
    return join_parts(weights_digest(module, counts), _sha256({name: value for name, value in settings(module).items() if counts(name)}),
                      preprocessing_digest(data_config_of(module) if data_config is None else data_config), block)


def weights_digest(module: nn.Module, counts: Callable[[str], bool] = lambda name: True) -> str:
    """Hex SHA-256 over those of the state dict whose name `counts`, in the order of the names."""
    digest = hashlib.sha256()
    native = _native_of(module)
    state = module.state_dict() if native is None else {**module.state_dict(), **native.tensors}
    for name, tensor in sorted((name, tensor) for name, tensor in state.items() if counts(name)):
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
    native = _native_of(module)
    if native is not None:
        return native.settings
    return {name: {'class': type(part).__name__, **_settings(part)} for name, part in sorted(module.named_modules())
            if type(part).__name__ not in _IDLE}


@dataclass(frozen=True)
class _Native:
    """What a resized model was before: the tensors that changed, its settings; and the tensors that came of the former."""

    tensors: dict[str, torch.Tensor]
    settings: dict[str, dict]
    resampled: dict[str, torch.Tensor]


@contextmanager
def remember_native(module: nn.Module) -> Iterator[None]:
    """Inside `with`, the model is resized: its identity stays what it is until its positions are trained any further."""
    before, known = dict(module.state_dict()), settings(module)
    earlier = _native_of(module)
    yield
    after = module.state_dict()
    changed = [name for name in after if after[name] is not before[name] and not torch.equal(after[name], before[name])]
    native = {name: before[name] for name in changed} if earlier is None else earlier.tensors
    module.__dict__['_evitif_native'] = _Native(native, known, {name: after[name].clone() for name in native})


def _native_of(module: nn.Module) -> _Native | None:
    """None too where the positions are no longer those that were resampled."""
    native = module.__dict__.get('_evitif_native')
    if native is None:
        return None
    state = module.state_dict()
    return native if all(torch.equal(state[name].cpu(), tensor.to(state[name].dtype).cpu()) for name, tensor in native.resampled.items()) \
        else None


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
