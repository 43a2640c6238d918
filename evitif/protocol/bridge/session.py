"""What the bridge keeps of one robot, and the copies of its answers that are still to be sent."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evitif.protocol.bridge.answer_size import AnswerSizes
from evitif.protocol.frames.reassembly import Reassembler
from evitif.protocol.rate.copies import REPORT_SUFFICES, answer_copies, sufficient_copies
from evitif.protocol.rate.report import since
from evitif.protocol.rate.statistics import RATE_WINDOW, LinkStatistics, SequenceTracker, Traffic
from evitif.protocol.sealing.seal import Sealer, sign
from evitif.protocol.wire import answer as answers
from evitif.protocol.wire import datagram, runs
from evitif.protocol.wire import map_part as maps
from evitif.protocol.wire.datagram import Address, Datagram, DatagramError, ReceiverReport
from evitif.protocol.wire.parameters import StreamParameters

COPY_FRESH_S, COPIES_FRESH = 0.1, 64      # after a datagram, in which it may come from elsewhere too; and so far behind the highest number
COPY_SPACING_S = 0.003          # between the copies of the second half
ECT1, CE = 1, 3                 # of the ECN field
PENDING_ANSWERS = 4             # a robot's answers that still have copies to send; the oldest one's are dropped
PENDING_MAPS = 8                # the same of maps
PONG_FAILURE = 0.4              # share of the PINGs that arrive whose PONG may be lost
PROOF_PATIENCE = 5              # session timeouts that a sealed session lives without a proof that its robot is there
_PROOF_INTERVAL_S = 0.1         # between the datagrams that the robot's reports are compared with
_PROOFS = 64                    # of these; with a slower round trip than they span they are only coarser


@dataclass
class _PendingAnswer:
    body: bytes
    hold_s: float            # until `queued_at`
    queued_at: float
    next_at: float
    left: int


@dataclass
class _PendingMap:
    bodies: list[bytes]      # of its parts
    next_at: float
    left: int


class BridgeSession:
    """One robot at the bridge. `robot`, `address`, `session_id` and `parameters` are for the owner to read."""

    def __init__(self, session_id: int, robot: str, instance: int, address: Address, parameters: StreamParameters,
                 reassembler: Reassembler, tracker: SequenceTracker, now: float, sealer: Sealer | None = None,
                 answer_sizes: AnswerSizes | None = None):
        self.session_id = session_id
        self.robot = robot
        self.instance = instance
        self.address = self.former_address = address
        self.parameters = parameters
        self.heard_at = now
        self.proved_at = now         # the robot was there then: it has since reported a datagram that left no sooner
        self._to_prove: deque[tuple[int, float]] = deque()      # sequence number of a datagram, and when it left
        self.reassembler = reassembler
        self.tracker = tracker
        self.remote: ReceiverReport | None = None
        self.unread = 0              # bits of the heads that nobody reads on the robot
        self._marks = datagram.Marks()
        self.hello_sequence = -1     # of the newest HELLO that asked for this session
        self.hello_at = -math.inf    # when it came
        self.sealer = sealer
        self.welcome = b''           # that led to this sealed session
        self.traffic = Traffic()
        self._sizes = answer_sizes or AnswerSizes(datagram.MAX_UDP_PAYLOAD, 0)
        self._finish = datagram.finish if sealer is None else sealer.finish
        self._sequence = self._challenges = 0
        self._pending: deque[_PendingAnswer] = deque(maxlen=PENDING_ANSWERS)
        self._maps: deque[_PendingMap] = deque(maxlen=PENDING_MAPS)

    def build(self, kind: int, body: bytes = b'') -> bytes:
        """A datagram of this session, with the next sequence number, counted as sent."""
        data = datagram.build(kind, self.session_id, self._sequence, body, self._finish)
        self._sequence += 1
        self.traffic.sent(len(data))
        return data

    def path_challenge(self, body: bytes, doubt: bool = False) -> bytes:
        """A PATH_CHALLENGE. It has numbers of its own: whoever hears it elsewhere must not make the robot miss a datagram.

        The number is odd if it asks the session's own address (`doubt`): so many to others never keep the edge from answering that.
        """
        number, kind = 2 * self._challenges + doubt, datagram.PATH_CHALLENGE
        self._challenges += 1
        data = datagram.build(kind, self.session_id, number, body) if self.sealer is None else \
            sign(self.sealer.signing, kind, self.session_id, number, body)
        self.traffic.sent(len(data))
        return data

    @property
    def heads_read(self) -> tuple[str, ...]:
        """The heads that somebody reads on the robot; any thread may ask."""
        unread = self.unread
        return tuple(name for index, (name, _) in enumerate(self.parameters.heads) if not unread >> index & 1)

    @property
    def version(self) -> int:
        """The protocol version of this session's datagrams."""
        return datagram.VERSION if self.sealer is None else datagram.SEALED_VERSION

    def open_run(self, datagrams: np.ndarray) -> tuple[list[int], np.ndarray, list[str]]:
        """Sequence numbers and bodies of the datagrams of a run that are right, and for each other one why it is not."""
        return runs.open_run(datagrams) if self.sealer is None else self.sealer.open_run(datagrams)

    def open(self, received: Datagram, take: bool = True) -> Datagram:
        """A datagram of this session, opened if it is sealed; without `take` its number is not used up. Raises DatagramError."""
        if self.sealer is not None:
            return self.sealer.open(received, take)
        if received.sealed:
            raise DatagramError('unexpected')
        return received

    def read(self, received: Datagram) -> Datagram:
        """The same where it may have been here already, and without using its number up. Raises DatagramError."""
        return self.open(received, take=False) if self.sealer is None else self.sealer.read(received)

    def is_ahead(self, sequence: int) -> bool:
        """Whether this number is above all that have come (RFC 1982)."""
        return 0 < (sequence - self.tracker.highest) % (1 << 32) < 1 << 31

    def is_copy(self, sequence: int, now: float) -> bool:
        """Whether what has this number may have come a moment ago from where the robot was."""
        return now <= self.heard_at + COPY_FRESH_S and 0 <= (self.tracker.highest - sequence) % (1 << 32) < COPIES_FRESH

    def is_at(self, address: Address, sequence: int) -> bool:
        """Whether a datagram from `address` counts: from where the robot is, or one that was overtaken, from where it was before."""
        return address == self.address or address == self.former_address and not self.is_ahead(sequence)

    def move_to(self, address: Address) -> None:
        """The robot has proved to be at `address`."""
        self.address, self.former_address = address, self.address

    def hear(self, sequences: list[int], now: float) -> list[bool]:
        """Note datagrams of this session from where they count; returns for each whether it is new.

        Only the datagram with the highest number says that the robot is there: one that was overtaken, or held back, does not.
        """
        highest = self.tracker.highest
        fresh = self.tracker.receive_run(sequences) if len(sequences) > 1 else [self.tracker.receive(sequences[0])]
        if self.tracker.highest != highest:
            self.heard_at = now
        return fresh

    def count_marks(self, ecn: int, datagrams: int) -> None:
        """Note the ECN field of datagrams that were heard (RFC 3168): 1 is ECT(1), 3 CE."""
        if ecn in (ECT1, CE):
            self._marks = datagram.Marks(self._marks.capable + datagrams, self._marks.congestion + datagrams * (ecn == CE))

    def take_report(self, report: ReceiverReport, now: float) -> None:
        """Note the report of the robot's newest PING.

        Whoever held back what the robot sent can go on playing it for the robot after it has gone. But no report that was made before
        then knows of a datagram that left after then.
        """
        self.remote = report
        self._sizes.on_report(report, self._sequence, now)
        while self._to_prove and 0 < (report.expected - self._to_prove[0][0]) % (1 << 32) < 1 << 31:
            self.proved_at = self._to_prove.popleft()[1]
        if not self._to_prove or len(self._to_prove) < _PROOFS and now >= self._to_prove[-1][1] + _PROOF_INTERVAL_S:
            self._to_prove.append((self._sequence, now))

    def ends_at(self, timeout_s: float) -> float:
        """When the session ends if nothing comes of its robot any more, or, sealed, nothing that it must have said just now."""
        unproved_at = math.inf if self.sealer is None else self.proved_at + PROOF_PATIENCE * timeout_s
        return min(self.heard_at + timeout_s, unproved_at)

    def downlink_loss(self) -> tuple[float, float]:
        """The best guess at the loss on the way to the robot: packet error rate (0..1) and mean burst, NaN when unknown.

        It is what the robot reports, the rate plus one standard error: too few copies cost an answer, one too many costs 150 bytes.
        Until the report rests on enough datagrams, the uplink's loss counts if it is larger.
        """
        uplink = self.tracker.packet_error_rate, self.tracker.mean_burst
        if self.remote is None or math.isnan(self.remote.packet_error_rate):
            return uplink
        rate = self.remote.packet_error_rate
        expected = self._sequence + since(self._sequence, self.remote.expected)      # the counter wraps, but is near what was sent
        rate = min(1.0, rate + math.sqrt(rate * (1.0 - rate) / min(max(expected, 1), RATE_WINDOW)))
        if expected < REPORT_SUFFICES and uplink[0] > rate:
            return uplink
        return rate, self.remote.mean_burst

    def pongs(self, t1: float, arrived_at: float, now: float) -> list[bytes]:
        """The PONG to the PING of `t1`: twice on a bad downlink, since a robot without frames in flight hears nothing else."""
        body = datagram.pong_body(t1, arrived_at, now, self.tracker.report(), self._marks)
        copies = sufficient_copies(self.downlink_loss()[0], PONG_FAILURE, 1, 2)
        return [self.build(datagram.PONG, body) for _ in range(copies)]

    def queue_answer(self, answer: answers.Answer, copies: int, max_datagram_bytes: int,
                     now: float) -> tuple[list[bytes], dict[str, int]]:
        """Encode an answer; return the copies to send now, `copies_due` has the others, and the heads that did not fit with the bytes
        of what they say. Raises ValueError."""
        copies = copies or answer_copies(*self.downlink_loss())
        frame = datagram.HEADER.size + (0 if self.sealer is None else datagram.SEAL_BYTES)
        fitted = answers.fit_classes(answer, min(self._sizes.at(self.address), max_datagram_bytes) - frame)
        body = answers.encode(fitted, copies)
        size = frame + len(body)
        if size > max_datagram_bytes:
            raise ValueError(f'an answer takes {size} bytes; expected at most max_datagram_bytes, {max_datagram_bytes}')
        at_once = (copies + 1) // 2
        if copies > at_once:
            self._pending.append(_PendingAnswer(body, answer.hold_s, now, now + COPY_SPACING_S, copies - at_once))
        left_out = {self.parameters.heads[index][0]: len(said) for index, said in answer.heads.items() if index not in fitted.heads}
        return [self._answer(body) for _ in range(at_once)], left_out

    def _answer(self, body: bytes) -> bytes:
        data = self.build(datagram.ANSWER, body)
        self._sizes.left(len(data), self._sequence - 1)
        return data

    def map_room(self, max_datagram_bytes: int) -> int:
        """Bytes of content that a part of a map may have now."""
        return maps.map_room(min(self._sizes.at(self.address), max_datagram_bytes), sealed=self.sealer is not None)

    def queue_map(self, parts: Sequence[maps.MapPart], copies: int, max_datagram_bytes: int, now: float) -> list[bytes]:
        """Encode the parts of a map, the most important first; return what to send now, `copies_due` has the other copies. Raises
        ValueError."""
        copies = copies or answer_copies(*self.downlink_loss())
        bodies, room = [maps.encode(part, copies) for part in parts], maps.map_room(max_datagram_bytes, sealed=self.sealer is not None)
        if (largest := max(len(part.content) for part in parts)) > room:
            raise ValueError(f'a part of a map has {largest} bytes; expected at most {room} with max_datagram_bytes {max_datagram_bytes}')
        at_once = (copies + 1) // 2
        if copies > at_once:
            self._maps.append(_PendingMap(bodies, now + COPY_SPACING_S, copies - at_once))
        return [self._map(body) for _ in range(at_once) for body in bodies]

    def _map(self, body: bytes) -> bytes:
        data = self.build(datagram.MAP, body)
        self._sizes.left(len(data), self._sequence - 1)
        return data

    def copies_due(self, now: float) -> list[bytes]:
        """The copies of answers and maps whose time has come."""
        due = []
        for pending in self._pending:
            while pending.left and pending.next_at <= now:
                hold = pending.hold_s + max(now - pending.queued_at, 0.0)
                due.append(self._answer(answers.with_hold(pending.body, hold)))
                pending.left -= 1
                pending.next_at += COPY_SPACING_S
        for pending in self._maps:
            while pending.left and pending.next_at <= now:
                due += [self._map(body) for body in pending.bodies]
                pending.left -= 1
                pending.next_at += COPY_SPACING_S
        for waiting in (self._pending, self._maps):
            while waiting and not waiting[0].left:
                waiting.popleft()
        return due

    def get_timer(self) -> float:
        """When a copy or a frame is due; infinite where none is."""
        times = [pending.next_at for waiting in (self._pending, self._maps) for pending in waiting if pending.left]
        frame = self.reassembler.get_timer()
        return min(times + ([] if frame is None else [frame]), default=math.inf)

    def frames(self) -> Counter[str]:
        """Frames by what became of them."""
        return Counter({name: getattr(self.reassembler, name) for name in ('complete', 'partial', 'evicted', 'superseded')})

    def statistics(self) -> LinkStatistics:
        """This robot's link."""
        self.traffic.frames = self.frames()
        return self.traffic.snapshot(self.tracker, self.remote)
