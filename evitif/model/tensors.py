"""Tensors on disk: safetensors for what is kept, PyTorch's own format for the states of trainings. Neither is written or read
with a value that is not finite: a NaN in a weight makes every answer NaN, or worse, the first class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from evitif.files import json_text, not_finite, replacing, require_finite, write_bytes
from evitif.model.errors import ModelError
from evitif.wording import shortened


def require_finite_answers(title: str, **tensors: torch.Tensor) -> None:
    """Raise ModelError unless what a model computed is finite: weights that are too large overflow on the way."""
    if (found := not_finite(tensors)) is not None:
        raise ModelError(f'{title}: {found}: expected a model whose answers are numbers')


def write_tensors(path: Path | str, tensors: Mapping[str, Any], metadata: dict[str, str] | None = None) -> None:
    """Write tensors or arrays as safetensors. Raises files.WriteError; ValueError, naming the tensor that is not finite."""
    write_bytes(path, _packed(path, tensors, metadata))


def write_described(path: Path | str, description: dict, weights: Path | str, tensors: Mapping[str, Any]) -> None:
    """Write a description in JSON to `path` and what it describes to `weights`, both or neither; raises as `write_tensors`."""
    text, content = json_text(path, description), _packed(weights, tensors)
    with replacing(path) as new, replacing(weights) as new_weights:
        new.write_text(text)
        new_weights.write_bytes(content)


def _packed(path: Path | str, tensors: Mapping[str, Any], metadata: dict[str, str] | None = None) -> bytes:
    from safetensors.torch import save
    content = {name: torch.as_tensor(tensor).detach().cpu().contiguous() for name, tensor in tensors.items()}
    require_finite(content, f'{path} is not written')
    return save(content, metadata)


def read_tensors(path: Path | str) -> dict[str, torch.Tensor]:
    """Read safetensors. Raises OSError or safetensors.SafetensorError; ValueError, naming the tensor that is not finite."""
    from safetensors.torch import load_file
    content = load_file(path)
    require_finite(content, f'{path} is of no use')
    return content


def write_state(path: Path | str, state: dict) -> None:
    """Write what a training goes on from. Raises files.WriteError; ValueError, naming the value that is not finite."""
    require_finite(state, f'{path} is not written')
    with replacing(path) as new, open(new, 'wb') as file:
        torch.save(state, file)


def read_state(path: Path | str, advice: str = 'remove it to begin anew') -> dict:
    """Read what `write_state` wrote. Raises ValueError, naming the file and saying `advice`, for one that is damaged."""
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f'it holds a {type(state).__name__}, not the state of a training')
        require_finite(state, 'of no use')
    except MemoryError:
        raise
    except Exception as error:      # a torn file makes the readers raise anything from EOFError to UnpicklingError
        raise ValueError(f'{path} is damaged and cannot be gone on with ({shortened(error, 120)}); {advice}') from None
    return state
