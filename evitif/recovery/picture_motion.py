"""How the picture moved between two frames, seen in the tokens alone, and tokens moved with it.

The motion is affine: a camera's pan, turn and zoom, and the way of a car into its picture. It is found by Lucas and Kanade's method (IJCAI
1981; Baker and Matthews, "Lucas-Kanade 20 years on", IJCV 2004) with tokens for pixels, whose many channels are the constraints that a
pixel lacks: least squares over the places whose token is known in both frames, a few steps of Gauss and Newton, beginning with the motion
before. Tokens between the places of the grid are interpolated.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from evitif.model.regrid import Grid

STEPS = 2
STIFFNESS = 0.02        # of the least squares' own mean diagonal, which is added: few tokens move little
MOST_LONGER = 3.0       # an interpolated token is made longer by this at most
MIXED = 32              # channels that random ones are mixed to for the search; all are moved


class PictureMotion:
    """Affine motions of a `grid` (rows, columns) of tokens of D `channels`.

    A motion is float [2, 3]: how many rows and columns of patches off the place lies that is looked at; for a constant, the row and the
    column of the place, which go from -1 to 1 over the picture.
    """

    def __init__(self, grid: Grid, channels: int, device: torch.device):
        self.rows, self.columns = grid
        down, across = ((torch.arange(size, device=device) + 0.5) / size * 2 - 1 for size in grid)
        rows, columns = torch.meshgrid(down, across, indexing='ij')
        self._terms = torch.stack((torch.ones_like(rows), rows, columns))                   # [3, rows, columns]
        generator = torch.Generator().manual_seed(0)
        mixed = torch.linalg.qr(torch.randn(channels, min(MIXED, channels), generator=generator))[0]
        self._mixing = mixed.T.contiguous().to(device)                                      # [MIXED, D]
        self.still = torch.zeros(2, 3, device=device)

    def found(self, now: torch.Tensor, received: torch.Tensor, before: torch.Tensor, known: torch.Tensor,
              start: torch.Tensor) -> torch.Tensor:
        """The motion from `before` [P, D], at the places `known` bool [P], to `now` [P, D] at those `received`, both less their mean."""
        now, before = (self._picture(values @ self._mixing.T) for values in (now, before))
        motion, here = start, self._picture(received)
        there = self._picture(known[:, None].float())
        for _ in range(STEPS):
            seen = self._moved(torch.cat((before, there)), motion)
            chosen = (here & (seen[-1] > 0.5)).flatten()
            slopes = torch.stack(self._slopes(seen[:-1])).flatten(2)[:, :, chosen]          # [2, MIXED, n]
            errors, terms = (now - seen[:-1]).flatten(1)[:, chosen], self._terms.flatten(1)[:, chosen]
            steep = torch.einsum('icn,jcn->ijn', slopes, slopes)
            system = torch.einsum('ijn,an,bn->iajb', steep, terms, terms).reshape(6, 6)
            wanted = torch.einsum('icn,cn,an->ia', slopes, errors, terms).reshape(6)
            system.diagonal().add_(STIFFNESS * system.diagonal().mean() + 1e-6)
            motion = motion + torch.linalg.solve(system, wanted).view(2, 3)
        return motion

    def moved(self, tokens: torch.Tensor, beside: torch.Tensor, motion: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens [P, D], less their mean, and other values [P, V] by a motion, those at the border continued.

        A mean of neighbours is shorter than each, and unlike any token that the tail knows: it gets the neighbours' mean length.
        """
        length = tokens.norm(dim=1, keepdim=True)
        both = self._moved(self._picture(torch.cat((tokens, length, beside), 1)), motion).flatten(1).T
        found, wanted = both[:, :tokens.shape[1]], both[:, tokens.shape[1], None]
        longer = (wanted / found.norm(dim=1, keepdim=True).clamp(min=1e-6)).clamp(1, MOST_LONGER)
        return found * longer, both[:, tokens.shape[1] + 1:]

    def _picture(self, values: torch.Tensor) -> torch.Tensor:
        return values.movedim(0, -1).unflatten(-1, (self.rows, self.columns))

    def _moved(self, picture: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
        off = torch.einsum('ij,jhw->ihw', motion, self._terms)
        where = torch.stack((self._terms[2] + off[1] * (2 / self.columns), self._terms[1] + off[0] * (2 / self.rows)), -1)
        return functional.grid_sample(picture[None], where[None], padding_mode='border', align_corners=False)[0]

    @staticmethod
    def _slopes(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        wide = functional.pad(picture[None], (1, 1, 1, 1), mode='replicate')[0]
        return (wide[:, 2:, 1:-1] - wide[:, :-2, 1:-1]) / 2, (wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2]) / 2
