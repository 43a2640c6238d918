"""What the edge keeps of one session with the bridge."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from evitif.protocol.edge.hello import HELLO_COPIES
from evitif.protocol.edge.pings import FAILURE, Pings
from evitif.protocol.rate.clock import ClockFilter
from evitif.protocol.rate.copies import REPORT_SUFFICES, sufficient_copies
from evitif.protocol.rate.statistics import SequenceTracker
from evitif.protocol.rate.token_bucket import TokenBucket
from evitif.protocol.sealing.seal import ReplayWindow, Sealer, is_signed, signed_body
from evitif.protocol.wire import datagram, runs
from evitif.protocol.wire.datagram import PATH_BYTES, Datagram, DatagramError, ReceiverReport

# PATH_CHALLENGEs that are answered, a second and in a burst. The bridge sends an address 10 a second; more come if somebody copies what
# the robot says from many addresses, and hands on what these are told. The robot cannot know which of them is its own.
CHALLENGES_ANSWERED = 200.0, 50.0
DOUBTS_ANSWERED = 20.0, 20.0      # of those with odd numbers, which go to where the bridge believes the robot to be
WAYS_S, MOST_WAYS = 5.0, 256      # that the least time on the way down is remembered
HELD_S, FLAT_S = 0.5, 2.0    # longer than that, it may have been held back; unless it stays so
MOST_RESPONSES = 4           # to one of them; on a good uplink one


class EdgeSession:
    """One session: its sequence numbers, its seal, and its figures of the link."""

    def __init__(self, session_id: int, bridge: str = '', sealer: Sealer | None = None):
        self.session_id, self.bridge, self.sealer = session_id, bridge, sealer
        self.tracker = SequenceTracker(sealed=sealer is not None)      # of what the bridge sends
        self.remote: ReceiverReport | None = None      # the bridge's last report
        self.clock = ClockFilter()
        self.pings = Pings()
        self._ways: deque[tuple[float, float]] = deque(maxlen=MOST_WAYS)      # down, with the clocks' offset, and when
        self._held = -math.inf, math.inf      # time on the way, and since when: of what may be held back
        self._sequence = 0
        self._challenges = ReplayWindow()              # which PATH_CHALLENGEs were answered
        self._challenges_answered = TokenBucket(*CHALLENGES_ANSWERED), TokenBucket(*DOUBTS_ANSWERED)      # by even and odd numbers

    def build(self, kind: int, body: bytes = b'') -> bytes:
        """A datagram with the next sequence number."""
        finish = datagram.finish if self.sealer is None else self.sealer.finish
        self._sequence += 1
        return datagram.build(kind, self.session_id, self._sequence - 1, body, finish)

    def finish(self, datagrams: np.ndarray) -> np.ndarray:
        """A run, uint8 [n, size], with the next sequence numbers and checksums, or sealed."""
        finish = runs.finish if self.sealer is None else self.sealer.finish_run
        self._sequence += len(datagrams)
        return finish(datagrams, self.session_id, self._sequence - len(datagrams))

    def open(self, received: Datagram) -> Datagram:
        """A datagram of this session that was not here before. Raises DatagramError."""
        if self.sealer is not None:
            received = self.sealer.open(received)
        if not self.tracker.receive(received.sequence):
            raise DatagramError('duplicate')
        return received

    @property
    def least_copies(self) -> int:
        """The fewest copies of a PING or PATH_RESPONSE: three datagrams that have all arrived do not say that the radio loses none."""
        return 1 if self.remote is not None and self.remote.expected >= REPORT_SUFFICES else HELLO_COPIES

    def exchange(self, sent_at: float, arrived_at: float, answered_at: float, now: float) -> tuple[float, float]:
        """Compare the clocks by a frame and its answer, of which the middle times are the bridge's; the seconds on the way up and down."""
        self.clock.add(sent_at, arrived_at, answered_at, now)
        return self.clock.uplink_s(sent_at, arrived_at), self.clock.downlink_s(answered_at, now)

    def there_at(self, asked_at: float, said_at: float, now: float) -> float:
        """When the bridge was surely there, if it said something at `said_at` of its clock that it was asked at `asked_at`.

        Somebody may hold back what it says and bring it later, one by one, so that each is the newest. Then each takes longer on its way.
        What takes longer by a time than the fastest of the last seconds was said that time ago; in any case after it was asked. If the
        time stays for `FLAT_S`, the path is a longer one.
        """
        way, (held, since) = now - said_at, self._held
        if self._ways and way - self._ways[0][0] > HELD_S:
            if way > held + (now - since) / 4:
                self._held = way, now
            if way > held + (now - since) / 4 or now - since < FLAT_S:
                return max(now - (way - self._ways[0][0]), asked_at)
            self._ways.clear()
        self._held = -math.inf, now
        while self._ways and self._ways[0][1] < now - WAYS_S:
            self._ways.popleft()
        while self._ways and self._ways[-1][0] >= way:
            self._ways.pop()
        self._ways.append((way, now))
        return max(now - (way - self._ways[0][0]), asked_at)

    def responses(self, received: Datagram, now: float) -> list[bytes]:
        """The PATH_RESPONSEs to a PATH_CHALLENGE: they say the same, and show the bridge from where. Raises DatagramError."""
        if self.sealer is not None and not (received.sealed and is_signed(self.sealer.signing, received)):
            raise DatagramError('corrupt' if received.sealed else 'unexpected')
        body = received.body if self.sealer is None else signed_body(received)
        if len(body) != PATH_BYTES:
            raise DatagramError('malformed')
        if not self._challenges.is_new(received.sequence):
            raise DatagramError('duplicate')
        if not self._challenges_answered[received.sequence & 1].take(now):
            raise DatagramError('rationed')
        self._challenges.take(received.sequence)
        uplink = self.tracker.packet_error_rate if self.remote is None else self.remote.packet_error_rate
        copies = sufficient_copies(uplink, FAILURE, self.least_copies, MOST_RESPONSES)
        return [self.build(datagram.PATH_RESPONSE, bytes(body)) for _ in range(copies)]
