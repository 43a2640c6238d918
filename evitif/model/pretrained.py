"""A timm model with weights from a file or from timm's hub, all of them, with the classifier that comes with them."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from evitif.model.checkpoint_file import is_numpy_archive, read_checkpoint
from evitif.model.errors import ModelError
from evitif.model.loading import Loaded, classifiers_of, load_whole, loads_seen_by, of_classifier
from evitif.wording import few, shortened

_PATCH = 'patch_embed.proj.weight'
_MOST_PREFIX_TOKENS = 8
Create = Callable[[dict], nn.Module]      # keyword arguments of timm.create_model to the model


class OtherSizeError(Exception):
    """The file is of a model of another size: of these keyword arguments."""


def build_from_file(name: str, path: Path, arguments: dict, create: Create, *, for_training: bool = False, reset_head: bool = False,
                    likely_size: tuple[int, int] | None = None) -> tuple[nn.Module, Loaded]:
    """A timm model with the weights of a checkpoint. Number of classes and, unless `arguments` say one, image size are the file's.

    :param for_training: a patch embedding of another size is resampled
    :param reset_head: the classifier may be missing
    :param likely_size: (height, width), the file's image size if its positions are as many, which do not say the shape of their grid
    :raises ModelError: not all of the model's weights are in the file, or more than those
    """
    if is_numpy_archive(path):
        return _from_numpy(name, path, arguments, create, for_training, reset_head)
    file = _File(name, path, read_checkpoint(path), for_training, reset_head)
    if 'img_size' not in arguments and likely_size is not None and _is_of_size(file.tensors, likely_size):
        arguments = {**arguments, 'img_size': likely_size}
    for _ in range(2):
        try:
            return file.build(arguments, create)
        except OtherSizeError as other:
            arguments = {**arguments, **other.args[0]}
    return file.build(arguments, create)


@dataclass(frozen=True)
class _File:
    """A checkpoint, and the name of the architecture that it is read for."""

    name: str
    path: Path
    tensors: dict[str, torch.Tensor]
    for_training: bool
    reset_head: bool

    @property
    def origin(self) -> str:
        return f'checkpoint {str(self.path)!r}'

    def build(self, arguments: dict, create: Create) -> tuple[nn.Module, Loaded]:
        """Raises OtherSizeError where the file has another number of classes or image size, and `arguments` name none."""
        found: list[Loaded] = []

        def load(module: nn.Module, filtered: dict[str, torch.Tensor]) -> None:
            _require_size(module, self.tensors, filtered, arguments, self.origin)
            found.append(self._load(module, filtered))

        # timm drops the classifier unless it takes it for the model's own.
        overlay = {'state_dict': self.tensors, 'custom_load': False, 'source': '',
                   **{key: arguments[key] for key in ('num_classes',) if key in arguments}}
        try:
            with loads_seen_by(load):
                module = create({**arguments, 'pretrained': True, 'pretrained_cfg_overlay': overlay})
        except ModelError as error:
            if error.__cause__ is not None:     # timm's filter gave up: say what does not fit
                load_whole(create(arguments), self.tensors, self.origin, self.name)
            raise
        if not found:
            raise ModelError(f'{self.origin}: timm has no way to load a file into {self.name}')
        return module, found[0]

    def _load(self, module: nn.Module, filtered: dict[str, torch.Tensor]) -> Loaded:
        resized = tuple(key for key, tensor in filtered.items() if key in self.tensors and self.tensors[key].shape != tensor.shape)
        if not self.for_training:
            _require_patches(module, self.tensors, self.origin, self.name)
        loaded = load_whole(module, filtered, self.origin, self.name, reset_head=self.reset_head,
                            advice=_advice(self.name, self.path, module, filtered))
        return replace(loaded, resized=resized)


def build_from_hub(name: str, arguments: dict, create: Create, *, reset_head: bool = False) -> tuple[nn.Module, Loaded]:
    """A timm model with the weights of timm's hub. Raises ModelError where not all of them came from there."""
    origin = f"timm's pretrained file of {name}"
    found: list[Loaded] = []

    def load(module: nn.Module, filtered: dict[str, torch.Tensor]) -> None:
        _require_classes(module, arguments, origin)
        found.append(load_whole(module, filtered, origin, name, reset_head=reset_head))

    with loads_seen_by(load):
        module = create({**arguments, 'pretrained': True})
    _require_classes(module, arguments, origin)
    if not found:
        raise ModelError(f'{origin}: timm does not tell which weights it loaded; download the file '
                         f'({module.pretrained_cfg.get("url") or module.pretrained_cfg.get("hf_hub_id")}) and give it as the checkpoint')
    return module, found[0]


