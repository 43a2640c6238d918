"""Edges and a bridge in simulated time, with impaired links between them; nothing sleeps."""

import heapq
import itertools
import math
from dataclasses import dataclass
from random import Random

import numpy as np

from evitif.protocol.bridge.endpoint import BridgeConfig, BridgeEndpoint
from evitif.protocol.edge.connection import EdgeConfig, EdgeConnection
from evitif.protocol.events import FrameReady
from evitif.protocol.frames.packetiser import TokenFrame
from evitif.protocol.wire.answer import Answer
from evitif.protocol.wire.parameters import StreamParameters

# 33 datagrams a frame of 1,200 bytes at most.
PARAMETERS = StreamParameters(model='vit_tiny_patch16_224', fingerprint='ab' * 32, cut=3, quantisation='int8',
                              image_size=(224, 224), tokens=197, prefix_tokens=1, grid=(14, 14), channels=144, groups=1,
                              row_bytes=148, classes=1000)
SMALL = StreamParameters(model='small', fingerprint='cd' * 32, cut=1, quantisation='int8', image_size=(28, 28),
                         tokens=50, prefix_tokens=1, grid=(7, 7), channels=16, groups=1, row_bytes=20, classes=10)


BRIDGE = 'bridge'


def rows_of(parameters: StreamParameters, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (parameters.units, parameters.row_bytes), np.uint8)


def frame_of(parameters: StreamParameters, frame_id: int, source_frame: str = 'camera') -> TokenFrame:
    return TokenFrame(frame_id % (1 << 32), 1_000_000_000 + frame_id, source_frame, rows_of(parameters, frame_id))


def answer_to(frame, now: float, **changes) -> Answer:
    """What a bridge without a model answers."""
    tokens = len(frame.received)
    fields = {
        'frame_id': frame.frame_id, 'capture_stamp_ns': frame.capture_stamp_ns, 'class_ids': (3, 1),
        'scores': (0.75, 0.25), 'strategy': 'split', 'recovery': 'omission', 'packets_received': frame.packets_received,
        'packets_expected': frame.packets_expected, 'bytes_received': frame.bytes_received,
        'tokens_received': int(frame.received.sum()), 'tokens_expected': tokens, 'received': frame.received,
        'packet_error_rate': frame.packet_error_rate, 'first_arrival': frame.first_arrival,
        'wait_s': frame.ready_at - frame.first_arrival, 'recovery_s': 0.0, 'tail_s': 0.0,
        'hold_s': now - frame.first_arrival}
    return Answer(**fields | changes)


@dataclass
class Impairment:
    """Losses come in runs of mean length `burst` (Gilbert's model), or independently."""

    loss: float = 0.0
    burst: float = 0.0
    delay: float = 0.002
    jitter: float = 0.0
    duplication: float = 0.0
    corruption: float = 0.0
    rate: float = 0.0            # bit/s of a bottleneck, IP and UDP headers included; 0: none
    queue: float = 0.1           # s of data that it holds; what comes when it is full is dropped
    ecn: int = 0                 # field of what arrives unmarked; 1: ECT(1), 0: bleached
    mark_s: float = math.inf     # queueing delay from which a datagram is marked (RFC 3168)
    marked: bool = False         # whether the last that passed is
    drops_marked: bool = False   # what an edge marks ECT(1) does not arrive
    policed: bool = False        # what is within rate and `queue`, as the depth of a bucket, passes without delay
    bad: bool = False
    free_at: float = 0.0         # when the bottleneck has sent what it holds

    def passes(self, size: int, now: float) -> float | None:
        """When a datagram of `size` bytes of payload has left the bottleneck; None: its queue is full."""
        if not self.rate:
            return now
        began = max(now, self.free_at)
        if began - now > self.queue:
            return None
        self.marked = began - now > self.mark_s
        self.free_at = began + 8 * (size + 28) / self.rate
        return now if self.policed else self.free_at

    def loses(self, random: Random) -> bool:
        if self.burst:
            stays = 1 - 1 / self.burst if self.bad else self.loss / (self.burst * (1 - self.loss))
            self.bad = random.random() < stays
            return self.bad
        return random.random() < self.loss


