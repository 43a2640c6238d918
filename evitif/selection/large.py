"""The large Vision Transformer answers from the patches that it gets: at their positions, the others left out.

It is unchanged and not retrained (Im et al., arXiv 2404.07217). Instead of being left out, missing patches can be filled in
after the embedding by any recovery that was made for cut 0 (`evitif.recovery`).
"""

from __future__ import annotations

import torch

from evitif.model.errors import ModelError
from evitif.model.split import SplitModel
from evitif.recovery.methods import Recovery


def patches_of(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Images [B, C, H, W] to their patches of `size` (height, width): [B, patches, C * height * width], row by row."""
    batch, channels, height, width = images.shape
    grid = images.view(batch, channels, height // size[0], size[0], width // size[1], size[1])
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * size[0] * size[1])


def images_of(patches: torch.Tensor, grid: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    """What `patches_of` takes apart: [B, patches, C * height * width] to images [B, C, H, W]."""
    tiles = patches.view(len(patches), *grid, -1, *size)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(len(patches), -1, grid[0] * size[0], grid[1] * size[1])


class PatchModel:
    """A ViT cut before its embedding: its head takes an image apart and its tail is the whole model.

    It has what `SplitModel` has where patches are tokens (`head`, `tail`, `tokens`, `channels`, no prefix tokens), so that a
    transform code is fitted to patches in the same way as to tokens. Raises ModelError unless `split` is cut at 0 and embeds
    each patch by itself.

    :param recovery: fills in tokens of missing patches; None: they are left out of the sequence
    """

    prefix_tokens = 0

    def __init__(self, split: SplitModel, recovery: Recovery | None = None):
        projection = getattr(split.module.patch_embed, 'proj', None)
        size = tuple(getattr(projection, 'kernel_size', ()))
        if split.cut != 0:
            raise ModelError(f'the large model is cut after block {split.cut}: expected cut 0, since it gets patches')
        if len(size) != 2 or size != tuple(projection.stride) or \
                (split.grid[0] * size[0], split.grid[1] * size[1]) != split.image_size:
            raise ModelError(f'{type(split.module).__name__} does not embed each patch by itself (its embedding is '
                             f'{type(projection).__name__}): patches cannot be left out of its input')
        self.split, self.recovery = split, recovery
        self.module, self.cut, self.grid, self.patch_size, self.image_size = split.module, 0, split.grid, size, split.image_size
        self.tokens = split.grid[0] * split.grid[1]
        self.channels = split.input_channels * size[0] * size[1]

    def head(self, images: torch.Tensor) -> torch.Tensor:
        """Preprocessed images [B, C, H, W] to patches [B, P, C * height * width]."""
        return patches_of(images, self.patch_size)

    def embed(self, patches: torch.Tensor) -> torch.Tensor:
        """Patches [B, P, C * height * width] to the tokens at cut 0, [B, N, D]."""
        return self.split.head(images_of(patches, self.grid, self.patch_size))

    def tail(self, patches: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Patches to logits [B, classes]. `kept` (int64 [B, M], ascending) are those that are not left out."""
        if kept is not None:
            prefix = torch.arange(self.split.prefix_tokens, device=kept.device).expand(len(kept), -1)
            kept = torch.cat((prefix, kept + self.split.prefix_tokens), 1)
        return self.split.tail(self.embed(patches), kept)

    @torch.inference_mode()
    def answer(self, patches: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor | None = None) -> torch.Tensor:
        """Patches [B, P, C * height * width], anything where `received` bool [B, P] is not, to logits float32 [B, classes].

        :param packet_error_rate: as measured, [B] in 0..1, for a recovery that asks for it; None: nothing is lost
        :raises ValueError: an image without a patch; it is the light model that answers those
        """
        counts = received.sum(1)
        if int(counts.min()) < 1:
            raise ValueError(f'image {int(counts.argmin())} of the batch has no patch: expected at least one of each')
        patches = torch.where(received[:, :, None], patches, 0)
        if self.recovery is not None:
            return self._recovered(patches, received, packet_error_rate)
        logits = None
        for count in counts.unique().tolist():      # images with equally many patches run together
            chosen = counts == count
            kept = received[chosen].nonzero()[:, 1].view(-1, count)
            part = self.tail(patches[chosen], None if count == self.tokens else kept).float()
            logits = part.new_empty(len(patches), part.shape[1]) if logits is None else logits
            logits[chosen] = part
        return logits

    def _recovered(self, patches: torch.Tensor, received: torch.Tensor, packet_error_rate: torch.Tensor | None) -> torch.Tensor:
        tokens = self.embed(patches)
        present = torch.cat((received.new_ones(len(received), self.split.prefix_tokens), received), 1)
        rates = tokens.new_zeros(len(tokens)) if packet_error_rate is None else packet_error_rate.to(tokens)
        return self.recovery.recover(tokens, present, rates).logits(self.split).float()
