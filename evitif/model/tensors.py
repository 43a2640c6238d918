"""Tensors on disk, as safetensors, never written or read with a value that is not finite: a NaN in a weight makes every answer NaN, or
worse, the first class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from evitif.files import json_text, not_finite, replacing, require_finite, write_bytes
from evitif.model.errors import ModelError


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
