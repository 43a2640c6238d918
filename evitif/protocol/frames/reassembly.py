"""Datagrams back into frames, with as many of their tokens as came.

Nothing waits for a lost packet, and nothing is asked for again. A frame is delivered

1. complete, at once;
2. after the grace, once its last packet or a packet of a newer frame was seen (see `arrival`);
3. after the quiet time, when nothing of it has come for that long;
4. at the deadline, counted from its first packet;
5. when newer frames need its place in the ring ('evicted').

Frames that are ready together are delivered in the order of their ids. A newer frame never waits for an older one: once it is
delivered, older frames that were not ready are dropped ('superseded'), and their packets are 'late' from then on.

Frame ids are u32 and compared by serial number arithmetic (RFC 1982), so they may wrap. After ORDER_MEMORY_S without a delivery any
id is accepted, which lets a sender through that counts anew, but no frame that was there before.

Memory: at most `frames` frames in flight, in a ring indexed by the low bits of the id, the packet masks of the last few that were
delivered, and the ids of as many as the datagrams that are not too old may be of. A frame takes `units` rows of its quantisation,
whatever its packets say.
"""

from __future__ import annotations

import bisect
import math
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import or_

import numpy as np

from evitif.protocol.frames.arrival import QUIET_FLOOR_S, ArrivalEstimator
from evitif.protocol.frames.coded_frame import tokens_of
from evitif.protocol.wire.coded import CodedBody, CodedPart, CodedTokens
from evitif.protocol.wire.datagram import WINDOW, TokensBody
from evitif.protocol.wire.parameters import StreamParameters, check_seconds
from evitif.protocol.wire.runs import TokensRun
from evitif.settings import BridgeSettings
from evitif.vocabulary import Quantisation

FRAMES_IN_FLIGHT = 4
REASSEMBLY_DEADLINE_S = BridgeSettings.reassembly_deadline
ORDER_MEMORY_S = 1.0
_QUANTISATIONS = tuple(Quantisation)
_FINISHED = 8            # delivered or dropped frames whose packets are still recognised
_PAST = WINDOW           # delivered or dropped frames that do not come again


@dataclass(frozen=True, eq=False)
class ReceivedFrame:
    """What arrived of a frame."""

    session_id: int
    robot: str
    frame_id: int
    capture_stamp_ns: int
    source_frame: str
    rows: np.ndarray               # uint8 [units, row_bytes], zeros where nothing arrived; CODED: [0, 0]
    received: np.ndarray           # bool [units]
    packets_received: int
    packets_expected: int
    bytes_received: int            # UDP payload of the frame's packets
    packet_error_rate: float       # of the uplink, 0..1, over the recent packets; NaN when unknown
    first_arrival: float           # seconds on the bridge's clock
    ready_at: float                # the same
    complete: bool                 # every unit that was sent arrived
    quantisation: Quantisation     # of the rows; CODED: there are none, `coded` has the tokens
    units_sent: int                # of the frame's units; fewer than all where the edge sent only some tokens
    device: str = ''               # of a partition: whose features these are
    top_k: int = 0                 # classes that the robot wants in its answer at least; 0: the bridge decides
    coded: CodedTokens | None = None


class _Frame:
    """A frame in flight."""

    def __init__(self, body: TokensBody | CodedBody, parameters: StreamParameters, now: float):
        self.id = body.frame_id
        self.stamp = body.capture_stamp_ns
        self.source = body.source_frame
        self.packet_count = body.packet_count
        self.key = body.frame_key
        self.coded = isinstance(body, CodedBody)
        if isinstance(body, CodedBody):
            self.quantisation, self.sent, shape = Quantisation.CODED.number, parameters.units, (0, 0)
            self.step, self.reference = body.step, body.reference
        else:
            self.quantisation, self.sent, shape = body.quantisation, body.sent_units, (parameters.units, body.rows.shape[1])
        self.parts: list[CodedPart] = []
        self.rows = np.zeros(shape, np.uint8)
        self.received = np.zeros(parameters.units, np.bool_)
        self.packets = 0                 # bit k: packet k arrived
        self.packets_received = 0
        self.units = 0                   # with repetitions
        self.bytes = 0
        self.first_arrival = self.last_arrival = now
        self.highest = -1                # packet index, and when it came
        self.highest_at = now
        self.ending_at = math.inf        # when the last packet, or one of a newer frame, was first seen

    def fits(self, body: TokensBody | CodedBody) -> bool:
        """Whether a packet describes the frame as the others did."""
        return body.frame_key == self.key and isinstance(body, CodedBody) == self.coded

    @property
    def has_all(self) -> bool:
        """Whether every unit that was sent arrived."""
        return int(np.count_nonzero(self.received)) >= self.sent


