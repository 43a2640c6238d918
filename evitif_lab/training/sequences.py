"""Lossless tokens of short videos filmed from stills, and what a bridge would remember in them: what recovery with a memory learns from."""

from __future__ import annotations

from typing import NamedTuple

import torch

from evitif.model.split import SplitModel
from evitif.model.tensors import require_finite_answers
from evitif.recovery import LinearCompletion, Memory
from evitif.recovery.memory import motion_of, trust_of
from evitif_lab.commands.progress import Progress
from evitif_lab.loss_patterns import PacketLoss
from evitif_lab.precision import mixed_precision
from evitif_lab.trials.camera_motion import film
from evitif_lab.trials.images import Normalise
from evitif_lab.trials.memory import require_memory

TIMES = (0.0, 4.0, 6.0, 7.0)            # of the frames: ages of 1, 3 and 7, and played backwards of 4, 6 and 7
BATCH = 8                               # videos at once
ALL_KNOWN, NONE_OLDER = 0.15, 0.15      # shares of the histories: the frame before arrived whole; places that are not remembered at all


class Moment(NamedTuple):
    """A batch of frames with their pasts."""

    tokens: torch.Tensor        # [B, N, D], of now, nothing lost
    received: torch.Tensor      # bool [B, N]
    target: torch.Tensor        # logits [B, classes] on `tokens`
    memory: Memory


class Sequences:
    """Videos of four frames: tokens [n, 4, N, D] as fp16, logits [n, 2, classes] of the first and the last frame.

    :param stills: uint8 [n, 3, S, T], larger than the model's images by `MARGIN`
    """

    def __init__(self, split: SplitModel, stills: torch.Tensor, normalise: Normalise, device: str, precision: str, seed: int):
        n, frames = len(stills), len(TIMES)
        require_memory(2 * n * frames * split.tokens * split.channels, f'the tokens of {n} videos')
        generator = torch.Generator().manual_seed(seed)
        self._device = device
        self._tokens = torch.empty(n, frames, split.tokens, split.channels, dtype=torch.float16)
        logits = []
        for start in Progress(range(0, n, BATCH), desc='tokens of the training videos', unit='batch'):
            video = film(stills[start:start + BATCH], split.image_size, TIMES, generator)
            with torch.no_grad(), mixed_precision(device, precision):
                tokens = split.head(normalise(video.flatten(0, 1).to(device))).unflatten(0, video.shape[:2])
                logits.append(split.tail(tokens[:, [0, -1]].flatten(0, 1)).unflatten(0, (len(video), 2)).float().cpu())
            self._tokens[start:start + BATCH] = tokens.half().cpu()
        self._logits = torch.cat(logits)
        require_finite_answers('the model', tokens=self._tokens, logits=self._logits)

    def normal_patches(self, network: LinearCompletion) -> torch.Tensor:
        """Of one frame of each video, as `chance_of` takes them."""
        return ((self._tokens[:, 0].float().to(self._device) - network.mean) / network.scale)[:, network.sequence.prefix_tokens:]

    def __len__(self) -> int:
        return len(self._tokens)

    def draw(self, count: int, pattern: PacketLoss, rates: torch.Tensor, received: torch.Tensor, centre: torch.Tensor, scale: torch.Tensor,
             generator: torch.Generator) -> Moment:
        """Frames of random videos, played forwards or backwards, of which the tokens `received`, bool [count, N], arrived.

        The frames before had losses of the same `rates` [count].
        """
        chosen = torch.randint(0, len(self), (count,), generator=generator)
        backwards = torch.rand(count, generator=generator) < 0.5
        tokens = self._tokens[chosen].float()
        tokens[backwards] = tokens[backwards].flip(1)
        times = torch.tensor(TIMES).expand(count, -1).clone()
        times[backwards] = TIMES[-1] - times[backwards].flip(1)
        target = self._logits[chosen, (~backwards).long()]
        remembered, stamps = torch.zeros_like(tokens[:, 0]), torch.full(received.shape, -torch.inf)
        whole, forgets = (torch.rand(count, generator=generator) < share for share in (ALL_KNOWN, NONE_OLDER))
        for frame in range(len(TIMES) - 1):
            arrived = pattern.received_tokens(pattern.received_packets(rates, 1, generator))
            if frame == 0:
                arrived = arrived | ~forgets[:, None]       # on a long way everything arrives sometime
            if frame == len(TIMES) - 2:
                arrived = arrived | whole[:, None]
            remembered = torch.where(arrived[:, :, None], tokens[:, frame], remembered)
            stamps = torch.where(arrived, times[:, frame, None], stamps)
        age, now = times[:, -1:] - stamps, tokens[:, -1]
        trust = torch.stack([trust_of(ages, self._motion(*frame, centre, scale)) for ages, *frame in
                             zip(age, now, remembered, received & torch.isfinite(age), age, strict=True)])
        return Moment(*(values.to(self._device) for values in (now, received, target)),
                      Memory(*(values.to(self._device) for values in (remembered, age, trust))))

    @staticmethod
    def _motion(now: torch.Tensor, before: torch.Tensor, compared: torch.Tensor, age: torch.Tensor, centre: torch.Tensor,
                scale: torch.Tensor) -> float:
        """As `evitif.recovery.memory` measures it, from this frame alone."""
        if not bool(compared.any()):
            return 0.1
        now, before = ((values[compared] - centre[compared]) / scale for values in (now, before))
        correlation = (now * before).sum() / (now.square().sum() * before.square().sum()).sqrt().clamp(min=1e-12)
        return motion_of(float(correlation), float(age[compared].mean()))
