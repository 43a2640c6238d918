"""The tensors of a checkpoint file by the model's own names, without the wrappers and prefixes of the program that wrote it.

The first bytes say what the file is: safetensors, or PyTorch's own format, of which tensors and plain containers are read and no code is
run.
"""

from __future__ import annotations

import argparse
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch

from evitif.model.errors import ModelError
from evitif.model.hugging_face import rename_to_timm
from evitif.model.stored_weights import unpack_weights
from evitif.wording import few, shortened

# Where training programs put a model's weights, in order of preference: an average of them before the last ones.
WRAPPERS = ('state_dict_ema', 'model_ema', 'ema_state_dict', 'ema_model', 'ema', 'teacher', 'state_dict', 'model_state_dict', 'model_state',
            'model', 'net', 'network', 'module', 'weights', 'params', 'student', 'target_encoder', 'backbone', 'encoder')
_PREFERRED = ('ema', 'teacher', 'target_encoder')         # of several models in one file: the average
_ANCHORS = ('patch_embed.', 'blocks.0.')                  # where the names of a Vision Transformer of timm begin
_OF_TIMM = ('visual.', 'module.visual.', 'vision_encoder.', 'beit3.')         # prefixes that timm's own filters strip


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in the file. Raises ModelError, naming the file, where it holds none, or several of equal rank."""
    try:
        found = _unwrapped(_read(path))
    except Exception as error:      # PyTorch's readers raise many kinds for a damaged file
        raise ModelError(f'checkpoint {str(path)!r} cannot be read: {shortened(error, 400)}') from None
    return _without_prefix(path, rename_to_timm(found, str(path)))


def is_numpy_archive(path: Path) -> bool:
    """Whether the file is an .npz, in which the first Vision Transformers were published (JAX)."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith('.npy') for name in archive.namelist())


def _read(path: Path) -> object:
    with open(path, 'rb') as file:
        begin = file.read(9)
    if begin[8:9] == b'{' and int.from_bytes(begin[:8], 'little') < path.stat().st_size:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        try:
            return unpack_weights(load_file(path))
        except SafetensorError as error:
            raise ValueError(str(error)) from None
    if begin[:7] == b'version':
        raise ValueError('it is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`')
    if not zipfile.is_zipfile(path) and begin[:1] != b'\x80':
        raise ValueError('it is neither a safetensors file nor one that torch.save wrote')
    try:
        # DeiT's and timm's trainings save their arguments beside the weights: the one plain object that may be in the file.
        with torch.serialization.safe_globals([argparse.Namespace]), open(path, 'rb') as file:
            return torch.load(file, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(f'it holds Python objects{_foreign(path)}, which would have to be run, or is damaged; where you trust it, save '
                         "its tensors alone: torch.save(model.state_dict(), 'weights.pth')") from None


def _foreign(path: Path) -> str:
    try:
        return f' ({few(torch.serialization.get_unsafe_globals_in_checkpoint(path), 2)})'
    except Exception:       # PyTorch cannot tell for older files
        return ''


def _unwrapped(content: object) -> dict[str, torch.Tensor]:
    """The tensors of the innermost container that holds a model."""
    for _ in range(8):
        if not isinstance(content, Mapping):
            raise ValueError(f'it holds a {type(content).__name__}: expected the tensors of a model by name')
        inner = [name for name, value in content.items() if _holds_tensors(value)]
        tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
        known = [name for name in WRAPPERS if name in inner]
        if known:
            content = content[known[0]]
        elif any(anchor in name for name in tensors for anchor in _ANCHORS) or not inner:
            if not tensors:
                raise ValueError('it holds no tensors by name')
            return tensors
        elif len(inner) == 1:
            content = content[inner[0]]
        else:
            raise ValueError(f'it holds several sets of tensors ({few(map(str, inner))}): save the one that is meant alone')
    raise ValueError('its containers are nested too deeply')


def _holds_tensors(value: object, depth: int = 4) -> bool:
    """Whether a container holds a model's tensors by name; in an optimiser's state the names are numbers."""
    return depth > 0 and isinstance(value, Mapping) and any(
        isinstance(name, str) and (isinstance(item, torch.Tensor) or _holds_tensors(item, depth - 1)) for name, item in value.items())


def _without_prefix(path: Path, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Strip the prefix before timm's names, word by word, and drop a second model in the file, such as a student.

    What lies beside the backbone, such as a classifier, keeps its name, so it is neither lost nor silently left out.
    """
    while True:
        prefixes = {prefix for prefix in map(_prefix_of, tensors) if prefix is not None}
        if not prefixes or '' in prefixes or any(prefix.startswith(_OF_TIMM) for prefix in prefixes):
            return tensors
        words = sorted({prefix.split('.')[0] + '.' for prefix in prefixes})
        preferred = words if len(words) == 1 else [word for word in words if any(part in word for part in _PREFERRED)]
        if len(preferred) != 1:
            raise ModelError(f'checkpoint {str(path)!r} holds several models ({few(words)}): save the one that is meant alone')
        others = tuple(word for word in words if word != preferred[0])
        kept = [(name.removeprefix(preferred[0]), tensor) for name, tensor in tensors.items() if not name.startswith(others)]
        tensors = dict(kept)
        if len(tensors) < len(kept):
            raise ModelError(f'checkpoint {str(path)!r} has tensors both with and without {preferred[0]!r} before the same name: save the '
                             'model that is meant alone')


def _prefix_of(name: str) -> str | None:
    """What stands before the first name of timm's in this one; None where there is none in it."""
    starts = [start for anchor in _ANCHORS if (start := name.find(anchor)) >= 0 and (start == 0 or name[start - 1] == '.')]
    return name[:min(starts)] if starts else None
