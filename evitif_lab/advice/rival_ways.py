"""What a robot would do instead, over the same simulated link: video or pictures to the whole model, and the robot alone.

In the rivals' favour: packets are not sealed, the receiver notices a lost frame when the next one comes, a frame's packets leave at once,
and retransmission knows no congestion window.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from evitif.transport.impairment import HEADER_BYTES
from evitif_lab.advice.scene import Frame, Scene, measured
from evitif_lab.advice.timeline import Fate, Link, Path, Seed, Trip, Worker
from evitif_lab.rivals.h264 import Coding, Decoder, Encoder, av
from evitif_lab.rivals.parity import DATAGRAM_BYTES
from evitif_lab.rivals.protection import PARITY_BYTES, Receiver, Report, as_told, cut
from evitif_lab.simulated_time import Timeline

ANSWER_BYTES, ANSWER_COPIES = 120, 3
FRAGMENT_BYTES = 1472           # of a UDP message in an Ethernet frame
LEAST_TIMEOUT_S = 0.2           # of a retransmission (Linux; RFC 6298 has 1 s)
PATIENCE_S = 10.0               # simulated after the last frame


class Rival:
    """What the rivals share: the robot's processor, the bridge's, and answers in a few copies."""

    def __init__(self, title: str, slower: float):
        self.title, self.slower = title, slower
        self.robot_s = 0.0

    def prepare(self, scene: Scene) -> None:
        """Take the scene, and measure."""
        self._scene = scene

    def _begin(self, frames: list[Frame], path: Path, seed: Seed, deadline_s: float) -> None:
        self._frames, self._deadline = frames, deadline_s
        self._time = Timeline()
        self._link = Link(self._time, path, seed, -seed.trace_s)
        self._robot, self._server = Worker(self._time), Worker(self._time)
        self._trip = Trip([Fate() for _ in frames])

    def _play(self, look: Callable[[int], object]) -> Trip:
        for number, frame in enumerate(self._frames):
            self._time.at(frame.at_s, lambda number=number: look(number))
        end = self._frames[-1].at_s + PATIENCE_S
        while self._time.next <= end:
            self._time.step()
        return self._trip

    def _count(self, number: int, size: int) -> None:
        self._trip.fates[number].bytes += size + HEADER_BYTES
        self._trip.fates[number].packets += 1

    def _picture_came(self, number: int, picture: np.ndarray) -> None:
        """The bridge has a frame's picture."""
        def answer() -> None:
            class_id = int(self._scene.look([picture])[0].argmax())
            for _ in range(ANSWER_COPIES):
                self._link.carry(self._link.down, bytes(ANSWER_BYTES), lambda _: self._say(number, class_id))
        self._server.put(self._scene.whole_s, answer)

    def _say(self, number: int, class_id: int) -> None:
        fate = self._trip.fates[number]
        if math.isinf(fate.after_s):
            fate.after_s = self._time.now - self._frames[number].at_s
            fate.class_id = class_id if fate.after_s <= self._deadline else -1


class RobotAlone(Rival):
    """The whole model on the robot."""

    def prepare(self, scene: Scene) -> None:
        """Take the scene, and measure."""
        super().prepare(scene)
        self.robot_s = self.slower * scene.whole_s

    def run(self, frames: list[Frame], first: int, path: Path, seed: Seed, deadline_s: float) -> Trip:
        """Answer a run of frames."""
        self._begin(frames, path, seed, deadline_s)
        return self._play(lambda number: self._robot.put(
            self.robot_s, lambda: self._say(number, int(self._scene.answers[first + number]))))


class Jpeg(Rival):
    """Each frame as a JPEG in one message: best effort, as an image topic with sensor data's QoS, or reliable and in order, as over TCP."""

    def __init__(self, title: str, slower: float, quality: int, reliable: bool):
        super().__init__(title, slower)
        self._quality, self._reliable = quality, reliable

    def prepare(self, scene: Scene) -> None:
        """Take the scene, and measure."""
        super().prepare(scene)
        self.robot_s = self.slower * measured(lambda: self._coded(scene.frames[0].seen))

    def _coded(self, picture: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, 'JPEG', quality=self._quality)
        return file.getvalue()

    def run(self, frames: list[Frame], first: int, path: Path, seed: Seed, deadline_s: float) -> Trip:
        """Send a run of frames."""
        self._begin(frames, path, seed, deadline_s)
        self._missing: dict[int, set[int]] = {}
        self._pictures: dict[int, np.ndarray] = {}
        self._next = 0                  # in order: the frame that is waited for
        self._timeout = max(LEAST_TIMEOUT_S, 2 * (path.uplink.delay_s + path.downlink.delay_s))
        return self._play(lambda number: self._robot.put(self.robot_s, lambda: self._send(number)))

    def _send(self, number: int) -> None:
        data = self._coded(self._frames[number].seen)
        self._pictures[number] = np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))
        sizes = [min(FRAGMENT_BYTES, len(data) - at) for at in range(0, len(data), FRAGMENT_BYTES)]
        self._missing[number] = set(range(len(sizes)))
        for part, size in enumerate(sizes):
            self._transmit(number, part, size, self._timeout)

    def _transmit(self, number: int, part: int, size: int, timeout: float) -> None:
        self._count(number, size)
        self._link.carry(self._link.up, bytes(size), lambda _: self._came(number, part))
        if self._reliable:

            def again() -> None:
                if part in self._missing[number]:
                    self._transmit(number, part, size, min(2 * timeout, 60.0))
            self._time.at(self._time.now + timeout, again)

    def _came(self, number: int, part: int) -> None:
        self._missing[number].discard(part)
        if not self._reliable:
            if not self._missing[number] and number in self._pictures:
                self._picture_came(number, self._pictures.pop(number))
            return
        while (waiting := min(self._pictures, default=None)) is not None and not self._missing[waiting]:
            self._picture_came(waiting, self._pictures.pop(waiting))


