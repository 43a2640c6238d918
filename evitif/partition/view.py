"""How each device looks at the image: moved by a few pixels, every second one mirrored.

A Vision Transformer's answer depends on where the patch grid falls on the image, so answers to moved and mirrored copies of it
err differently and are worth averaging (test-time augmentation; Krizhevsky et al., 'ImageNet classification with deep
convolutional neural networks', 2012). Devices that are fused anyway can have a view each, which costs nothing. This is ours.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch


@dataclass(frozen=True)
class View:
    """Moves the image down and right by so many pixels, reflecting it at the border, and then mirrors it or not."""

    down: int = 0
    right: int = 0
    mirrored: bool = False

    def __post_init__(self):
        if type(self.down) is not int or type(self.right) is not int or type(self.mirrored) is not bool:
            raise ValueError(f'a view is {asdict(self)}: expected whole pixels down and right, and mirrored true or false')

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W], preprocessed or not, to the same. Raises ValueError where they are too small to be moved so far."""
        height, width = images.shape[2:]
        if max(abs(self.down), abs(self.right)) >= min(height, width):
            raise ValueError(f'an image of {height}x{width} cannot be moved by {self.down} and {self.right} pixels')
        if self.down or self.right:
            rows, columns = (_reflected(size, moved).to(images.device) for size, moved in ((height, self.down), (width, self.right)))
            images = images[:, :, rows][:, :, :, columns]
        return images.flip(3) if self.mirrored else images


def _reflected(size: int, moved: int) -> torch.Tensor:
    """Where the pixels of a row come from, int64 [size]."""
    source = torch.arange(size) - moved
    source = source.abs()
    return torch.where(source >= size, 2 * (size - 1) - source, source)
