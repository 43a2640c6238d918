"""evitif as a way of sending: strategies, connection, congestion control, seal and bridge as they are, in simulated time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from random import Random
from typing import Any

import numpy as np

from evitif.heads.results import top_classes
from evitif.pipeline.answer_memory import AnswerMemory
from evitif.pipeline.ends import bridge_end, edge_end
from evitif.pipeline.selection_edge import SelectionEdge
from evitif.pipeline.strategies import bridge_strategy, edge_strategy
from evitif.pipeline.strategy import BridgeStrategy, EdgeStrategy, Observation
from evitif.protocol.edge.frame_sender import UplinkState
from evitif.protocol.events import AnswerArrived, FrameExpired, FrameOverdue, FrameReady, FramesJoined
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.protocol.sealing.keys import KEY_BYTES, Key, RobotKeys
from evitif.settings import BRIDGE_SETTINGS, DEFAULT_TOP_K, EDGE_SETTINGS, BridgeSettings, EdgeSettings, bridge_settings, edge_settings
from evitif.transport.impairment import HEADER_BYTES, Impairment
from evitif_lab.advice.scene import Frame, Scene, Stopwatch, measured
from evitif_lab.advice.timeline import Fate, Link, Path, Seed, Trip, Worker
from evitif_lab.simulated_time import SimulatedTime

WARM_UP_S = 2.0         # before a run: the handshake, and the first reports
PATIENCE_S = 0.5        # simulated after the last frame's deadline
SEALED = '(simulated)'  # in place of a key file


@dataclass(eq=False)
class EvitifWay:
    """
    :param title: for the table
    :param settings: parameters of edge and bridge, the model's included
    :param slower: how many times slower than this machine the robot computes
    :param devices: of `partition`, those of the robot, each a computer of its own
    """

    title: str
    settings: dict[str, Any]
    slower: float = 1.0
    devices: tuple[str, ...] = ('',)
    look_s: float = 0.0         # on this machine, preprocessing and head; measured by `prepare`
    seen: list[list[Observation]] = field(default_factory=list)       # by device and frame, what the robot made of it

    @property
    def robot_s(self) -> float:
        """Seconds of computing on the robot for a frame, until it is coded."""
        return self.slower * self.look_s

    def prepare(self, scene: Scene) -> None:
        """Load both halves, run the robot's on every frame, and measure what it takes. Raises as the strategies do."""
        own = [{'partition_device': device} if device else {} for device in self.devices]
        self.edges: list[EdgeSettings] = [edge_settings(**_known(edge_settings, self.settings | each), key_file=SEALED) for each in own]
        self.robots: list[EdgeStrategy] = [edge_strategy(edge) for edge in self.edges]
        self.bridge: BridgeSettings = bridge_settings(**_known(bridge_settings, self.settings), key_file=SEALED)
        self.server: BridgeStrategy = bridge_strategy(self.bridge)
        self.server.warm_up(1)
        calm, first = UplinkState(), scene.frames[0].image
        self.seen = [] if any(isinstance(robot, SelectionEdge) for robot in self.robots) else \
            [[robot.observe(frame.image, calm) for frame in scene.frames] for robot in self.robots]
        self.look_s = max(measured(lambda robot=robot: robot.observe(first, calm)) for robot in self.robots)

    def run(self, frames: list[Frame], first: int, path: Path, seed: Seed, deadline_s: float) -> Trip:
        """Send a run of frames, of which the first is number `first` of the scene."""
        return _Run(self, frames, first, path, seed, deadline_s).trip()


class _Device:
    """One computer on the robot."""

    def __init__(self, way: EvitifWay, index: int, key: Key, random: Random):
        self.robot, config = way.robots[index], way.edges[index]
        self.edge = edge_end(config, self.robot.parameters, key, random)
        self.memory = AnswerMemory(config.answer_memory, self.robot.parameters.classes)
        self.address = f'device {index}'
        self.looks: dict[int, Observation] = {}     # at the frames without an answer
        self.computer: Worker


