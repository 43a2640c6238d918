"""Refine a fitted transform code by gradient: analysis, synthesis and levels become those with which the frozen tail's answer
changes least, at all rates at once.

The closed form (`evitif.training.transform_code`) takes the answer for a quadratic function of the error. At half a bit for each
channel the error is too large for that, and what the tail makes of it is better learned than derived. Codes stay as they are laid
out, so nothing changes at run time. Gradients pass the quantiser as if it were the identity (straight-through; Bengio et al.,
arXiv 1308.3432).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from evitif.model.device import mixed_precision
from evitif.model.split import SplitModel
from evitif.model.transform_code import MAX_DEPTH, Basis, TransformCode, code_row_bytes
from evitif.training.checkpoint import Checkpoint
from evitif.training.descent import Descent, descend

BATCH = 48              # images of a step, shared among the rates
LEARNING_RATE = 5e-3    # of each entry, in units of the root mean square of its column or row


def refine_code(code: TransformCode, split: SplitModel, tokens: torch.Tensor, answers: torch.Tensor, rates: tuple[str, ...],
                steps: int, seed: int = 0, precision: str = 'fp32', checkpoint: Checkpoint | None = None) -> tuple[TransformCode, dict]:
    """The code after so many steps, and the last losses.

    :param tokens: lossless training tokens [n, N, D] and the tail's `answers` to them, logits [n, classes], on the CPU
    :param rates: what the code is refined for; each counts by how much more it diverges than it did
    :param precision: of the tail's arithmetic, see `mixed_precision`
    """
    device = next(split.module.parameters()).device
    module = _Coding(code, rates, split.prefix_tokens).to(device)
    share = BATCH // len(rates)

    def losses(step: int) -> dict[str, torch.Tensor]:
        chosen = torch.randint(0, len(tokens), (share * len(rates),), generator=torch.Generator().manual_seed(seed * 1_000_003 + step))
        parts = tokens[chosen].to(device).float().split(share)
        with mixed_precision(str(device), precision):
            logits = split.tail(torch.cat([module(part, rate) for part, rate in zip(parts, rates, strict=True)]))
        divergence = functional.kl_div(logits.float().log_softmax(1), answers[chosen].to(device).log_softmax(1), log_target=True,
                                       reduction='none').sum(1)
        return {rate: part.mean() for rate, part in zip(rates, divergence.split(share), strict=True)}

    with torch.no_grad():
        first = [losses(step) for step in range(steps, steps + 8)]      # draws that are not trained on
    before = {rate: max(1e-6, float(torch.stack([found[rate] for found in first]).mean())) for rate in rates}
    descent = Descent(steps, LEARNING_RATE, weight_decay=0.0, warmup=min(30, steps), average_decay=0.99, save_every=200)
    refined, smooth, seconds = descend(
        descent, module, losses, lambda found: sum(value / before[name] for name, value in found.items()), [module.parameters()],
        f'code at cut {split.cut}', checkpoint)
    return refined.code(), {**{f'refined_{name}': round(value, 5) for name, value in smooth.items()},
                            'refinement_seconds': round(seconds, 1)}


class _Coding(nn.Module):
    """A code whose arrays are parameters: offsets to those that it began with, in units of their size."""

    def __init__(self, code: TransformCode, rates: tuple[str, ...], prefix_tokens: int):
        super().__init__()
        self.prefix_tokens, self.orders = prefix_tokens, [basis.order for basis in code.bases]
        self.mean = nn.Parameter(torch.from_numpy(code.mean.copy()))
        self.levels = nn.ParameterList(torch.from_numpy(values.copy()) for values in code.levels)
        self.analysis, self.synthesis = nn.ParameterList(), nn.ParameterList()
        for index, basis in enumerate(code.bases):
            for name, array, axis, offsets in (('analysis', basis.analysis, 0, self.analysis),
                                               ('synthesis', basis.synthesis, 1, self.synthesis)):
                first = torch.from_numpy(array.copy())
                self.register_buffer(f'first_{name}{index}', first)
                self.register_buffer(f'unit_{name}{index}', first.square().mean(axis, keepdim=True).sqrt())
                offsets.append(nn.Parameter(torch.zeros_like(first)))
        self._layouts = {rate: [basis.layout(code_row_bytes(rate, code.channels)) for basis in code.bases] for rate in rates}

    def _arrays(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Analysis [D, K] and synthesis [K, D]."""
        return tuple(getattr(self, f'first_{name}{index}') + getattr(self, f'unit_{name}{index}') * offsets[index]
                     for name, offsets in (('analysis', self.analysis), ('synthesis', self.synthesis)))

    def forward(self, tokens: torch.Tensor, rate: str) -> torch.Tensor:
        """Tokens [B, N, D] as they arrive in rows of that rate."""
        parts = []
        for index, layout in enumerate(self._layouts[rate]):
            places = slice(index, index + 1) if index < self.prefix_tokens else slice(self.prefix_tokens, None)
            analysis, synthesis = self._arrays(index)
            mean = self.mean[places]
            part = mean.expand(len(tokens), -1, -1)
            for depth, chosen, _ in layout:
                values, coefficients = self.levels[depth - 1], (tokens[:, places] - mean) @ analysis[:, chosen]
                boundaries = ((values[1:] + values[:-1]) / 2).detach().sort().values
                quantised = values[torch.bucketize(coefficients.detach().contiguous(), boundaries)]
                limit = 1.3 * float(values.detach().abs().max())       # far beyond the last level nothing changes the code
                passed = coefficients.clamp(-limit, limit)
                part = part + (quantised + passed - passed.detach()) @ synthesis[chosen]
            parts.append(part)
        return torch.cat(parts, 1)

    @torch.no_grad()
    def code(self) -> TransformCode:
        """What the parameters are now."""
        arrays = [[array.cpu().numpy().astype(np.float32) for array in self._arrays(index)] for index in range(len(self.orders))]
        return TransformCode(self.mean.cpu().numpy(), [Basis(analysis, synthesis, order) for (analysis, synthesis), order
                                                       in zip(arrays, self.orders, strict=True)],
                             [np.sort(self.levels[depth].cpu().numpy()) for depth in range(MAX_DEPTH)])