def _require_classes(module: nn.Module, arguments: dict, origin: str) -> None:
    own, asked = module.pretrained_cfg.get('num_classes'), arguments.get('num_classes')
    if asked is not None and own is not None and own != asked:
        raise ModelError(f'{origin} has a classifier of {own} classes, num_classes={asked} was asked for')


def _require_size(module: nn.Module, tensors: dict[str, torch.Tensor], filtered: dict[str, torch.Tensor], arguments: dict,
                  origin: str) -> None:
    """Raise OtherSizeError where the file has other classes or another image size than `module`; ModelError where somebody asked for
    other classes."""
    changed = {}
    counts = {len(filtered[f'{classifier}.weight']) for classifier in classifiers_of(module)
              if getattr(filtered.get(f'{classifier}.weight'), 'ndim', 0) == 2}
    if len(counts) == 1 and (count := counts.pop()) != module.num_classes:
        if 'num_classes' in arguments:
            raise ModelError(f'{origin} has a classifier of {count} classes, num_classes={arguments["num_classes"]} was asked for')
        changed['num_classes'] = count
    if 'img_size' not in arguments and (size := _image_size(module, tensors)) is not None:
        changed['img_size'] = size
    if changed:
        raise OtherSizeError(changed)


def _require_patches(module: nn.Module, tensors: dict[str, torch.Tensor], origin: str, name: str) -> None:
    """Raise ModelError for a patch embedding of another size, which timm would resample."""
    given, own = tensors.get(_PATCH), module.state_dict().get(_PATCH)
    if given is not None and own is not None and given.ndim == own.ndim == 4 and given.shape[-2:] != own.shape[-2:]:
        raise ModelError(f'{origin} has patches of {_size(given)} pixels, {name} has {_size(own)}')


def _image_size(module: nn.Module, tensors: dict[str, torch.Tensor]) -> int | None:
    """The side of the image that the file's position embedding is for, in pixels, where it is square and not the model's own."""
    given, own = tensors.get('pos_embed'), getattr(module, 'pos_embed', None)
    patch = tensors.get(_PATCH)
    if given is None or own is None or given.ndim != 3 or own.ndim != 3 or given.shape == own.shape or patch is None:
        return None
    patches = given.shape[1] - (0 if getattr(module, 'no_embed_class', False) else int(module.num_prefix_tokens))
    side, patch_size = math.isqrt(max(0, patches)), getattr(module.patch_embed, 'patch_size', None)
    if side < 1 or side**2 != patches or patch_size is None or tuple(patch.shape[-2:]) != tuple(patch_size):
        return None
    return side * patch_size[0]


