"""Short videos from stills: what a camera that moves would have seen of a flat scene."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional

MARGIN = 1.5                        # a still is larger than the view by this, so that the camera can move over it
SLOWEST, FASTEST = 0.003, 0.12      # of the view's width in one unit of time; speeds between are equally likely in the logarithm
STANDING = 0.1                      # share of the videos in which the camera stands


def film(stills: torch.Tensor, size: int, times: Sequence[float], generator: torch.Generator) -> torch.Tensor:
    """Stills [n, C, S, S] in 0..255 to videos float32 [n, len(times), C, size, size] in 0..255.

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
    cosine, sine = (function(turn) * width[:, None] * zoom for function in (torch.cos, torch.sin))
    views = torch.stack((torch.stack((cosine, -sine, centre[..., 0]), 2), torch.stack((sine, cosine, centre[..., 1]), 2)), 2)
    grid = functional.affine_grid(views.flatten(0, 1), [n * frames, stills.shape[1], size, size], align_corners=False)
    video = functional.grid_sample(stills.float().repeat_interleave(frames, 0), grid, padding_mode='reflection', align_corners=False)
    video = video.unflatten(0, (n, frames)) * (1 + normal(n, frames, 1, 1, 1) * uniform(n, 1, 1, 1, 1, high=0.03))
    return (video + normal(*video.shape) * uniform(n, 1, 1, 1, 1, high=5.0)).clamp(0, 255)
