"""Edge and bridge with a fuzzer as their network: it delivers, drops, repeats, changes and invents datagrams, lets time pass, moves
and restarts the robot, restarts the bridge, and speaks as a robot that has a key and is hostile.

Whatever it does: nothing raises; each frame that was sent ends once; the bridge serves no more robots than it may; who has no
session gets no more than three bytes for one; and what both keep stays small.
"""

from __future__ import annotations

from collections import Counter, deque
from random import Random

import numpy as np

from evitif.protocol.bridge.admission import AMPLIFICATION
from evitif.protocol.bridge.endpoint import BridgeConfig, BridgeEndpoint
from evitif.protocol.edge.connection import EdgeConfig, EdgeConnection
from evitif.protocol.events import AnswerArrived, FrameExpired, FrameOverdue, FrameReady
from evitif.protocol.frames.packetiser import TokenFrame
from evitif.protocol.sealing.keys import RobotKeys
from evitif.protocol.wire import datagram
from evitif.protocol.wire.answer import Answer
from fuzz.footprint import footprint
from fuzz.parsers import KEY, PARAMETERS, handle_due
from fuzz.stream import Stream

MAX_SESSIONS = 3
MOST_BYTES = 3_000_000        # that both sides may keep after one input; about a tenth of it is the parameters' tables
_ADDRESSES = tuple((f'10.0.0.{host}', 4000 + host) for host in range(6))
_ROWS = np.arange(PARAMETERS.units * PARAMETERS.row_bytes, dtype=np.uint8).reshape(PARAMETERS.units, -1)


