"""The light decoder of the heads that say something of each place: tokens of several blocks to a map finer than the patches.

After SETR-MLA and SETR-PUP (Zheng et al., arXiv 2012.15840) and SegFormer's head (Xie et al., arXiv 2105.15203): the blocks' tokens are
normalised, joined and projected; one layer mixes neighbours; then each patch is unfolded into scale x scale places (a sub-pixel
convolution, Shi et al., arXiv 1609.05158), which one more layer smooths. A linear map of the coarse features, interpolated, is added.

How far to trust each token (`Features.trust_map`) is an input: where tokens were lost, the decoder leans on their neighbours.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from evitif.heads.features import Features
from evitif.heads.head import Reading


class PlaceDecoder(nn.Module):
    """:param outputs: numbers that come out for each place

    :param width: of the features of a patch, `fine` of a place; `scale`: places along the side of a patch
    """

    def __init__(self, reading: Reading, outputs: int, width: int, fine: int, scale: int):
        super().__init__()
        self.reading, self.scale = reading, scale
        self.norms = nn.ModuleList(nn.LayerNorm(reading.channels) for _ in reading.blocks)
        self.project = nn.Linear(reading.channels * len(reading.blocks), width)
        self.trust = nn.Parameter(torch.zeros(width))
        self.first, self.second, self.third, self.fourth = (nn.BatchNorm2d(size) for size in (width, width, fine, fine))
        self.mix = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.unfold = nn.Conv2d(width, fine * scale**2, 1)
        self.smooth = nn.Conv2d(fine, fine, 3, padding=1, bias=False)
        self.out = nn.Conv2d(fine, outputs, 1)
        self.coarse = nn.Conv2d(width, outputs, 1)
        self.drop = nn.Dropout2d(0.1)

    def forward(self, features: Features) -> torch.Tensor:
        """[B, outputs, rows * scale, columns * scale]."""
        reading = self.reading
        patches = [norm(features.of_block(block, reading.final_norm and block == reading.last_block)[:, reading.prefix_tokens:].float())
                   for norm, block in zip(self.norms, reading.blocks, strict=True)]
        joined = self.project(torch.cat(patches, 2))
        trust = features.trust_map()
        if trust is not None:
            joined = joined + (1 - trust.float()).flatten(1)[:, :, None] * self.trust
        x = functional.relu(self.first(joined.transpose(1, 2).unflatten(2, reading.grid)))
        x = self.drop(x + functional.relu(self.second(self.mix(x))))
        fine = functional.relu(self.third(functional.pixel_shuffle(self.unfold(x), self.scale)))
        fine = fine + functional.relu(self.fourth(self.smooth(fine)))
        coarse = functional.interpolate(self.coarse(x), scale_factor=self.scale, mode='bilinear', align_corners=False)
        return self.out(fine) + coarse
