"""Loads weights into a model, and checks by name and shape that every tensor of the model came from them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from evitif.model.errors import ModelError
from evitif.wording import few

# First words of the names of a Vision Transformer's own tensors. Other tensors of a file may be left over where the classifier may be
# missing, and in a model that has none: another head, attention pooling, a decoder, a mask token.
_BODY = {'blocks', 'patch_embed', 'pos_embed', 'cls_token', 'dist_token', 'reg_token', 'register_tokens', 'norm', 'norm_pre', 'rope',
         'rel_pos_bias', 'blocks_token_only', 'layers', 'encoder', 'embeddings'}
_CLASSIFIERS = ('head', 'head_dist')
_lock = threading.RLock()


@dataclass(frozen=True)
class Loaded:
    """What happened to the tensors of a file."""

    missing: tuple[str, ...] = ()        # tensors of the model that are not in it: of its classifier, where that may be missing
    left_over: tuple[str, ...] = ()      # tensors of the file that the model has no place for
    resized: tuple[str, ...] = ()        # position and patch embeddings that were resampled to the model's size


def classifiers_of(module: nn.Module) -> tuple[str, ...]:
    """The names of a model's classifiers."""
    named = (getattr(module, 'pretrained_cfg', None) or {}).get('classifier') or ()
    return tuple(dict.fromkeys(((named,) if isinstance(named, str) else tuple(named)) + _CLASSIFIERS))


def of_classifier(name: str, module: nn.Module) -> bool:
    """Whether a tensor is of one of the model's classifiers."""
    return name.startswith(tuple(f'{classifier}.' for classifier in classifiers_of(module)))


def load_whole(module: nn.Module, tensors: dict[str, torch.Tensor], origin: str, name: str, *, reset_head: bool = False,
               advice: str = '') -> Loaded:
    """Give `module` every one of its tensors, and leave none over.

    :param origin: of the tensors, and the architecture's name: for the text of an error
    :param reset_head: the classifier may be missing, and what belongs to no Vision Transformer may be left over
    :param advice: how the text of an error ends
    :raises ModelError: some are missing, left over, of another shape or not finite; the text names a few and says how many
    """
    own, head_is_free = module.state_dict(), reset_head or getattr(module, 'num_classes', None) == 0
    missing = [name for name in own if name not in tensors]
    left_over = [name for name in tensors if name not in own]
    other = [f'{name} ({_form(tensors[name])} there, {_form(tensor)} in the model)' for name, tensor in own.items()
             if name in tensors and _form(tensors[name]) != _form(tensor)]
    required = [name for name in missing if not (head_is_free and of_classifier(name, module))]
    in_the_way = [name for name in left_over if not head_is_free or name.split('.')[0] in _BODY]
    complaints = [f'{what}: {few(names)}' for what, names in (
        ('not in it', required), ('of another shape', other), ('left over in it', in_the_way)) if names]
    if complaints:
        came = len(own) - len(missing) - len(other)
        raise ModelError(f'{origin} does not fit {name}: it brings {came} of the {len(own)} tensors; {"; ".join(complaints)}{advice}')
    broken = [name for name in own if name in tensors and tensors[name].is_floating_point() and not tensors[name].isfinite().all()]
    if broken:
        raise ModelError(f'{origin} holds values that are not finite: {few(broken)}')
    module.load_state_dict({name: tensors[name] for name in own if name in tensors}, strict=False)
    return Loaded(tuple(missing), tuple(left_over))


def _form(tensor: torch.Tensor) -> str:
    """Shape, and the type unless it is a float: floats of every precision are accepted."""
    shape = 'x'.join(map(str, tensor.shape)) or 'one value'
    return shape if tensor.is_floating_point() else f'{str(tensor.dtype).removeprefix("torch.")} {shape}'


@contextlib.contextmanager
def loads_seen_by(load: Callable[[nn.Module, dict], object]) -> Iterator[None]:
    """Inside `with`, whatever this thread would load into a model goes through `load` instead.

    timm loads a checkpoint itself, after the architecture's own filter has renamed and resampled it, and with another number of classes
    takes whatever fits; there is no other way to see which tensors those were.
    """
    original, owner = nn.Module.load_state_dict, threading.get_ident()

    def seen(module: nn.Module, state_dict: dict, *arguments: object, **options: object) -> object:
        if threading.get_ident() != owner:
            return original(module, state_dict, *arguments, **options)
        nn.Module.load_state_dict = original
        try:
            load(module, state_dict)
        finally:
            nn.Module.load_state_dict = seen
        return original(nn.Identity(), {})      # nothing is missing, nothing is left over

    with _lock:
        nn.Module.load_state_dict = seen
        try:
            yield
        finally:
            nn.Module.load_state_dict = original
