"""What a link does to the packets of a stream, the same for all who send over it.

Each packet of a frame has a number drawn for it, by seed, direction, frame and place in the frame; whoever sends more packets in a frame
uses more of them. A chain of two states (`evitif.channel`) makes bursts of them, counted in packets, which go on from frame to frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evitif.channel import independent_burst, transitions

_DRAWN = 256        # numbers at once


@dataclass(frozen=True)
class Link:
    """:ivar loss: packet error rate, 0 to 1; of a link that drifts the mean, which is what is told of it
    :ivar burst: packets lost in a row on average; 1: independent losses
    :ivar drift: the packet error rate at a time in seconds
    """

    name: str
    loss: float
    burst: float = 1.0
    drift: Callable[[float], float] | None = None

    def trace(self, seed: int, frames: int, rate_hz: float) -> Trace:
        """What it does to a stream of so many frames."""
        times = np.arange(frames) / rate_hz
        rates = np.full(frames, self.loss) if self.drift is None else np.array([self.drift(time) for time in times])
        return Trace(self, rates, seed, *(Direction(rates, self.burst, (seed, way)) for way in (0, 1)))


def swell(time: float) -> float:
    """0 to 60 % and back to 0 within 6 s."""
    return 0.6 * np.sin(np.pi * time / 6.0) ** 2


def spells(time: float) -> float:
    """5 %, and in one second of three 60 %."""
    return 0.6 if time % 3.0 >= 2.0 else 0.05


LINKS = (*(Link(f'{100 * loss:g} %', loss) for loss in (0.0, 0.05, 0.1, 0.3, 0.6, 0.8, 0.9)),
         Link('20 % in bursts of 8', 0.2, 8.0), Link('20 % in bursts of 32', 0.2, 32.0),
         Link('drift, 0 to 60 % and back in 6 s', 0.3, drift=swell), Link('drift, 5 %, 60 % in one second of three', 0.233, drift=spells))


@dataclass(frozen=True)
class Trace:
    """One stream's link: `rates` float [frames] is the packet error rate during each."""

    link: Link
    rates: np.ndarray
    seed: int
    uplink: Direction
    downlink: Direction

    def again(self) -> Trace:
        """The same from its beginning."""
        return Trace(self.link, self.rates, self.seed, *(Direction(self.rates, self.link.burst, (self.seed, way)) for way in (0, 1)))


class Direction:
    """The packets of one direction, in the order in which they are sent."""

    def __init__(self, rates: np.ndarray, burst: float, seed: tuple[int, int]):
        self._rates, self._burst, self._seed = rates, burst, seed
        self._frame, self._place, self._bad = -1, 0, None
        self._draws = np.empty(0)

    def lost(self, frame: int, packets: int = 1) -> np.ndarray:
        """Which of the next `packets` packets, of this frame or more of it, are lost: bool [packets]. Frames only go forward."""
        if frame != self._frame:
            self._frame, self._place = frame, 0
            self._random = np.random.default_rng((*self._seed, frame))
            self._draws = np.empty(0)
        while len(self._draws) < self._place + packets:
            self._draws = np.concatenate((self._draws, self._random.random(_DRAWN)))
        draws = self._draws[self._place:self._place + packets]
        self._place += packets
        rate = float(self._rates[min(frame, len(self._rates) - 1)])
        if self._burst <= independent_burst(rate):
            return draws < rate
        to_bad, to_good = transitions(rate, self._burst)
        lost = np.empty(packets, bool)
        for index, draw in enumerate(draws):
            # As in `evitif_lab.loss_patterns`: a lost packet is followed by a lost one with 1 - to_good, another with to_bad.
            self._bad = bool(draw < (rate if self._bad is None else 1 - to_good if self._bad else to_bad))
            lost[index] = self._bad
        return lost
