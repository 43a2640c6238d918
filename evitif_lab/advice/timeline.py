"""A link in simulated time, and what sends over it: two directions of the product's own impairment, the same for all who send over it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from evitif.transport.impairment import ImpairedChannel, Impairment
from evitif_lab.simulated_time import Timeline


@dataclass(frozen=True)
class Path:
    """A link: robot to bridge, and back."""

    uplink: Impairment
    downlink: Impairment


@dataclass(frozen=True)
class Seed:
    """What is random, and which part of the link's traces a run meets: all ways the same."""

    name: str
    trace_s: float = 0.0        # seconds after the traces' beginning

    def __str__(self) -> str:
        return self.name


@dataclass
class Fate:
    """What became of one frame."""

    class_id: int = -1                  # the answer that the robot had by the deadline; -1: none
    after_s: float = math.inf           # from the frame's time to the answer
    bytes: int = 0                      # of IP packets on the uplink
    packets: int = 0
    repeated: bool = False              # the answer is an earlier one


@dataclass
class Trip:
    """What a way made of one run of frames."""

    fates: list[Fate] = field(default_factory=list)


class Link:
    """A path in a timeline.

    :param began: when its traces are at their beginning
    """

    def __init__(self, timeline: Timeline, path: Path, seed: object, began: float = 0.0):
        self._timeline, self._began = timeline, began
        self.up, self.down = ImpairedChannel(seed=f'{seed} up'), ImpairedChannel(seed=f'{seed} down')
        self.become(path)

    def become(self, path: Path) -> None:
        """Be so from now on."""
        self.up.set_impairment(path.uplink, self._began)
        self.down.set_impairment(path.downlink, self._began)

    def carry(self, channel: ImpairedChannel, data: bytes, deliver: Callable[[bytes], object]) -> None:
        """Put a datagram on the link; what arrives of it is delivered at its time."""
        for when, copy in channel.offer(data, self._timeline.now):
            self._timeline.at(when, lambda copy=copy: deliver(copy))


class Worker:
    """One processor with a latest-frame slot: what comes while it works replaces what waits."""

    def __init__(self, timeline: Timeline):
        self._timeline = timeline
        self._busy = False
        self._waiting: tuple[float, Callable[[], object]] | None = None

    def put(self, seconds: float, done: Callable[[], object]) -> None:
        """Work for so long, then call `done`."""
        if self._busy:
            self._waiting = seconds, done
            return
        self._busy = True
        self._timeline.at(self._timeline.now + seconds, lambda: self._end(done))

    def _end(self, done: Callable[[], object]) -> None:
        self._busy = False
        done()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self.put(*waiting)