class Network:
    """One edge at a time, one bridge, and what is on its way between them."""

    def __init__(self, stream: Stream, sealed: bool):
        self.stream, self.sealed = stream, sealed
        self.now, self.random = 10.0, Random(1)
        self.up: deque[bytes] = deque(maxlen=64)
        self.down: deque[tuple[bytes, object]] = deque(maxlen=64)
        self.ready: deque = deque(maxlen=8)
        self.address = _ADDRESSES[0]
        self.frames = 0
        self.outcomes: Counter[int] = Counter()       # of this edge's frames, by id
        self.accepted: set[int] = set()
        self.taken: Counter = Counter()               # bytes by address that the bridge got and sent
        self.given: Counter = Counter()
        self.known: set = set()                       # addresses that ever were a session's
        self.start_bridge()
        self.start_edge()

    def start_bridge(self) -> None:
        """Another life of the bridge."""
        self.bridge = BridgeEndpoint(PARAMETERS, 'bridge', BridgeConfig(max_sessions=MAX_SESSIONS, session_timeout_s=1.0),
                                     keys=RobotKeys(default=KEY) if self.sealed else None, random=self.random)
        self.ready.clear()

    def start_edge(self) -> None:
        """Another life of the edge."""
        self.edge = EdgeConnection(PARAMETERS, 'robot', EdgeConfig(min_packets=2, frames_remembered=8), key=KEY if self.sealed else None,
                                   random=self.random)
        self.frames = 0
        self.outcomes.clear()
        self.accepted.clear()
        self.edge.connect(self.now)

    def step(self) -> None:
        """One decision of the fuzzer's, and what follows from it at once."""
        act = self.stream.choice(_ACTIONS)
        act(self)
        self.collect()

    def collect(self) -> None:
        """Take what both sides send and say, and judge it."""
        self.up.extend(self.edge.datagrams_to_send(self.now))
        while (event := self.edge.next_event()) is not None:
            if isinstance(event, (AnswerArrived, FrameExpired)):
                frame_id = event.sent.frame_id if isinstance(event, AnswerArrived) else event.frame_id
                self.outcomes[frame_id] += 1
                assert frame_id in self.accepted and self.outcomes[frame_id] == 1, f'frame {frame_id} ended twice'
            elif isinstance(event, FrameOverdue):
                assert not self.outcomes[event.frame_id], f'frame {event.frame_id} is overdue after its end'
        told = self.bridge.datagrams_to_send(self.now)
        for data, address in told:
            self.given[address] += len(data)
        self.down.extend(told)
        while (event := self.bridge.next_event()) is not None:
            if isinstance(event, FrameReady):
                assert event.frame.rows.shape[0] == PARAMETERS.units
                self.ready.append(event.frame)
        self.known.update(session.address for session in self.bridge.sessions.values())
        assert len(self.bridge.sessions) <= MAX_SESSIONS
        for address in {address for _, address in told} - self.known:
            assert self.given[address] <= AMPLIFICATION * self.taken[address], 'amplification'

    def to_bridge(self, data: bytes, address: object) -> None:
        """A datagram reaches the bridge."""
        self.taken[address] += len(data)
        self.bridge.receive_datagram(memoryview(data), address, self.now)

    # What the fuzzer can do.

    def deliver_up(self) -> None:
        """The next datagram reaches the bridge."""
        if self.up:
            self.to_bridge(self.up.popleft(), self.address)

    def deliver_runs(self) -> None:
        """What is on its way to the bridge, at once what follows one another in one size."""
        while self.up:
            run = [self.up.popleft()]
            while self.up and len(self.up[0]) == len(run[0]):
                run.append(self.up.popleft())
            self.taken[self.address] += sum(map(len, run))
            whole = np.frombuffer(bytearray(b''.join(run)), np.uint8).reshape(len(run), len(run[0]))
            self.bridge.receive_run(whole, self.address, self.now)

    def deliver_down(self) -> None:
        """The next datagram reaches the edge."""
        if self.down:
            data, address = self.down.popleft()
            if address == self.address:
                self.edge.receive_datagram(memoryview(data), self.now)

    def deliver_all(self) -> None:
        """Some datagrams pass, both ways."""
        for _ in range(24):
            if not self.up and not self.down:
                break
            self.deliver_up()
            self.deliver_down()
            self.collect()

    def drop(self) -> None:
        """The next datagram is lost."""
        for queue in (self.up, self.down):
            if queue and self.stream.number() & 1:
                queue.popleft()

    def repeat_or_delay(self) -> None:
        """The next datagram comes twice, or later."""
        queue = self.stream.choice((self.up, self.down))
        if queue:
            if self.stream.number() & 1:
                queue.append(queue[0])
            else:
                queue.rotate(-1)

    def change(self) -> None:
        """Flip bits of what is next, and, where there is no seal, put the checksum right again."""
        queue = self.stream.choice((self.up, self.down))
        if queue:
            first = queue.popleft()
            data = bytearray(first if queue is self.up else first[0])
            for _ in range(1 + self.stream.number() % 3):
                data[self.stream.number(2) % len(data)] ^= self.stream.number()
            data = bytes(data)
            if self.stream.number() & 1 and len(data) >= datagram.HEADER.size:
                header = datagram.HEADER.unpack_from(data)
                data = datagram.finish(bytearray(data), header[3], header[4])
            queue.appendleft(data if queue is self.up else (data, first[1]))

    def invent(self) -> None:
        """Any bytes from anywhere."""
        data, address = self.stream.take(self.stream.number()), self.stream.choice(_ADDRESSES)
        if self.stream.number() & 1:
            self.to_bridge(data, address)
        else:
            self.edge.receive_datagram(data, self.now)

    def forge(self) -> None:
        """Without a seal, but right but for what is in it."""
        session = self.stream.choice((0, 1, self.edge.session_id or 2, next(iter(self.bridge.sessions), 3)))
        data = datagram.build(self.stream.number(), session, self.stream.number(4), self.stream.take(self.stream.number()))
        if self.stream.number() & 1:
            self.to_bridge(data, self.stream.choice(_ADDRESSES))
        else:
            self.edge.receive_datagram(data, self.now)

    def speak_as_the_robot(self) -> None:
        """Who has the robot's key and session says anything."""
        kind = self.stream.choice((datagram.TOKENS, datagram.PING, datagram.BYE, datagram.ANSWER, datagram.PATH_RESPONSE))
        body = self.stream.take(self.stream.number())
        if self.edge.session_id is not None:
            self.edge._send(kind, self.now, body)  # noqa: SLF001 (the edge itself says nothing wrong)

    def speak_as_the_bridge(self) -> None:
        """The bridge says anything in its session."""
        kind = self.stream.choice((datagram.ANSWER, datagram.PONG, datagram.BYE, datagram.RESET, datagram.MAP))
        body = self.stream.take(self.stream.number())
        for session in list(self.bridge.sessions.values())[:1]:
            self.edge.receive_datagram(session.build(kind, body), self.now)
            self.edge.receive_datagram(session.path_challenge(body), self.now)

    def send_frame(self) -> None:
        """The edge sends a frame."""
        self.frames += 1
        kind = self.stream.choice(('int8', 'int4'))
        frame = TokenFrame(self.frames, self.frames * 1000, 'c', _ROWS[:, :PARAMETERS.row_formats[kind]].copy(), kind)
        if self.edge.send_frame(frame, self.now):
            self.accepted.add(self.frames)

    def answer(self) -> None:
        """The bridge answers its frames."""
        while self.ready:
            frame = self.ready.popleft()
            tokens = len(frame.received)
            self.bridge.send_answer(frame.session_id, Answer(
                frame_id=frame.frame_id, capture_stamp_ns=frame.capture_stamp_ns, class_ids=(1,), scores=(1.0,), strategy='split',
                recovery='omission', packets_received=frame.packets_received, packets_expected=frame.packets_expected,
                bytes_received=frame.bytes_received, tokens_received=int(frame.received.sum()), tokens_expected=tokens,
                received=frame.received, packet_error_rate=frame.packet_error_rate, first_arrival=frame.first_arrival,
                wait_s=0.0, recovery_s=0.0, tail_s=0.0, hold_s=max(0.0, self.now - frame.first_arrival)), self.now)

    def wait(self) -> None:
        """Time passes."""
        self.now += self.stream.choice((0.001, 0.003, 0.01, 0.1, 0.3, 1.1, 30.0))
        for side in (self.edge, self.bridge):
            handle_due(side, self.now, self.collect)

    def move(self) -> None:
        """The robot gets another address."""
        self.address = self.stream.choice(_ADDRESSES)

    def restart_edge(self) -> None:
        """The edge ends, with or without a goodbye, and begins anew."""
        if self.stream.number() & 1:
            self.edge.close(self.now)
            self.collect()
            assert self.accepted == set(self.outcomes), 'a frame that was sent did not end'
        self.start_edge()

    def restart_bridge(self) -> None:
        """The bridge ends, with or without a goodbye, and begins anew."""
        if self.stream.number() & 1:
            self.bridge.close(self.now)
            self.collect()
        self.start_bridge()


