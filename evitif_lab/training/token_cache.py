"""Lossless tokens at several cuts and the model's own answers, for images drawn at random: what recovery learns from."""

from __future__ import annotations

import torch

from evitif.model.split import SplitModel
from evitif.model.tensors import require_finite_answers
from evitif_lab.commands.progress import Progress
from evitif_lab.precision import mixed_precision
from evitif_lab.trials.images import Normalise
from evitif_lab.trials.memory import fits

BATCH = 250  # images at once where nothing is trained


class TokenCache:
    """Tokens [n, N, D] at each of `cuts` and logits [n, classes], computed once and kept as fp16 where they fit.

    Where they do not fit into memory, they are computed when they are drawn: slower, and `kept` says so.
    """

    def __init__(self, splits: dict[int, SplitModel], images: torch.Tensor, normalise: Normalise, device: str,
                 precision: str):
        self._splits, self._images, self._normalise = splits, images, normalise
        self._device, self._precision = device, precision
        any_split = next(iter(splits.values()))
        needed = 2 * len(splits) * len(images) * any_split.tokens * any_split.channels
        self.kept = fits(needed)
        self.needed_bytes = needed
        if not self.kept:
            return
        self._tokens = {cut: torch.empty(len(images), any_split.tokens, any_split.channels, dtype=torch.float16)
                        for cut in splits}
        logits = []
        for start in Progress(range(0, len(images), BATCH), desc='tokens of the training images', unit='batch'):
            part = slice(start, start + BATCH)
            tokens, answer = self._compute(images[part], list(splits))
            for cut, values in tokens.items():
                halved = values.half().cpu()
                require_finite_answers(f'the tokens at cut {cut}, kept in fp16', tokens=halved)
                self._tokens[cut][part] = halved
            logits.append(answer.cpu())
        self._logits = torch.cat(logits)

    def __len__(self) -> int:
        return len(self._images)

    def take(self, cut: int, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens float32 [B, N, D] and logits [B, classes] of the chosen images, on the device."""
        if self.kept:
            return self._tokens[cut][chosen].to(self._device).float(), self._logits[chosen].to(self._device)
        tokens, logits = self._compute(self._images[chosen], [cut])
        return tokens[cut], logits

    @torch.no_grad()
    def _compute(self, images: torch.Tensor, cuts: list[int]) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
        found: dict[int, torch.Tensor] = {}
        with mixed_precision(self._device, self._precision):
            first, *later = sorted(cuts)
            split = self._splits[first]
            x = found[first] = split.head(self._normalise(images.to(self._device)))
            for before, cut in zip((first, *later), later, strict=False):
                split = self._splits[cut]
                x = found[cut] = split.run(x, before, cut)
            logits = split.tail(x)
        require_finite_answers('the model', **{f'tokens_at_cut_{cut}': tokens for cut, tokens in found.items()}, logits=logits)
        return {cut: tokens.float() for cut, tokens in found.items()}, logits.float()
