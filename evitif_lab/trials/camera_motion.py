"""Short videos from stills: what a camera that moves would have seen of a flat scene.

`film` is for recovery with a memory: frames at any times, an even motion over a still larger than the view. `camera_path` is for the
entropy codes: frames in a row, a motion that wanders. They draw different motions because the codes that ship were fitted to the second
and the figures of docs/notes/2026-11-30-recovery-with-a-memory.md come from the first; both see an image in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

MARGIN = 1.5                        # a still is larger than the view by this, so that the camera can move over it
SLOWEST, FASTEST = 0.003, 0.12      # of the view's width in one unit of time; speeds between are equally likely in the logarithm
STANDING = 0.1                      # share of the videos in which the camera stands
SHIFT, ZOOM, TURN = 0.012, 0.006, 0.006      # spread for one frame: of the image's side, of its scale, in radians
NOISE, FLICKER, CONTRAST = 1.5, 1.5, 0.008   # spread, in grey levels, and of the contrast


def film(stills: torch.Tensor, size: tuple[int, int], times: Sequence[float], generator: torch.Generator) -> torch.Tensor:
    """Stills [n, C, S, T] in 0..255 to videos float32 [n, len(times), C, h, w] in 0..255, of the same proportions.

    The camera shifts, zooms and turns evenly, with some jitter; exposure flickers by up to 3 % and the sensor adds noise of up to five
    grey levels (standard deviations). `times` are those of the frames, in units of which one moves a scene as much as one frame of a
    camera does.
    """
    n, frames = len(stills), len(times)
    middle = torch.tensor(times, dtype=torch.float32) - (min(times) + max(times)) / 2

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    speed = torch.exp(uniform(n, low=math.log(SLOWEST), high=math.log(FASTEST))) * (uniform(n) >= STANDING)
    direction = uniform(n, high=2 * math.pi)
    way = torch.stack((direction.cos(), direction.sin()), 1)[:, None] * middle[None, :, None] + 0.3 * normal(n, frames, 2)
    zoom = torch.exp((0.3 * normal(n, 1) * speed[:, None] * middle).clamp(-0.5, 0.5))
    turn = 0.5 * normal(n, 1) * speed[:, None] * middle + uniform(n, 1, low=-0.05, high=0.05)
    width = uniform(n, low=0.9 / MARGIN, high=1.35 / MARGIN)        # of the view, in the still's
    centre = ((1 - width)[:, None] * uniform(n, 2, low=-1))[:, None] + 2 * way * (speed * width)[:, None, None]
    scenes, scale = stills.float().repeat_interleave(frames, 0), width[:, None] * zoom
    video = _seen(scenes, scale.flatten(), turn.flatten(), centre.flatten(0, 1), size)
    video = video.unflatten(0, (n, frames)) * (1 + normal(n, frames, 1, 1, 1) * uniform(n, 1, 1, 1, 1, high=0.03))
    return (video + normal(*video.shape) * uniform(n, 1, 1, 1, 1, high=5.0)).clamp(0, 255)


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
        seen = _seen(images.float(), pose[:, 2].exp(), pose[:, 3], 2 * pose[:, :2], images.shape[2:])
        seen = seen + torch.randn(seen.shape, generator=generator) * NOISE * torch.rand(count, 1, 1, 1, generator=generator)
        light = torch.randn(count, 2, 1, 1, 1, generator=generator) * speed.clamp(max=1)[:, None, None, None, None]
        seen = (seen - 128) * (1 + CONTRAST * light[:, 0]) + 128 + FLICKER * light[:, 1]
        found.append(seen.round().clamp(0, 255).to(torch.uint8))
        velocity = 0.9 * velocity + 0.44 * torch.randn(count, 4, generator=generator) * spread
        pose = pose + speed[:, None] * velocity
    return torch.stack(found, 1)


def _seen(images: torch.Tensor, scale: torch.Tensor, turn: torch.Tensor, centre: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Float images [n, C, H, W] to views [n, C, *size], of the same proportions; what is outside of an image is mirrored.

    :param scale: [n], side of the view in that of the image
    :param turn: [n], radians
    :param centre: [n, 2], of the view, x and y, from -1 to 1
    """
    cosine, sine = scale * turn.cos(), scale * turn.sin()
    upright = images.shape[2] / images.shape[3]         # turned in pixels, not in shares of the sides
    rows = (cosine, -sine * upright, centre[:, 0]), (sine / upright, cosine, centre[:, 1])
    views = torch.stack([torch.stack(row, 1) for row in rows], 1)
    grid = functional.affine_grid(views, [*images.shape[:2], *size], align_corners=False)
    return functional.grid_sample(images, grid, padding_mode='reflection', align_corners=False)
