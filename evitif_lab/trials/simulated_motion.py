"""Frames of a moving camera made from single images: shift, zoom, turn, noise, flicker, for what is fitted to video without one."""

from __future__ import annotations

import torch
from torch.nn import functional

SHIFT, ZOOM, TURN = 0.012, 0.006, 0.006      # spread for one frame: of the image's side, of its scale, in radians
NOISE, FLICKER, CONTRAST = 1.5, 1.5, 0.008   # spread, in grey levels, and of the contrast


def camera_path(images: torch.Tensor, frames: int, generator: torch.Generator, speed: torch.Tensor | None = None) -> torch.Tensor:
    """Images uint8 [n, 3, H, W] to a path of frames uint8 [n, frames, 3, H, W] of the same size, the first from its middle.

    The camera starts with a speed of its own and keeps most of it; what is outside of the image is mirrored.

    :param speed: float [n], what the spreads are multiplied by; None: drawn for each image, log-uniform from 0.3 to 5
    """
    count = len(images)
    if speed is None:
        speed = torch.exp(torch.empty(count).uniform_(-1.2, 1.6, generator=generator))
    spread = torch.tensor([SHIFT, SHIFT, ZOOM, TURN])
    velocity = torch.randn(count, 4, generator=generator) * spread
    pose = torch.zeros(count, 4)
    pose[:, 2] = -0.1                                       # a little inside, so that little of the border is mirrored
    found = []
    for _ in range(frames):
        seen = _warped(images, pose)
        seen = seen + torch.randn(seen.shape, generator=generator) * NOISE * torch.rand(count, 1, 1, 1, generator=generator)
        light = torch.randn(count, 2, 1, 1, 1, generator=generator) * speed.clamp(max=1)[:, None, None, None, None]
        seen = (seen - 128) * (1 + CONTRAST * light[:, 0]) + 128 + FLICKER * light[:, 1]
        found.append(seen.round().clamp(0, 255).to(torch.uint8))
        velocity = 0.9 * velocity + 0.44 * torch.randn(count, 4, generator=generator) * spread
        pose = pose + speed[:, None] * velocity
    return torch.stack(found, 1)


def _warped(images: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
    """Each image seen from its pose [n, 4]: two shifts, the logarithm of the scale, and the angle."""
    scale, cosine, sine = pose[:, 2].exp(), pose[:, 3].cos(), pose[:, 3].sin()
    transform = torch.stack([torch.stack([scale * cosine, -scale * sine, 2 * pose[:, 0]], 1),
                             torch.stack([scale * sine, scale * cosine, 2 * pose[:, 1]], 1)], 1)
    grid = functional.affine_grid(transform, list(images.shape), align_corners=False)
    return functional.grid_sample(images.float(), grid, mode='bilinear', padding_mode='reflection', align_corners=False)