class Simulation:
    """Any number of edges and one bridge, whose clock is `clock_offset` ahead of theirs.

    The bridge answers each frame `tail` seconds after it is ready. `None` as the bridge: its process is dead.
    """

    def __init__(self, *, seed=0, uplink=None, downlink=None, clock_offset=1000.0, tail=0.005):
        self.random = Random(seed)
        self.now = 10.0
        self.uplink, self.downlink = uplink or Impairment(), downlink or Impairment()
        self.clock_offset, self.tail = clock_offset, tail
        self.edges: dict[object, EdgeConnection] = {}
        self.bridge: BridgeEndpoint | None = None
        self.events: list[tuple[float, object, object]] = []      # (when, address or 'bridge', event)
        self.received: list = []                                  # frames at the bridge
        self.carried: list[tuple[bytes, object]] = []             # what edges sent, with the sender's address, lost or not
        self.departed: list[tuple[float, bytes]] = []             # the same, with the time
        self._queue: list = []
        self._count = itertools.count()
        self._touched: set = set()                                # whom something has happened to, by address; BRIDGE

    def add_bridge(self, parameters=PARAMETERS, config=None, name='bridge', keys=None) -> BridgeEndpoint:
        self.bridge = BridgeEndpoint(parameters, name, config or BridgeConfig(), keys=keys,
                                     random=Random(self.random.random()))
        return self.bridge

    def add_edge(self, parameters=PARAMETERS, config=None, robot='robot', address=('10.0.0.1', 4000),
                 key=None) -> EdgeConnection:
        edge = self.edges[address] = EdgeConnection(parameters, robot, config or EdgeConfig(), key=key,
                                                    random=Random(self.random.random()))
        edge.connect(self.now)
        return edge

    def at(self, when: float, action) -> None:
        heapq.heappush(self._queue, (when, next(self._count), action))

    def send(self, edge: EdgeConnection, frame: TokenFrame) -> bool:
        return edge.send_frame(frame, self.now)

    def stream(self, edge, parameters, frames: int, rate: float = 10.0, first_id: int = 0) -> list[int]:
        """Send `frames` frames from now on; returns the list that gets the ids of those that were sent."""
        sent: list[int] = []

        def send(k):
            frame = frame_of(parameters, first_id + k)
            if edge.send_frame(frame, self.now):
                sent.append(frame.frame_id)

        for k in range(frames):
            self.at(self.now + k / rate, lambda k=k: send(k))
        return sent

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        self._touched = self._everybody()
        timers = {}
        while True:
            self._exchange()
            for who in {*self._touched, *(timers.keys() - self._everybody())}:
                timers[who] = self._timer(who)
            self._touched = set()
            arrival = self._queue[0][0] if self._queue else math.inf
            when = min(arrival, *timers.values())
            if when > end:
                break
            self.now = max(self.now, when)
            if arrival <= when:
                touched = heapq.heappop(self._queue)[2]()
                self._touched = self._everybody() if touched is None else touched
            else:
                self._touched = self._everybody()
                for edge in self.edges.values():
                    edge.handle_timer(self.now)
                if self.bridge:
                    self.bridge.handle_timer(self.now + self.clock_offset + 1e-9)
        self.now = end

    def _everybody(self) -> set:
        return {*self.edges, BRIDGE}

    def _timer(self, who) -> float:
        if who != BRIDGE:
            timer = self.edges[who].get_timer() if who in self.edges else None
            return math.inf if timer is None else timer
        timer = self.bridge.get_timer() if self.bridge else None
        return math.inf if timer is None else timer - self.clock_offset

    def _carry(self, link: Impairment, data: bytes, deliver) -> None:
        left = link.passes(len(data), self.now)
        if left is None or link.loses(self.random):
            return
        for _ in range(2 if self.random.random() < link.duplication else 1):
            if self.random.random() < link.corruption:
                changed = bytearray(data)
                changed[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
                data = bytes(changed)
            marks = [3 if link.marked else link.ecn] if link.marked or link.ecn else []
            at = left + link.delay + link.jitter * self.random.random()
            heapq.heappush(self._queue, (at, next(self._count), lambda data=data, marks=marks: deliver(data, *marks)))

    def _exchange(self) -> None:
        """Take what those that were touched have to send and to say."""
        for address, edge in [(address, edge) for address, edge in self.edges.items() if address in self._touched]:
            for data in edge.datagrams_to_send(self.now):
                self.carried.append((data, address))
                self.departed.append((self.now, data))
                if not (self.uplink.drops_marked and edge.marking.on):
                    self._carry(self.uplink, data, lambda data, *ecn, address=address: self._to_bridge(data, address, *ecn))
            while (event := edge.next_event()) is not None:
                self.events.append((self.now, address, event))
        if self.bridge is None or BRIDGE not in self._touched:
            return
        for data, address in self.bridge.datagrams_to_send(self.now + self.clock_offset):
            self._carry(self.downlink, data, lambda data, *_, address=address: self._to_edge(data, address))
        while (event := self.bridge.next_event()) is not None:
            self.events.append((self.now, 'bridge', event))
            if isinstance(event, FrameReady):
                self.received.append(event.frame)
                self.at(self.now + self.tail, lambda frame=event.frame, bridge=self.bridge: self._answer(bridge, frame))

    def _answer(self, bridge, frame) -> None:
        if bridge is self.bridge:
            now = self.now + self.clock_offset
            bridge.send_answer(frame.session_id, answer_to(frame, now), now)

    def _to_bridge(self, data, address, ecn=0) -> set:
        if self.bridge:
            self.bridge.receive_datagram(data, address, self.now + self.clock_offset, **({'ecn': ecn} if ecn else {}))
        return {BRIDGE}

    def _to_edge(self, data, address) -> set:
        if address in self.edges:
            self.edges[address].receive_datagram(data, self.now)
        return {address}

    def connected(self, **edge) -> EdgeConnection:
        """An edge, as `add_edge`, that has its session."""
        added = self.add_edge(**edge)
        self.run(1.0)
        assert added.connected
        return added

    def of(self, kind, who=None) -> list:
        """The events of a kind, in order."""
        return [event for _, whose, event in self.events if isinstance(event, kind) and who in (None, whose)]

    def when(self, kind) -> list[float]:
        return [when for when, _, event in self.events if isinstance(event, kind)]