@dataclass
class _Finished:
    """A frame that is no longer in flight."""

    id: int
    stamp: int
    packets: int
    quiet_since: float       # its last arrival, where the quiet time ended it, else NaN
    ending_at: float         # when its grace began, where the grace ended it, else NaN


def _bits(indices: list[int]) -> int:
    """The mask of packets with these indices."""
    count, first = len(indices), indices[0]
    if count == 1 or indices == [*range(first, first + count)]:
        return (1 << count) - 1 << first
    return reduce(or_, (1 << index for index in indices))


def newer(a: int, b: int) -> bool:
    """Whether frame id `a` comes after `b` (RFC 1982 with 32 bits)."""
    return 0 < (a - b) % (1 << 32) < 1 << 31


class Reassembler:
    """The frames of one session.

    :param reassembly_deadline_s: from a frame's first packet until it is delivered with what it has, seconds
    :param frames: in flight, a power of two
    :param packet_error_rate: of the uplink, asked when a frame is delivered
    """

    def __init__(self, parameters: StreamParameters, *, session_id: int = 0, robot: str = '',
                 reassembly_deadline_s: float = REASSEMBLY_DEADLINE_S, frames: int = FRAMES_IN_FLIGHT,
                 quiet_floor_s: float = QUIET_FLOOR_S, packet_error_rate: Callable[[], float] = lambda: math.nan, top_k: int = 0):
        if frames < 1 or frames & (frames - 1):
            raise ValueError(f'frames is {frames}; expected a power of two')
        self._parameters = parameters
        self._row_bytes = {kind.number: size for kind, size in parameters.row_formats.items()}
        self._session_id = session_id
        self._robot = robot
        self._deadline = check_seconds('reassembly_deadline_s', reassembly_deadline_s)
        self._packet_error_rate = packet_error_rate
        self._top_k = top_k
        self._ring: list[_Frame | None] = [None] * frames
        self._finished: deque[_Finished] = deque(maxlen=_FINISHED)
        self._past: OrderedDict[tuple[int, int], None] = OrderedDict()      # id and capture stamp, the oldest first
        self._delivered_id, self._delivered_at = 0, -math.inf
        self._ready: deque[ReceivedFrame] = deque()
        self.arrival = ArrivalEstimator(self._deadline, quiet_floor_s=quiet_floor_s)
        self.complete = self.partial = self.evicted = self.superseded = 0      # frames; evicted ones are partial too

    def receive(self, body: TokensBody, size: int, now: float) -> str | None:
        """Take one packet, a datagram of `size` bytes. Returns None if it was used, else the kind of the drop."""
        return next(iter(self.receive_run(TokensRun.of(body), size, now)), None)

    def receive_run(self, run: TokensRun, size: int, now: float) -> list[str]:
        """Take packets of one frame that arrived together, datagrams of `size` bytes. Returns a kind for each that was dropped."""
        parameters, first, packets = self._parameters, run.first, len(run.indices)
        # Of the few units of one packet a list has the highest sooner than an array.
        if (max(run.units.tolist()) if run.units.ndim == 1 else int(run.units.max())) >= parameters.units:
            return ['malformed'] if packets == 1 else self._one_by_one(run, size, now)
        if first.sent_units > parameters.units or run.rows.shape[-1] != self._row_bytes.get(first.quantisation):
            return ['inconsistent'] * packets
        frame = self._frame_of(first, run.indices, now)
        if isinstance(frame, list):
            return frame
        bits = _bits(run.indices)
        if frame.packets & bits or bits.bit_count() < packets:
            return ['duplicate'] if packets == 1 else self._one_by_one(run, size, now)
        # Too few units cannot be all; the sum is cheaper than a look at the mask.
        may_complete = frame.units + run.units.size >= frame.sent
        used = self._completing(frame, run) if may_complete else packets
        if used < packets:
            self._store(frame, run.part(0, used), _bits(run.indices[:used]), size, now)
        else:
            self._store(frame, run, bits, size, now)
        if frame.packets_received == frame.packet_count or may_complete and frame.has_all:
            self._deliver([frame], now)
        return self.receive_run(run.part(used, packets), size, now) if used < packets else []

    def receive_coded(self, body: CodedBody, size: int, now: float) -> str | None:
        """As `receive`, of a frame whose tokens are entropy-coded."""
        parameters, part = self._parameters, body.part
        patches = parameters.tokens - parameters.prefix_tokens
        if not parameters.entropy_code or part.first >= patches or part.count > patches:
            return 'inconsistent'
        frame = self._frame_of(body, [body.packet_index], now)
        if isinstance(frame, list):
            return frame[0]
        bit = 1 << body.packet_index
        if frame.packets & bit:
            return 'duplicate'
        units = tokens_of(part, parameters)
        if not frame.received[units].all():      # a part that brings nothing new is not kept: there are at most as many as units
            if sum(len(kept.payload) for kept in frame.parts) + len(part.payload) > 4 * parameters.tokens * parameters.channels:
                return 'inconsistent'
            frame.parts.append(part)
        frame.received[units] = True
        self._arrived(frame, [body.packet_index], bit, len(units), size, now)
        if frame.packets_received == frame.packet_count or frame.has_all:
            self._deliver([frame], now)
        return None

    def _frame_of(self, body: TokensBody | CodedBody, indices: list[int], now: float) -> _Frame | list[str]:
        """The frame in flight that packets `indices` belong to, or for each of them why it is not used."""
        slot = body.frame_id % len(self._ring)
        frame = self._ring[slot]
        if frame is not None and frame.id == body.frame_id:
            return frame if frame.fits(body) else ['inconsistent'] * len(indices)
        if frame is not None and not newer(body.frame_id, frame.id):
            return ['late'] * len(indices)
        for finished in self._finished:
            if finished.id == body.frame_id and finished.stamp == body.capture_stamp_ns:
                return [self._too_late(finished, index, now) for index in indices]
        if not self._in_order(body.frame_id, now) or (body.frame_id, body.capture_stamp_ns) in self._past:
            return ['late'] * len(indices)
        try:
            body.source_frame.decode()
        except UnicodeDecodeError:
            return ['malformed'] * len(indices)
        if frame is not None:
            self.evicted += 1
            self._deliver([frame], now)
        return self._begin(slot, body, now)

    def _one_by_one(self, run: TokensRun, size: int, now: float) -> list[str]:
        return [kind for k in range(len(run.indices)) for kind in self.receive_run(run.part(k, k + 1), size, now)]

    @staticmethod
    def _completing(frame: _Frame, run: TokensRun) -> int:
        """How many packets the frame takes of a run: up to the one that completes it."""
        def complete(count: int) -> bool:
            received = frame.received.copy()
            received[run.units[:count]] = True
            return int(np.count_nonzero(received)) >= frame.sent

        packets = len(run.indices)
        if packets == 1 or not complete(packets - 1):      # as where each patch travels once
            return packets
        return bisect.bisect_left(range(packets), True, 1, key=complete)

    def _begin(self, slot: int, body: TokensBody | CodedBody, now: float) -> _Frame:
        frame = self._ring[slot] = _Frame(body, self._parameters, now)
        for other in self._ring:
            if other is not None and newer(frame.id, other.id):
                other.ending_at = min(other.ending_at, now)
            elif other is not None and newer(other.id, frame.id):
                frame.ending_at = now
        return frame

    def _store(self, frame: _Frame, run: TokensRun, bits: int, size: int, now: float) -> None:
        frame.rows[run.units] = run.rows
        frame.received[run.units] = True
        self._arrived(frame, run.indices, bits, run.units.size, size, now)

    def _arrived(self, frame: _Frame, indices: list[int], bits: int, units: int, size: int, now: float) -> None:
        """Note packets `indices` of a frame that came together, with so many units, each a datagram of `size` bytes."""
        packets, highest = len(indices), max(indices)
        frame.packets |= bits
        frame.units += units
        frame.bytes += packets * size
        if frame.packets_received:
            self.arrival.gap(max(now - frame.last_arrival, 0.0))
        if packets > 1:
            self.arrival.together(packets - 1)
        frame.packets_received += packets
        frame.last_arrival = now
        if indices[0] < frame.highest:
            self.arrival.overtaken(now - frame.highest_at)
        if highest > frame.highest:
            frame.highest, frame.highest_at = highest, now
        if highest == frame.packet_count - 1:
            frame.ending_at = min(frame.ending_at, now)

    def _too_late(self, finished: _Finished, packet_index: int, now: float) -> str:
        """The kind of the drop of a packet whose frame is no longer in flight; it corrects the wait that ended the frame."""
        bit = 1 << packet_index
        if finished.packets & bit:
            return 'duplicate'
        finished.packets |= bit
        if not math.isnan(finished.quiet_since):
            self.arrival.silence(now - finished.quiet_since)
        if not math.isnan(finished.ending_at):
            self.arrival.overtaken(now - finished.ending_at)
        return 'late'

    def _in_order(self, frame_id: int, now: float) -> bool:
        return now - self._delivered_at > ORDER_MEMORY_S or newer(frame_id, self._delivered_id)

    def _waits(self, frame: _Frame) -> tuple[float, float, float]:
        """When the frame's grace, quiet time and deadline end."""
        return (frame.ending_at + self.arrival.grace_s, frame.last_arrival + self.arrival.quiet_s, frame.first_arrival + self._deadline)

    def get_timer(self) -> float | None:
        """When to call `handle_timer`, on the caller's clock; None: nothing is in flight."""
        return min((min(self._waits(frame)) for frame in self._ring if frame is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Deliver the frames whose time has come."""
        due = [frame for frame in self._ring if frame is not None and min(self._waits(frame)) <= now]
        if due:
            self._deliver(due, now, ended_by_wait=True)

    def next_frame(self) -> ReceivedFrame | None:
        """The next delivered frame, or None."""
        return self._ready.popleft() if self._ready else None

    def _deliver(self, due: list[_Frame], now: float, *, ended_by_wait: bool = False) -> None:
        # The ids in flight are less than 2**31 apart, or `newer` would not have let them in.
        base = due[0].id
        for frame in sorted(due, key=lambda frame: (frame.id - base + (1 << 31)) % (1 << 32)):
            if not self._in_order(frame.id, now):
                self._drop(frame)
                continue
            complete = frame.has_all
            self.complete += complete
            self.partial += not complete
            self._ready.append(ReceivedFrame(
                self._session_id, self._robot, frame.id, frame.stamp, frame.source.decode(), frame.rows, frame.received,
                frame.packets_received, frame.packet_count, frame.bytes, self._packet_error_rate(), frame.first_arrival,
                now, complete, _QUANTISATIONS[frame.quantisation], frame.sent, self._parameters.device, self._top_k,
                CodedTokens(frame.step, frame.reference, tuple(frame.parts)) if frame.coded else None))
            self._finish(frame, ended_by_wait)
            self._delivered_id, self._delivered_at = frame.id, now
            self.arrival.frame_ended()
        for other in self._ring:
            if other is not None and newer(self._delivered_id, other.id):
                self._drop(other)

    def _drop(self, frame: _Frame) -> None:
        self.superseded += 1
        self._finish(frame, ended_by_wait=False)

    def _finish(self, frame: _Frame, ended_by_wait: bool) -> None:
        """Take a frame out of flight; remember which wait ended it, so that a late packet can correct that wait."""
        grace, quiet, deadline = self._waits(frame)
        by_grace = ended_by_wait and grace <= quiet and grace < deadline
        by_quiet = ended_by_wait and quiet < grace and quiet < deadline
        self._finished.append(_Finished(frame.id, frame.stamp, frame.packets, frame.last_arrival if by_quiet else math.nan,
            frame.ending_at if by_grace else math.nan))
        self._past[frame.id, frame.stamp] = None
        if len(self._past) > _PAST:
            self._past.popitem(last=False)
        self._ring[frame.id % len(self._ring)] = None
