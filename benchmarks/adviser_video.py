"""H.264 for `adviser` as it is on real sockets: the adviser's own encoder, parity, receiver and decoder, in real time over UDP.

There is no node for it: the robot's and the bridge's half run in one thread, which a machine with one free core carries.
"""

from __future__ import annotations

import itertools
import selectors
import socket
import struct
import time
from collections.abc import Callable

import numpy as np

from evitif.transport.impairment import Impairment
from evitif.transport.link_simulator import LinkSimulator
from evitif_lab.advice.rival_ways import PATIENCE_S, Video
from evitif_lab.advice.scene import Frame, Scene
from evitif_lab.advice.timeline import Path, Seed, Trip
from evitif_lab.simulated_time import Timeline

LOCALHOST = '127.0.0.1'
QUIET_S = 1.0           # after the last frame
_NUMBER = struct.Struct('!I')


class RealTime(Timeline):
    """A timeline by the clock, with two sockets."""

    def __init__(self, path: Path):
        super().__init__()
        bridge, robot = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        bridge.bind((LOCALHOST, 0))
        self._simulator = LinkSimulator((LOCALHOST, 0), bridge.getsockname(), uplink=path.uplink, downlink=path.downlink, seed=7)
        self._simulator.start()
        robot.connect(self._simulator.local_address)
        self._robot, self._bridge, self._robots_address = robot, bridge, None
        self._selector = selectors.DefaultSelector()
        for end in (robot, bridge):
            end.setblocking(False)
            self._selector.register(end, selectors.EVENT_READ)
        self._began = time.monotonic()
        self.deliver: dict[int, Callable[[bytes], object]] = {}
        self._numbers = itertools.count()
        self.up, self.down = 'up', 'down'

    def carry(self, channel: str, data: bytes, deliver: Callable[[bytes], object]) -> None:
        """As `timeline.Link`: a datagram whose first bytes say what is done with it where it arrives."""
        number = next(self._numbers)
        self.deliver[number] = deliver
        datagram = _NUMBER.pack(number) + data[_NUMBER.size:]
        if channel == self.up:
            self._robot.send(datagram)
        elif self._robots_address is not None:
            self._bridge.sendto(datagram, self._robots_address)

    def run(self, until: float) -> None:
        """Let time pass."""
        while (now := time.monotonic() - self._began) < until:
            self.now = now
            if self.next <= now:
                self.step()
                continue
            for key, _ in self._selector.select(min(self.next, until) - now):
                self._receive(key.fileobj)

    def _receive(self, end: object) -> None:
        assert isinstance(end, socket.socket)
        try:
            datagram, address = end.recvfrom(65535)
        except OSError:
            return
        if end is self._bridge:
            self._robots_address = address
        self.now = time.monotonic() - self._began
        deliver = self.deliver.pop(_NUMBER.unpack_from(datagram)[0], None)
        if deliver is not None:
            deliver(datagram)

    def close(self) -> None:
        """Give the sockets back."""
        self._simulator.stop()
        for end in (self._robot, self._bridge):
            end.close()
        self._selector.close()


class _AtOnce:
    """A processor in real time: the work takes what it takes, so nothing is waited for."""

    def put(self, seconds: float, done: Callable[[], object]) -> None:
        """Work."""
        done()


class RealVideo(Video):
    """The way `Video`, with real sockets, by the clock."""

    def _begin(self, frames: list[Frame], path: Path, seed: Seed, deadline_s: float) -> None:
        super()._begin(frames, Path(Impairment(), Impairment()), seed, deadline_s)
        self._time = self._link = RealTime(path)
        self._robot = self._server = _AtOnce()

    def _play(self, look: Callable[[int], object]) -> Trip:
        for number, frame in enumerate(self._frames):
            self._time.at(frame.at_s, lambda number=number: look(number))
        try:
            self._time.run(self._frames[-1].at_s + min(QUIET_S, PATIENCE_S))
        finally:
            self._time.close()
        return self._trip

    def _picture_came(self, number: int, picture: np.ndarray) -> None:
        self._scene.forget()        # what is known of a picture would take no time
        super()._picture_came(number, picture)


def real_video(title: str, crf: float, scene: Scene) -> RealVideo:
    """The way, ready to run."""
    way = RealVideo(title, 1.0, crf)
    way.prepare(scene)
    return way
