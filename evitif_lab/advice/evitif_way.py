"""evitif as a way of sending: strategies, connection, congestion control and bridge as they are, sealed, in simulated time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from random import Random
from typing import Any

import numpy as np
import torch

from evitif.model.split import SplitModel
from evitif.pipeline.answer_memory import AnswerMemory
from evitif.pipeline.strategies import bridge_strategy, edge_strategy
from evitif.pipeline.strategy import BridgeStrategy, EdgeStrategy, Observation, Outcome
from evitif.protocol.bridge.endpoint import BridgeConfig, BridgeEndpoint
from evitif.protocol.edge.connection import EdgeConfig, EdgeConnection
from evitif.protocol.events import AnswerArrived, FrameExpired, FrameOverdue, FrameReady
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.protocol.wire.answer import Answer
from evitif.selection import PatchModel
from evitif.settings import BRIDGE_SETTINGS, EDGE_SETTINGS, EdgeSettings, bridge_settings, edge_settings
from evitif.transport.impairment import HEADER_BYTES, Impairment
from evitif.vocabulary import Strategy
from evitif_lab.advice.scene import Frame, Scene, Stopwatch, measured
from evitif_lab.advice.timeline import Fate, Link, Path, Trip, Worker
from evitif_lab.simulated_time import SimulatedTime

WARM_UP_S = 2.0         # before a run: the handshake, and the first reports
PATIENCE_S = 0.5        # simulated after the last frame's deadline


@dataclass(eq=False)
class EvitifWay:
    """
    :param title: for the table
    :param settings: parameters of edge and bridge, the model's included; `strategy` is split, or selection without a light model
    :param slower: how many times slower than this machine the robot computes
    """

    title: str
    settings: dict[str, Any]
    slower: float = 1.0
    head_s: float = 0.0         # on this machine, as the next; measured by `prepare`
    tail_s: float = 0.0
    content: dict[int, Any] = field(default_factory=dict)       # of each frame, what the head made of it

    @property
    def robot_s(self) -> float:
        """Seconds of computing on the robot for a frame."""
        return self.slower * self.head_s

    def prepare(self, scene: Scene) -> None:
        """Load both halves, run the head on every frame, and measure what it takes. Raises as the strategies do."""
        pixels = self.settings.get('strategy') == Strategy.SELECTION
        self.edge: EdgeSettings = edge_settings(**_known(edge_settings, self.settings), unsealed=True)
        self.robot: EdgeStrategy = edge_strategy(self.edge)
        self.server: BridgeStrategy = bridge_strategy(bridge_settings(**_known(bridge_settings, self.settings), unsealed=True))
        self.server.warm_up(1)
        head = PatchModel(SplitModel(scene.model.split.module, 0, scene.model.split.input_channels)).head if pixels else \
            self.robot.model.head          # pyright: ignore[reportAttributeAccessIssue]
        with torch.inference_mode():
            for index, frame in enumerate(scene.frames):
                found = head(scene.normalised([frame.seen]))
                self.content[index] = found[0].numpy() if pixels else found.float()
        one = scene.normalised([scene.frames[0].seen])
        self.head_s = measured(lambda: head(one))

    def run(self, frames: list[Frame], first: int, path: Path, seed: object, deadline_s: float) -> Trip:
        """Send a run of frames, of which the first is number `first` of the scene."""
        return _Run(self, frames, first, path, seed, deadline_s).trip()


class _Run:
    """One run of frames over one path."""

    def __init__(self, way: EvitifWay, frames: list[Frame], first: int, path: Path, seed: object, deadline_s: float):
        self._way, self._frames, self._first, self._deadline = way, frames, first, deadline_s
        edge, self._robot, self._server = way.edge, way.robot, way.server
        self._edge = EdgeConnection(self._robot.parameters, 'robot', EdgeConfig(
            min_packets=edge.min_packets, prefix_copies=edge.prefix_copies, patch_copies=edge.patch_copies,
            rate_limit_bit_s=1e6 * edge.rate_limit, congestion_control=edge.congestion_control,
            answer_deadline_s=edge.answer_deadline), random=Random(f'edge {seed}'))
        self._bridge = BridgeEndpoint(self._server.streams, 'bridge', BridgeConfig(), random=Random(f'bridge {seed}'))
        self._memory = AnswerMemory(edge.answer_memory, self._robot.parameters.classes)
        self._time = SimulatedTime(self._edge, self._bridge, self._exchange)
        self._link = Link(self._time, Path(_gentle(path.uplink), _gentle(path.downlink)), seed)
        self._path = path
        self._computer, self._tail = Worker(self._time), Worker(self._time)
        self._trip = Trip([Fate() for _ in frames])

    def trip(self) -> Trip:
        """Until a little after the last frame."""
        self._time.at(WARM_UP_S / 2, self._worsen)
        for number, frame in enumerate(self._frames):
            self._time.at(WARM_UP_S + frame.at_s, lambda number=number: self._look(number))
        end = WARM_UP_S + self._frames[-1].at_s + self._deadline + PATIENCE_S
        self._edge.connect(0.0)
        self._time.run(end)
        self._server.forget(self._edge.session_id or 0)
        return self._trip

    def _worsen(self) -> None:
        """The handshake is over."""
        self._link.up.set_impairment(self._path.uplink)
        self._link.down.set_impairment(self._path.downlink)

    def _look(self, number: int) -> None:
        self._computer.put(self._way.robot_s, lambda: self._send(number))

    def _send(self, number: int) -> None:
        frame = self._frames[number]
        height, width = frame.seen.shape[:2]
        observation = Observation((0.0, 0.0, width, height), 0.0, 0.0, self._way.content[self._first + number], frame_id=number)
        with Stopwatch() as watch:
            encoded = self._robot.encode(observation, self._edge.uplink)
        coding = self._way.slower * watch.seconds

        def leave() -> None:
            if not self._edge.send_frame(encoded.frame(number, round(1e9 * frame.at_s), 'camera'), self._time.now):
                self._repeat(number)
        self._time.at(self._time.now + coding, leave)

    def _exchange(self) -> None:
        for data in self._edge.datagrams_to_send(self._time.now):
            number = self._number()
            if number >= 0:
                self._trip.fates[number].bytes += len(data) + HEADER_BYTES
                self._trip.fates[number].packets += 1
            self._link.carry(self._link.up, data, lambda data: self._bridge.receive_datagram(data, 'edge', self._time.now))
        while (event := self._edge.next_event()) is not None:
            if isinstance(event, AnswerArrived):
                answer = event.answer
                self._robot.acknowledge(self._edge.session_id or 0, answer.frame_id, answer.received)
                self._memory.keep(answer.capture_stamp_ns, answer.class_ids, answer.scores, answer)
                self._say(answer.frame_id, answer.class_ids[0])
            elif isinstance(event, (FrameOverdue, FrameExpired)):
                self._repeat(event.frame_id)
        while (event := self._bridge.next_event()) is not None:
            if isinstance(event, FrameReady):
                frame = event.frame
                self._tail.put(0.0, lambda frame=frame: self._answer(frame))
        for data, _ in self._bridge.datagrams_to_send(self._time.now):
            self._link.carry(self._link.down, data, lambda data: self._edge.receive_datagram(data, self._time.now))

    def _answer(self, frame: ReceivedFrame) -> None:
        with Stopwatch() as watch:
            outcome, = self._server.answer_batch([frame])
        took = watch.seconds
        self._tail.put(took, lambda: self._reply(frame, outcome, took))

    def _reply(self, frame: ReceivedFrame, outcome: Outcome, took: float) -> None:
        self._bridge.send_answer(frame.session_id, Answer(
            frame_id=frame.frame_id, capture_stamp_ns=frame.capture_stamp_ns, class_ids=outcome.class_ids, scores=outcome.scores,
            strategy=self._server.name, recovery=outcome.recovery, packets_received=frame.packets_received,
            packets_expected=frame.packets_expected, bytes_received=frame.bytes_received, tokens_received=int(outcome.received.sum()),
            tokens_expected=len(outcome.received), received=outcome.received, remembered=outcome.remembered,
            memory_age_s=outcome.memory_age_s, motion=outcome.motion, packet_error_rate=frame.packet_error_rate,
            first_arrival=frame.first_arrival, wait_s=0.0, recovery_s=0.0, tail_s=took,
            hold_s=max(0.0, self._time.now - frame.first_arrival)), self._time.now)
        self._exchange()

    def _repeat(self, number: int) -> None:
        if (last := self._memory.recall(round(1e9 * self._frames[number].at_s))) is not None:
            self._say(number, last.class_ids[0], repeated=True)

    def _say(self, number: int, class_id: int, repeated: bool = False) -> None:
        """What the robot says of a frame; the first counts."""
        fate = self._trip.fates[number]
        if math.isinf(fate.after_s):
            fate.after_s = self._time.now - WARM_UP_S - self._frames[number].at_s
            fate.repeated = repeated
            fate.class_id = class_id if fate.after_s <= self._deadline else -1

    def _number(self) -> int:
        """The newest frame whose time has come; -1 before the first."""
        past = self._time.now - WARM_UP_S
        return int(np.searchsorted([frame.at_s for frame in self._frames], past + 1e-9, side='right')) - 1


def _gentle(impairment: Impairment) -> Impairment:
    """A link of the same rate and delay that loses nothing, for the handshake."""
    return replace(impairment, loss=0.0, burst_length=1.0, corrupt=0.0, duplicate=0.0, reorder=0.0)


def _known(side: Callable[..., Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Those of `settings` that edge or bridge has."""
    table = EDGE_SETTINGS if side is edge_settings else BRIDGE_SETTINGS
    kind = table[settings.get('strategy', Strategy.SPLIT)]
    names = {field.name for field in fields(kind)} | {'strategy'}
    return {name: value for name, value in settings.items() if name in names}