class _Run:
    """One run of frames over one path."""

    def __init__(self, way: EvitifWay, frames: list[Frame], first: int, path: Path, seed: Seed, deadline_s: float):
        self._way, self._frames, self._first, self._deadline = way, frames, first, deadline_s
        self._server = way.server
        random = Random(f'run {seed}')
        key = Key(random.randbytes(KEY_BYTES))
        self._devices = [_Device(way, index, key, random) for index in range(len(way.robots))]
        self._bridge = bridge_end(way.bridge, self._server, RobotKeys(default=key), random)
        self._time = SimulatedTime([device.edge for device in self._devices], self._bridge, self._exchange)
        self._link = Link(self._time, Path(_gentle(path.uplink), _gentle(path.downlink)), seed, WARM_UP_S - seed.trace_s)
        self._path = path
        self._tail = Worker(self._time)
        for device in self._devices:
            device.computer = Worker(self._time)
        self._trip = Trip([Fate() for _ in frames])
        # What is sent later belongs to a frame that is not there any more.
        period_s = frames[-1].at_s / (len(frames) - 1) if len(frames) > 1 else deadline_s
        self._counted_until = WARM_UP_S + frames[-1].at_s + period_s

    def trip(self) -> Trip:
        """Until a little after the last frame."""
        self._time.at(WARM_UP_S / 2, lambda: self._link.become(self._path))      # the handshake is over
        for number, frame in enumerate(self._frames):
            for device in self._devices:
                self._time.at(WARM_UP_S + frame.at_s, lambda device=device, number=number: self._look(device, number))
        end = WARM_UP_S + self._frames[-1].at_s + self._deadline + PATIENCE_S
        for device in self._devices:
            device.edge.connect(0.0)
        self._time.run(end)
        for device in self._devices:
            self._server.forget(device.edge.session_id or 0)
        return self._trip

    # The robot

    def _look(self, device: _Device, number: int) -> None:
        device.computer.put(self._way.robot_s, lambda: self._send(device, number))

    def _send(self, device: _Device, number: int) -> None:
        frame, index = self._frames[number], self._devices.index(device)
        uplink = device.edge.uplink
        look = self._way.seen[index][self._first + number] if self._way.seen else device.robot.observe(frame.image, uplink)
        if look.probabilities is not None:
            self._say(number, int(look.probabilities.argmax()))
            return
        look = device.looks[number] = replace(look, frame_id=number)
        with Stopwatch() as watch:
            encoded = device.robot.encode(look, uplink)

        def leave() -> None:
            if not device.edge.send_frame(encoded.frame(number, self._stamp(number), 'camera'), self._time.now):
                self._give_up(device, number)
        device.computer.put(self._way.slower * watch.seconds, leave)

    def _take(self, device: _Device, event: object) -> None:
        if isinstance(event, AnswerArrived):
            answer, look = event.answer, device.looks.pop(event.answer.frame_id, None)
            device.robot.acknowledge(device.edge.session_id or 0, answer.frame_id, answer.received)
            if look is not None:
                class_ids, scores = device.robot.refine(look, answer.class_ids, answer.scores)
                device.memory.keep(answer.capture_stamp_ns, class_ids, scores, answer)
                self._say(answer.frame_id, class_ids[0])
        elif isinstance(event, FrameExpired) or isinstance(event, FrameOverdue) and not device.robot.answers_alone:
            self._give_up(device, event.frame_id)

    def _give_up(self, device: _Device, number: int) -> None:
        """Answer without the bridge: alone, where the robot can, else as the last time."""
        if device.robot.answers_alone:
            look = device.looks.pop(number, None)
            if look is not None and len(self._devices) == 1:
                with Stopwatch() as watch:
                    class_ids, _ = top_classes(device.robot.answer_alone(look), DEFAULT_TOP_K)
                self._time.at(self._time.now + self._way.slower * watch.seconds, lambda: self._say(number, class_ids[0]))
        elif (last := device.memory.recall(self._stamp(number))) is not None:
            self._say(number, last.class_ids[0], repeated=True)

    def _say(self, number: int, class_id: int, repeated: bool = False) -> None:
        """What the robot says of a frame; the first counts."""
        fate = self._trip.fates[number]
        if math.isinf(fate.after_s):
            fate.after_s = self._time.now - WARM_UP_S - self._frames[number].at_s
            fate.repeated = repeated
            fate.class_id = class_id if fate.after_s <= self._deadline else -1

    # The link

    def _exchange(self) -> None:
        for device in self._devices:
            for data in device.edge.datagrams_to_send(self._time.now):
                number = self._number()
                if number >= 0 and self._time.now < self._counted_until:
                    self._trip.fates[number].bytes += len(data) + HEADER_BYTES
                    self._trip.fates[number].packets += 1
                self._link.carry(self._link.up, data,
                                 lambda data, device=device: self._bridge.receive_datagram(data, device.address, self._time.now))
            while (event := device.edge.next_event()) is not None:
                self._take(device, event)
        while (event := self._bridge.next_event()) is not None:
            if isinstance(event, FrameReady):
                self._tail.put(0.0, lambda frame=event.frame: self._answer([frame]))
            elif isinstance(event, FramesJoined):
                self._tail.put(0.0, lambda frames=event.frames: self._answer([*frames.values()]))
        for data, address in self._bridge.datagrams_to_send(self._time.now):
            device = next(device for device in self._devices if device.address == address)
            self._link.carry(self._link.down, data, lambda data, device=device: device.edge.receive_datagram(data, self._time.now))

    # The bridge

    def _answer(self, frames: list[ReceivedFrame]) -> None:
        began = self._time.now
        with Stopwatch() as watch:
            outcomes = self._server.answer_batch(frames)

        def reply() -> None:
            for frame, outcome in zip(frames, outcomes, strict=True):
                self._bridge.send_answer(frame.session_id, outcome.answer(frame, self._server.name, began, self._time.now), self._time.now)
            self._exchange()
        self._tail.put(watch.seconds, reply)

    def _stamp(self, number: int) -> int:
        return round(1e9 * self._frames[number].at_s)

    def _number(self) -> int:
        """The newest frame whose time has come; -1 before the first."""
        past = self._time.now - WARM_UP_S
        return int(np.searchsorted([frame.at_s for frame in self._frames], past + 1e-9, side='right')) - 1


def _gentle(impairment: Impairment) -> Impairment:
    """A link of the same rate and delay that loses nothing, for the handshake."""
    return replace(impairment, loss=0.0, burst_length=1.0, corrupt=0.0, duplicate=0.0, reorder=0.0, trace='')


def _known(side: Callable[..., Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Those of `settings` that edge or bridge has."""
    strategy = settings.get('strategy', 'split')
    table = EDGE_SETTINGS if side is edge_settings else BRIDGE_SETTINGS
    names = {one.name for one in fields(table[strategy])} | {'strategy'}
    return {name: value for name, value in settings.items() if name in names}
