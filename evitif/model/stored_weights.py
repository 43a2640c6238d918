"""A model's weights on disk: unchanged, as float16, or as int8 with a step for each row, in one safetensors file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from evitif.model.errors import ModelError
from evitif.model.tensors import read_tensors

STORED_AS = ('float32', 'float16', 'int8')
STEP = '.step'          # behind the name of a tensor whose rows are int8
_SMALLEST_STEP = 2.0**-14       # the smallest normal binary16
_SMALLEST = 4096        # values; smaller tensors (norms, biases, special tokens) stay float16


def pack_weights(weights: dict[str, torch.Tensor], stored_as: str) -> dict[str, torch.Tensor]:
    """A state dict as it is stored, by name; `unpack_weights` makes float32 tensors of it again.

    int8 is symmetric, with one float16 step for each output channel (Krishnamoorthi, arXiv 1806.08342). Raises ValueError for
    another `stored_as` than STORED_AS, and for a value above float16's largest.
    """
    if stored_as not in STORED_AS:
        raise ValueError(f'weights cannot be stored as {stored_as!r} (expected {", ".join(STORED_AS)})')
    written = {}
    for name, tensor in weights.items():
        tensor = tensor.detach().cpu().contiguous()
        if stored_as == 'float32' or not tensor.is_floating_point():
            written[name] = tensor
        elif stored_as == 'int8' and tensor.ndim > 1 and tensor.numel() >= _SMALLEST and len(tensor) > 1:
            largest = tensor.float().abs().amax(tuple(range(1, tensor.ndim)), keepdim=True)
            step = _halved(name, (largest / 127).clamp(min=_SMALLEST_STEP), stored_as)
            written[name] = (tensor / step.float()).round().clamp(-127, 127).to(torch.int8)
            written[name + STEP] = step.flatten()
        else:
            written[name] = _halved(name, tensor, stored_as)
    return written


def _halved(name: str, tensor: torch.Tensor, stored_as: str) -> torch.Tensor:
    halved = tensor.half()
    if not halved.isfinite().all():
        raise ValueError(f'the tensor {name} cannot be stored as {stored_as}: it has the value {float(tensor[~halved.isfinite()][0]):g}, '
                         f'expected at most {torch.finfo(torch.float16).max:g}; float32 holds more')
    return halved


def unpack_weights(written: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict, in float32, that `pack_weights` stored."""
    weights = {}
    for name, tensor in written.items():
        if tensor.dtype == torch.int8 and name + STEP in written:
            weights[name] = tensor.float() * written[name + STEP].float().view(-1, *[1] * (tensor.ndim - 1))
        elif not (name.endswith(STEP) and name.removesuffix(STEP) in written):
            weights[name] = tensor.float() if tensor.is_floating_point() else tensor
    return weights


def round_weights(module: nn.Module, stored_as: str) -> None:
    """Give `module` the values that its weights have after they are stored and read again."""
    module.load_state_dict(unpack_weights(pack_weights(module.state_dict(), stored_as)))


def load_weights(path: Path | str) -> dict[str, torch.Tensor]:
    """Raises OSError or safetensors.SafetensorError; ModelError, naming file and tensor, where a value is not finite."""
    try:
        return unpack_weights(read_tensors(path))
    except ValueError as error:
        raise ModelError(str(error)) from None
