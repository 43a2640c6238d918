"""The fingerprint by which edge, bridge and artifacts know that they speak of the same model and cut."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def fingerprint(module: nn.Module, cut: int | None = None) -> str:
    """Hex SHA-256 over the names, types, shapes and bytes of the weights, the input size, and the cut where given.

    The same on every machine and device: weights are hashed as stored, in the order of their names.
    """
    digest = hashlib.sha256()
    digest.update(f'{type(module).__name__} {tuple(module.patch_embed.img_size)} {len(module.blocks)} '
                  f'{getattr(module, "global_pool", "")} cut={cut}'.encode())
    for name, tensor in sorted(module.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)  # reshape: a 0-d tensor has no byte view
    return digest.hexdigest()