_ACTIONS = (Network.deliver_all, Network.deliver_up, Network.deliver_down, Network.drop, Network.repeat_or_delay, Network.change,
            Network.invent, Network.forge, Network.speak_as_the_robot, Network.speak_as_the_bridge, Network.send_frame, Network.answer,
            Network.wait, Network.move, Network.deliver_all, Network.restart_edge, Network.wait, Network.restart_bridge,
            Network.deliver_runs)


def _run(data: bytes, sealed: bool) -> None:
    network = Network(Stream(data), sealed)
    network.collect()
    network.deliver_all()
    while network.stream:
        network.step()
    network.edge.close(network.now)
    network.collect()
    assert network.accepted == set(network.outcomes), 'a frame that was sent did not end'
    for side in (network.edge, network.bridge):
        assert side.statistics.datagrams_used >= 0
        if len(data) % 8 == 0:      # counting takes as long as all the rest
            kept = footprint(side)
            assert kept <= MOST_BYTES, f'{type(side).__name__} keeps {kept} bytes'


def unsealed_link(data: bytes) -> None:
    """Both sides without keys."""
    _run(data, sealed=False)


def sealed_link(data: bytes) -> None:
    """Both sides with keys."""
    _run(data, sealed=True)


TARGETS = {'link': unsealed_link, 'sealed-link': sealed_link}
