"""evitif as a contestant: edge, bridge and both halves of the strategy as they are, in simulated time, over a trace of lost packets. Where
no answer comes the robot gives its last one again, as in `evitif.pipeline.edge_runtime`.

Nobody tells it the loss. The handshake comes before the clip begins and before the trace loses anything. The link is unsealed and has no
limit of its rate, as the codecs' has none; what a frame may take is the contestant's setting.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from benchmarks.streams.clips import NO_ANSWER, Clip
from benchmarks.streams.contestant import DEADLINE_S, DELAY_S, TAIL_S, Run
from benchmarks.streams.traces import Direction, Trace
from evitif.pipeline.answer_memory import AnswerMemory
from evitif.pipeline.strategies import bridge_strategy, edge_strategy
from evitif.pipeline.strategy import Observation, Outcome
from evitif.protocol.bridge.endpoint import BridgeConfig, BridgeEndpoint
from evitif.protocol.edge.connection import EdgeConfig, EdgeConnection
from evitif.protocol.events import AnswerArrived, EdgeEvent, FrameExpired, FrameOverdue, FrameReady
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.settings import bridge_settings, edge_settings
from evitif.transport.impairment import HEADER_BYTES
from evitif.vocabulary import Strategy
from evitif_lab.simulated_time import SimulatedTime

BEGIN_S = 1.0           # when the first frame is there; before it the link loses nothing


@dataclass(frozen=True)
class Split:
    """
    :ivar edge: settings of the edge beside the model's, `bridge` likewise; a `strategy` in both: split, or selection without a light model
    :ivar frame_bytes: what a frame may take with its headers, where the edge chooses how it travels
    """

    edge: dict
    bridge: dict
    frame_bytes: float = math.inf

    def __call__(self, clip: Clip, trace: Trace) -> Run:
        """Send the clip."""
        return Simulation(self, clip, trace).run()


class Simulation:
    """One clip over one trace."""

    def __init__(self, how: Split, clip: Clip, trace: Trace):
        self._how, self._clip = how, clip
        self._pixels = how.edge.get('strategy') == Strategy.SELECTION
        common = {name: value for name, value in clip.source.settings.items() if name != 'cut' or not self._pixels}
        edge = edge_settings(**common, unsealed=True, **how.edge)
        self._robot = edge_strategy(edge)
        self._server = bridge_strategy(bridge_settings(**common, unsealed=True, **how.bridge))
        self._edge = EdgeConnection(self._robot.parameters, 'robot', EdgeConfig(
            min_packets=edge.min_packets, prefix_copies=edge.prefix_copies, patch_copies=edge.patch_copies, congestion_control=False,
            answer_deadline_s=edge.answer_deadline), random=Random(0))
        self._memory = AnswerMemory(edge.answer_memory, self._robot.parameters.classes)
        self._bridge = BridgeEndpoint(self._server.streams, 'bridge', BridgeConfig(), random=Random(1))
        self._time = SimulatedTime(self._edge, self._bridge, self._exchange)
        self._uplink, self._downlink = trace.uplink, trace.downlink
        frames = len(clip.frames)
        self._answers, self._repeated = np.full(frames, NO_ANSWER), np.zeros(frames, bool)
        self._bytes, self._packets = np.zeros(frames, int), np.zeros(frames, int)

    def run(self) -> Run:
        """Until the last frame's deadline."""
        for number in range(len(self._clip.frames)):
            self._time.at(BEGIN_S + number / self._clip.rate_hz, lambda number=number: self._send(number))
        end = BEGIN_S + len(self._clip.frames) / self._clip.rate_hz + DEADLINE_S
        self._edge.connect(0.0)
        self._time.run(end)
        return Run(self._answers, self._bytes, self._packets, self._repeated)

    def _send(self, number: int) -> None:
        uplink = replace(self._edge.uplink, frame_bytes=self._how.frame_bytes)
        height, width = self._clip.frames.shape[1:3]
        content = self._clip.patches[number] if self._pixels else self._clip.tokens[number]
        observation = Observation((0.0, 0.0, width, height), 0.0, 0.0, content, frame_id=number)
        if not self._edge.send_frame(self._robot.encode(observation, uplink).frame(number, self._stamp(number), 'camera'), self._time.now):
            self._repeat(number)

    def _stamp(self, number: int) -> int:
        return round(1e9 * number / self._clip.rate_hz)

    def _exchange(self) -> None:
        """Carry what both sides send, and take up what they say."""
        for data in self._edge.datagrams_to_send(self._time.now):
            number = self._frame()
            if number >= 0:
                self._bytes[number] += len(data) + HEADER_BYTES
                self._packets[number] += 1
            self._carry(self._uplink, lambda data=data: self._bridge.receive_datagram(data, ('edge', 1), self._time.now))
        while (event := self._edge.next_event()) is not None:
            self._take(event)
        while (event := self._bridge.next_event()) is not None:
            if isinstance(event, FrameReady):
                outcome, = self._server.answer_batch([event.frame])
                self._time.at(self._time.now + TAIL_S, lambda frame=event.frame, outcome=outcome: self._answer(frame, outcome))
        for data, _ in self._bridge.datagrams_to_send(self._time.now):
            self._carry(self._downlink, lambda data=data: self._edge.receive_datagram(data, self._time.now))

    def _take(self, event: EdgeEvent) -> None:
        """What the edge was told."""
        if isinstance(event, AnswerArrived):
            answer, number = event.answer, event.answer.frame_id
            self._robot.acknowledge(self._edge.session_id or 0, number, answer.received)
            self._memory.keep(answer.capture_stamp_ns, answer.class_ids, answer.scores, answer)
            self._say(number, answer.class_ids[0])
        elif isinstance(event, (FrameOverdue, FrameExpired)):
            self._repeat(event.frame_id)

    def _repeat(self, number: int) -> None:
        if (last := self._memory.recall(self._stamp(number))) is not None:
            self._say(number, last.class_ids[0], repeated=True)

    def _say(self, number: int, class_id: int, repeated: bool = False) -> None:
        """What the robot says of a frame; the first counts, if it is in time."""
        if self._answers[number] == NO_ANSWER and self._time.now <= BEGIN_S + number / self._clip.rate_hz + DEADLINE_S:
            self._answers[number], self._repeated[number] = class_id, repeated

    def _answer(self, frame: ReceivedFrame, outcome: Outcome) -> None:
        answer = outcome.answer(frame, self._server.name, frame.first_arrival, self._time.now)
        self._bridge.send_answer(frame.session_id, answer, self._time.now)

    def _frame(self) -> int:
        """Which frame's time it is; -1 before the first."""
        return min(math.floor((self._time.now - BEGIN_S) * self._clip.rate_hz + 1e-6), len(self._clip.frames) - 1)

    def _carry(self, direction: Direction, deliver: Callable[[], object]) -> None:
        number = self._frame()
        if number < 0 or not direction.lost(number)[0]:
            self._time.at(self._time.now + DELAY_S, deliver)
