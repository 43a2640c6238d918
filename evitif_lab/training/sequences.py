"""Lossless tokens of short videos, recorded or filmed from stills, and what a bridge would remember in them: what recovery with a memory
learns from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from evitif.datasets import recorded_paths
from evitif.model.split import SplitModel
from evitif.model.tensors import require_finite_answers
from evitif.recovery import LinearCompletion, Memory
from evitif.recovery.memory import motion_of, trust_of
from evitif_lab.commands.progress import Progress
from evitif_lab.loss_patterns import PacketLoss
from evitif_lab.precision import mixed_precision
from evitif_lab.trials.camera_motion import film
from evitif_lab.trials.images import Normalise, Seen
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


class Videos(NamedTuple):
    """What videos are made of."""

    stills: torch.Tensor        # uint8 [n, 3, S, T], larger than the model's images by `MARGIN`: a simulated camera films them
    recorded: torch.Tensor      # uint8 [m, 4, 3, h, w], as the model sees them, at TIMES

    def __len__(self) -> int:
        return len(self.stills) + len(self.recorded)

    def batches(self, size: tuple[int, int], generator: torch.Generator) -> Iterator[torch.Tensor]:
        """All of them, float32 [BATCH, 4, 3, h, w] in 0..255."""
        for part in self.stills.split(BATCH) if len(self.stills) else ():
            yield film(part, size, TIMES, generator)
        for part in self.recorded.split(BATCH) if len(self.recorded) else ():
            yield part.float()


def recorded_videos(sources: Sequence[str], count: int, data_config: dict) -> torch.Tensor:
    """`count` videos uint8 [count, 4, 3, h, w], or fewer, of frames of the part of each bag that trains, evenly spread.

    Raises DatasetError where a bag cannot be read, or is shorter than a video; MemoryError where they do not fit into memory.
    """
    seen, found = Seen(data_config), []
    require_memory(count * len(TIMES) * 3 * math.prod(seen.size), f'{count} videos of four frames')
    for source in sources:
        for run in recorded_paths(source, math.ceil(count / len(sources)), round(TIMES[-1]) + 1):
            found.append(torch.stack([torch.from_numpy(seen(run[round(time)])).permute(2, 0, 1) for time in TIMES]))
    return torch.stack(found) if found else torch.empty(0, len(TIMES), 3, *seen.size, dtype=torch.uint8)


class Sequences:
    """Videos of four frames: tokens [n, 4, N, D] as fp16, logits [n, 2, classes] of the first and the last frame."""

    def __init__(self, split: SplitModel, videos: Videos, normalise: Normalise, device: str, precision: str, seed: int):
        n, frames = len(videos), len(TIMES)
        require_memory(2 * n * frames * split.tokens * split.channels, f'the tokens of {n} videos')
        generator = torch.Generator().manual_seed(seed)
        self._device = device
        self._tokens = torch.empty(n, frames, split.tokens, split.channels, dtype=torch.float16)
        logits, start = [], 0
        batches = math.ceil(len(videos.stills) / BATCH) + math.ceil(len(videos.recorded) / BATCH)
        for video in Progress(videos.batches(split.image_size, generator), desc='tokens of the training videos', unit='batch',
                              total=batches):
            with torch.no_grad(), mixed_precision(device, precision):
                tokens = split.head(normalise(video.flatten(0, 1).to(device))).unflatten(0, video.shape[:2])
                logits.append(split.tail(tokens[:, [0, -1]].flatten(0, 1)).unflatten(0, (len(video), 2)).float().cpu())
            self._tokens[start:start + len(video)] = tokens.half().cpu()
            start += len(video)
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