def _is_of_size(tensors: dict[str, torch.Tensor], size: tuple[int, int]) -> bool:
    """Whether the file has as many positions as an image of `size` (height, width), which is no square, has patches."""
    given, patch = tensors.get('pos_embed'), tensors.get(_PATCH)
    if given is None or patch is None or given.ndim != 3 or patch.ndim != 4 or size[0] == size[1]:
        return False
    patches = math.prod(side // each for side, each in zip(size, patch.shape[-2:], strict=True))
    return 0 <= given.shape[1] - patches <= _MOST_PREFIX_TOKENS


def _advice(name: str, path: Path, module: nn.Module, tensors: dict[str, torch.Tensor]) -> str:
    """What to do with a file without a classifier, or of another architecture."""
    own = [key for key in module.state_dict() if not of_classifier(key, module)]
    if all(key in tensors for key in own) and not any(key in tensors for key in module.state_dict() if of_classifier(key, module)):
        return f' (a backbone without a classifier: {train_a_classifier(name, str(path))})'
    if sum(key in tensors for key in own) < len(own) / 2:
        return f' (its names begin with {few(tensors, 3)}: expected the weights of {name} as timm names them)'
    return ''


def require_classifier(module: nn.Module, name: str, checkpoint: str | None, pretrained: bool) -> None:
    """Raise ModelError, saying what to do, for a backbone that knows no classes."""
    if int(getattr(module, 'num_classes', 0)) > 0:
        return
    weights = checkpoint or ('pretrained' if pretrained else None)
    way = 'set num_classes' if weights is None else train_a_classifier(name, weights)
    raise ModelError(f'model {name!r} has no classifier (0 classes): {way}')


def train_a_classifier(name: str, weights: str) -> str:
    """What to do with a model that has no classifier."""
    command = shlex.join(['evitif', 'train', 'model', '--architecture', name, '--initial-weights', weights, '--reset-head'])
    return f'`{command} --data FOLDER --output FOLDER` trains one on your own classes, and FOLDER is then the model'


def _size(patch: torch.Tensor) -> str:
    return 'x'.join(map(str, patch.shape[-2:]))


_NUMPY_NAMES = {'head/bias': 'head.bias', 'embedding/kernel': _PATCH, 'Transformer/posembed_input/pos_embedding': 'pos_embed',
                'pos_embedding': 'pos_embed'}       # the last is of Big Vision


def _as_pytorch(array: np.ndarray) -> torch.Tensor:
    """Of a convolution [h, w, in, out] as [out, in, h, w]."""
    return torch.from_numpy(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array)


def _from_numpy(name: str, path: Path, arguments: dict, create: Create, for_training: bool, reset_head: bool) -> tuple[nn.Module, Loaded]:
    """The first Vision Transformers' files (JAX), which timm's class reads itself; parameters that stay NaN were not in the file."""
    origin = f'checkpoint {str(path)!r}'
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = archive.files
            arrays = {ending: archive[key] for key in names for ending in _NUMPY_NAMES if re.search(rf'(^|/){ending}$', key)}
    except (OSError, ValueError, EOFError) as error:
        raise ModelError(f'{origin} cannot be read: {shortened(error)}') from None
    bias, sizes = arrays.pop('head/bias', None), {_NUMPY_NAMES[ending]: _as_pytorch(array) for ending, array in arrays.items()}
    if bias is not None and arguments.get('num_classes', len(bias)) != len(bias):
        raise ModelError(f'{origin} has a classifier of {len(bias)} classes, num_classes={arguments["num_classes"]} was asked for')
    arguments = arguments if bias is None else {**arguments, 'num_classes': len(bias)}
    module = create(arguments)
    if 'img_size' not in arguments and (size := _image_size(module, sizes)) is not None:
        module = create({**arguments, 'img_size': size})
    if not for_training:
        _require_patches(module, sizes, origin, name)
    if not hasattr(module, 'load_pretrained'):
        raise ModelError(f'{origin}: timm reads no .npz file for {name}')
    kept = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(math.nan)
    try:
        module.load_pretrained(str(path))
    except Exception as error:      # a missing key, a shape, another layout: timm passes every kind on
        raise ModelError(f'{origin} does not fit {name}: {shortened(error)}') from None
    untouched = [key for key, tensor in module.state_dict().items() if tensor.is_floating_point() and tensor.isnan().any()]
    blocks = {match[1] for key in names if (match := re.search(r'encoderblock_(\d+)/', key))}
    left_over = sorted(f'encoderblock_{block}' for block in blocks if int(block) >= len(module.blocks))
    tensors = {key: tensor for key, tensor in module.state_dict().items() if key not in untouched}
    loaded = load_whole(module, tensors | {block: torch.zeros(1) for block in left_over}, origin, name, reset_head=reset_head)
    module.load_state_dict({key: kept[key] for key in loaded.missing}, strict=False)
    return module, loaded
