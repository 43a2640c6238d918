"""What the bridge remembers of a stream: for each place the last token that arrived, when, and how much it still says.

The picture moves. Where the grid of the patches is known, the motion between two frames is estimated from the tokens that arrive
(`evitif.recovery.picture_motion`), and what is remembered moves with it. It is taken only where what arrives is then more like what is
remembered, since tokens that are moved are interpolated, and a memory of a picture that stands would blur.

How much a remembered token says depends on how fast the scene moves, which the tokens that arrive tell: at their places both the token now
and the one before are known. Their correlation c after an age of t seconds gives the `motion` m of c = exp(-(m t) ** SHAPE), and that in
turn the `trust`, the correlation to be expected, of each remembered token at its own age. (Measured on two clips; an exponential, SHAPE 1,
would forget slow scenes too soon.) Where the correlation is no more than unrelated images have, and clearly less than expected, the scene
is another one, and the memory is dropped.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from evitif.bounded import BoundedDict
from evitif.model.regrid import Grid
from evitif.recovery.picture_motion import PictureMotion

SHAPE = 0.7                     # of the decay, between that of the two clips it was measured on
MOTION = 1.0                    # 1/s, before anything was compared: c = 0.9 after 40 ms, 0.68 after a quarter of a second
SLOWEST, FASTEST = 1e-3, 1e3    # 1/s
EVIDENCE = 8                    # tokens compared that weigh as much as what was known of the motion before
FEWEST = 4                      # tokens to compare before the scene counts as another one
CHANCE, SPREAD = 0.2, 0.3       # correlation of unrelated images at n places: below CHANCE + SPREAD / sqrt(n) 99 times of 100 on ImageNet
SURPRISE = 0.2                  # less correlation than expected that another scene brings at least
FORGOTTEN = 0.1                 # trust below which a token counts as unknown
FEWEST_TO_FOLLOW = 12           # tokens to compare before a motion is estimated
FOLLOWED = 0.01                 # by how much the correlation has to rise before a motion is believed


@dataclass(frozen=True)
class Memory:
    """What is remembered when a frame comes.

    `tokens` [B, N, D] are the last known ones, `age_s` [B, N] their ages in seconds (inf: unknown), and `trust` [B, N] in 0..1 is the
    correlation with the token of today that is to be expected (0: unknown).
    """

    tokens: torch.Tensor
    age_s: torch.Tensor
    trust: torch.Tensor

    @property
    def known(self) -> torch.Tensor:
        """bool [B, N]: the places of which a token is remembered."""
        return self.trust > 0


class StreamMemory:
    """The memory of one stream of frames.

    :param centre: [N, D], what is subtracted from tokens before they are compared: the mean token of each place
    :param scale: [D], what they are divided by
    :param prefix_tokens: that take no part in the comparison
    :param limit_s: a token is remembered that long; a longer gap between two frames drops all
    :param chance: correlation that unrelated images of this kind may have; None: `centre` is not their mean, so that of the frame's
        compared tokens is subtracted instead
    :param grid: rows and columns of the patches behind the prefix tokens, whose motion is followed; None: it is not
    """

    def __init__(self, centre: torch.Tensor, scale: torch.Tensor, prefix_tokens: int, limit_s: float, chance: float | None = CHANCE,
                 grid: Grid | None = None):
        self._centre, self._scale, self._prefix, self._limit, self._chance = centre, scale, prefix_tokens, limit_s, chance
        self._tokens = torch.zeros_like(centre)
        self._picture = None if grid is None else PictureMotion(grid, centre.shape[1], centre.device)
        self._source = ''
        self._newest_ns = 0
        self.forget()

    @property
    def follows(self) -> bool:
        """Whether what is remembered moves with the picture."""
        return self._picture is not None

    def forget(self) -> None:
        """Know nothing any more."""
        self._stamps = torch.full((len(self._centre),), -math.inf, dtype=torch.float64)     # s before `_newest_ns`, negative
        self.motion = MOTION
        self._speed = None if self._picture is None else self._picture.still        # of the picture, for one second

    def see(self, tokens: torch.Tensor, received: torch.Tensor, stamp_ns: int, source: str = '') -> Memory | None:
        """Take a frame's tokens [N, D], of which those `received`, bool [N], count; return what was remembered of earlier frames, or None.

        A frame that is not newer than the last, is younger by more than the limit or comes from another `source` is not of this stream's
        present: what was known is dropped.
        """
        passed = (stamp_ns - self._newest_ns) / 1e9
        if not 0 < passed <= self._limit or source != self._source:
            self.forget()
        self._newest_ns, self._source = stamp_ns, source
        self._stamps -= passed
        self._follow(tokens, received, passed)
        age = torch.where(self._stamps >= -self._limit, -self._stamps, math.inf).float().to(tokens.device)
        memory = self._judged(tokens, received, age)
        self._tokens = torch.where(received[:, None], tokens.float(), self._tokens)
        self._stamps[received.cpu()] = 0.0
        return memory

    def _follow(self, tokens: torch.Tensor, received: torch.Tensor, passed: float) -> None:
        """Move what is remembered as the picture moved, if that is seen."""
        if self._picture is None or self._speed is None:
            return
        known = torch.isfinite(self._stamps).to(tokens.device)[self._prefix:]
        here = received[self._prefix:]
        if int((here & known).sum()) < FEWEST_TO_FOLLOW:
            return
        now, before = (((values.float() - self._centre) / self._scale)[self._prefix:] for values in (tokens, self._tokens))
        before = torch.where(known[:, None], before, 0.0)
        motion = self._picture.found(now, here, before, known, self._speed * passed)
        ages = torch.where(known, -self._stamps[self._prefix:].float().to(tokens.device), 0.0)
        moved, beside = self._picture.moved(before, torch.stack((known.float(), ages), 1), motion)
        share = beside[:, :1]
        reached = share[:, 0] > 0.5
        moved, ages = moved / share.clamp(min=0.5), beside[:, 1] / share[:, 0].clamp(min=0.5)
        both = here & known & reached
        if int(both.sum()) < FEWEST_TO_FOLLOW or not _alike(now[both], moved[both]) >= _alike(now[both], before[both]) + FOLLOWED:
            self._speed = self._picture.still
            return
        self._speed = motion / passed
        self._tokens[self._prefix:] = moved * self._scale + self._centre[self._prefix:]
        self._stamps[self._prefix:] = torch.where(reached, -ages, -math.inf).double().cpu()

    def _judged(self, tokens: torch.Tensor, received: torch.Tensor, age: torch.Tensor) -> Memory | None:
        known = torch.isfinite(age)
        if not bool(known.any()):
            return None
        compared = (received & known)[self._prefix:].nonzero()[:, 0] + self._prefix
        if len(compared):
            now, before = ((values[compared].float() - self._centre[compared]) / self._scale for values in (tokens, self._tokens))
            if self._chance is None:
                now, before = (values - values.mean(0) for values in (now, before))
            correlation = _alike(now, before)
            chance = (CHANCE if self._chance is None else self._chance) + SPREAD / math.sqrt(len(compared))
            expected = float(trust_of(age[compared], self.motion).mean())
            if len(compared) >= FEWEST and correlation < min(chance, expected - SURPRISE):
                self.forget()
                return None
            measured = motion_of(correlation, float(age[compared].mean()))
            weight = len(compared) / (len(compared) + EVIDENCE)
            self.motion = math.exp((1 - weight) * math.log(self.motion) + weight * math.log(measured))
        trust = trust_of(age, self.motion)
        return Memory(self._tokens.clone()[None], torch.where(trust > 0, age, math.inf)[None], trust[None])


class Memories:
    """The memories of all sessions, at most `most`: the one that was used longest ago makes room. `forget` may come from another thread.

    The other arguments are those of `StreamMemory`.
    """

    def __init__(self, most: int, centre: torch.Tensor, scale: torch.Tensor, prefix_tokens: int, limit_s: float,
                 chance: float | None = CHANCE, grid: Grid | None = None):
        self._streams: BoundedDict[int, StreamMemory] = BoundedDict(most)
        self._about = centre, scale, prefix_tokens, limit_s, chance, grid
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._streams)

    def of(self, session_id: int) -> StreamMemory:
        """That of a session, new where there is none."""
        with self._lock:
            stream = self._streams.pop(session_id, None) or StreamMemory(*self._about)
            self._streams[session_id] = stream
        return stream

    def forget(self, session_id: int) -> None:
        """A session has ended."""
        with self._lock:
            self._streams.pop(session_id, None)


def _alike(now: torch.Tensor, before: torch.Tensor) -> float:
    """The correlation of tokens [n, D]."""
    return float((now * before).sum() / (now.square().sum() * before.square().sum()).sqrt().clamp(min=1e-12))


def stacked(memories: Sequence[Memory | None]) -> Memory | None:
    """Those of several frames in one; None where there is none."""
    there = [memory for memory in memories if memory is not None]
    if not there:
        return None
    return Memory(*(torch.cat([getattr(memory, name) for memory in there]) for name in ('tokens', 'age_s', 'trust')))


def motion_of(correlation: float, age_s: float) -> float:
    """The motion, 1/s, that leaves this correlation after so long."""
    decay = -math.log(min(max(correlation, 1e-3), 1 - 1e-6))
    return min(max(decay ** (1 / SHAPE) / max(age_s, 1e-3), SLOWEST), FASTEST)


def trust_of(age_s: torch.Tensor, motion: float) -> torch.Tensor:
    """The correlation to be expected after so many seconds at this motion, 0 where it is too little to be of use."""
    trust = torch.exp(-(motion * age_s) ** SHAPE)
    return torch.where(trust >= FORGOTTEN, trust, 0.0)


def certainty_of(age_s: float, motion: float = MOTION) -> float:
    """The share of its probability that an answer keeps after so many seconds, which is about the correlation that the tokens keep
    (docs/recovery.md); 0 where it is too old to say anything."""
    return float(trust_of(torch.tensor(age_s), motion))