@dataclass
class _Sent:
    """A frame of video on its way."""

    needed: int
    total: int
    nals: tuple[bytes, ...]
    key: bool
    arrived: set[int] = field(default_factory=set)
    done: bool = False


class Video(Rival):
    """H.264 with parity for the loss that the receiver reported; a key frame is asked for while the picture is damaged."""

    def __init__(self, title: str, slower: float, crf: float, chroma: int = 420):
        super().__init__(title, slower)
        self._coding = Coding(chroma, crf, 30, sliced=False)

    @staticmethod
    def possible() -> bool:
        """Whether PyAV is installed."""
        return av is not None

    def prepare(self, scene: Scene) -> None:
        """Take the scene, and measure."""
        super().prepare(scene)
        encoder = Encoder(self._coding, scene.frames[0].seen.shape[:2], scene.rate_hz)
        self.robot_s = self.slower * measured(lambda: encoder.encode(scene.frames[0].seen))

    def run(self, frames: list[Frame], first: int, path: Path, seed: Seed, deadline_s: float) -> Trip:
        """Send a run of frames."""
        self._begin(frames, path, seed, deadline_s)
        self._encoder = Encoder(self._coding, frames[0].seen.shape[:2], self._scene.rate_hz)
        self._decoder: Decoder | None = None
        self._receiver, self._report, self._key_wanted, self._damaged = Receiver(), None, False, True
        self._sent: dict[int, _Sent] = {}
        self._newest = -1
        return self._play(lambda number: self._robot.put(self.robot_s, lambda: self._send(number)))

    def _send(self, number: int) -> None:
        unit = self._encoder.encode(self._frames[number].seen, self._key_wanted)
        self._key_wanted = False
        if self._decoder is None:
            self._decoder = Decoder(self._encoder.parameter_sets)
        needed, total, size = cut(len(unit), *as_told(self._report), True)
        self._sent[number] = _Sent(needed, total, unit.nals, unit.key)
        each = min(math.ceil(size / total) - HEADER_BYTES, DATAGRAM_BYTES)
        for part in range(total):
            self._count(number, each)
            self._link.carry(self._link.up, bytes(max(each, 1)), lambda _, part=part: self._came(number, part))

    def _came(self, number: int, part: int) -> None:
        frame = self._sent[number]
        frame.arrived.add(part)
        if number < self._newest or frame.done:
            return
        if number > self._newest:
            for gone in range(self._newest + 1, number):        # what comes now is newer: they are lost
                self._lost(gone)
            if self._newest >= 0 and not self._sent[self._newest].done:
                self._lost(self._newest)
            self._tell(self._newest)
            self._newest = number
        if len(frame.arrived) >= frame.needed:
            frame.done = True
            self._decode(number, frame)

    def _decode(self, number: int, frame: _Sent) -> None:
        assert self._decoder is not None
        self._damaged = self._damaged and not frame.key
        picture = self._decoder.decode(frame.nals)
        if picture is not None:
            self._picture_came(number, picture)

    def _lost(self, number: int) -> None:
        if number in self._sent:
            self._damaged = True

    def _tell(self, number: int) -> None:
        """What the receiver says when a new frame begins: the loss so far, and whether it needs a key frame."""
        if number < 0:
            return
        frame = self._sent[number]
        lost = np.array([part not in frame.arrived for part in range(frame.total)])
        report: Report | None = self._receiver.take(lost)
        wanted = self._damaged

        def hear(_: bytes) -> None:
            self._report = report or self._report
            self._key_wanted = self._key_wanted or wanted
        self._link.carry(self._link.down, bytes(PARITY_BYTES), hear)


