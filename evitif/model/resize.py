"""A model for pictures of another size: the same weights, with positions resampled to the new grid of patches by timm.

Position embeddings are resampled bicubically, relative positions by their distances, rotary ones are computed for the new grid. Which of
timm's classes can is asked of timm (`set_input_size`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from evitif.image_size import size_text
from evitif.model.errors import ModelError
from evitif.model.fingerprint import remember_native
from evitif.wording import shortened

MOST_PATCHES = 8191         # with a class token, what an answer's bitmap of tokens has room for


def require_fitting_size(name: str, patch: tuple[int, int], size: tuple[int, int]) -> None:
    """Raise ModelError, naming the sizes, unless an image of `size` divides into patches of `patch` (height, width), and not too many."""
    if size[0] % patch[0] or size[1] % patch[1]:
        near = tuple(max(1, round(side / each)) * each for side, each in zip(size, patch, strict=True))
        raise ModelError(f'image_size is {size_text(size)}, and {name} has patches of {size_text(patch)} pixels: expected a multiple in '
                         f'height and in width, such as {size_text(near)}')
    patches = size[0] // patch[0] * (size[1] // patch[1])
    if patches > MOST_PATCHES:
        raise ModelError(f'image_size is {size_text(size)}, which {name} divides into {patches} patches: expected at most {MOST_PATCHES}')


def patch_size_of(module: nn.Module) -> tuple[int, int]:
    """Height and width of a patch, pixels."""
    embed: Any = module.patch_embed
    if getattr(embed, 'patch_size', None) is not None:
        return tuple(embed.patch_size)
    (rows, columns), (height, width) = embed.grid_size, embed.img_size
    return height // rows, width // columns


def resize(module: nn.Module, name: str, size: tuple[int, int]) -> tuple[str, ...]:
    """Let `module` take images of `size` (height, width), and return the names of the tensors that were resampled.

    :raises ModelError: not a multiple of the patch, too many patches, or timm has no way to do it for this class
    """
    embed = getattr(module, 'patch_embed', None)
    if getattr(embed, 'grid_size', None) is None or not hasattr(module, 'set_input_size'):
        raise ModelError(f'{name} takes no other image size: timm cannot resample the positions of its class {type(module).__name__}')
    own = tuple(embed.img_size)
    require_fitting_size(name, patch_size_of(module), size)
    if own == tuple(size):
        return ()
    before = {key: tensor.shape for key, tensor in module.state_dict().items()}
    with remember_native(module):
        try:
            with torch.no_grad():
                module.set_input_size(img_size=tuple(size))
        except Exception as error:      # whatever a class of timm stumbles over means: not this one
            raise ModelError(f'{name} cannot be resized from {size_text(own)} to {size_text(size)}: {shortened(error)}') from error
    return tuple(key for key, tensor in module.state_dict().items() if before.get(key) != tensor.shape)
