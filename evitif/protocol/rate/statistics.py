"""What a side knows about its link: sequence numbers that arrived, counters by kind, and a snapshot of both for callers.

Each side numbers the datagrams that it sends in a session. From the numbers that arrive the other side derives loss, burst length,
duplicates and reordering (RFC 3550, section 6.4.1 and appendix A.1).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import MappingProxyType

from evitif.protocol.wire.datagram import WINDOW, ReceiverReport

RATE_WINDOW = 512        # datagrams that the packet error rate and the burst length are measured over
MAX_DROPOUT = 3000       # a larger jump is a restart of the sender or a stray (RFC 3550, appendix A.1)
_MODULUS = 1 << 32

# Why a datagram was not used. Each one that arrives is used, or counted under exactly one of these.
DROP_KINDS = (
    'truncated',         # shorter than it says
    'foreign',           # not of this protocol
    'version',           # of another version of this protocol
    'corrupt',           # wrong checksum, or a seal that does not fit: another key, or changed on the way
    'malformed',         # right checksum, impossible content
    'unknown_session',   # for a session that this side does not have
    'unexpected',        # right, but not now, not in this direction, or not sealed where the link is, or the other way round
    'rationed',          # a HELLO beyond what the bridge reads in a second
    'unproven',          # of a session, from an address at which its robot has not proved to be
    'duplicate',         # a sequence number or a packet that was here already, or is too old for a seal's replay window
    'inconsistent',      # contradicts the stream's parameters or its own frame
    'late',              # of a frame that was delivered, answered or given up
    'answer_copy',       # a further copy of an answer that was used
)


class SequenceTracker:
    """Which of the sender's last WINDOW datagrams arrived: a bit mask that ends at the highest number seen.

    A sender starts at 0. Numbers wrap at 2**32 and are compared by serial number arithmetic (RFC 1982). A number far from all
    others is ignored until its successor comes too; then the sender has started anew.

    :param sealed: nobody but the sender can have chosen the numbers, and it never starts anew: a number far ahead is the next one
    """

    def __init__(self, sealed: bool = False):
        self._farthest = (_MODULUS >> 1) - 1 if sealed else MAX_DROPOUT      # how far ahead the next number may be
        self._restarts = not sealed
        self.highest = -1             # sequence number, -1 before the first
        self._mask = 0                 # bit k: whether number highest - k arrived
        self._span = 0                 # bits of the mask that are known, at most WINDOW
        self._restart_at: int | None = None
        self.expected = 0              # cumulative
        self.received = 0              # cumulative, without duplicates
        self.duplicates = 0
        self.reordered = 0

    def receive(self, sequence: int) -> bool:
        """Note the arrival of `sequence`; False where that datagram was here already."""
        ahead = (sequence - self.highest) % _MODULUS
        if ahead >= _MODULUS >> 1:
            ahead -= _MODULUS
        if 0 < ahead <= self._farthest:
            self._restart_at = None
            self._advance(sequence, ahead)
        elif -WINDOW < ahead <= 0:
            bit = 1 << -ahead
            if self._mask & bit:
                self.duplicates += 1
                return False
            if -ahead < self._span:
                self._mask |= bit
                self.received += 1
                self.reordered += 1
        elif not self._restarts:      # too old to tell
            self.duplicates += 1
            return False
        elif sequence == self._restart_at:
            self._restart_at = None
            self._mask = self._span = 0
            self._advance(sequence, 1)
        else:
            self._restart_at = (sequence + 1) % _MODULUS
        return True

    def receive_run(self, sequences: list[int]) -> list[bool]:
        """`receive` each; a run in rising order a little ahead of all before costs one shift."""
        first, last = sequences[0], sequences[-1]
        ahead, span = (first - self.highest) % _MODULUS, last - first
        if not (0 < ahead <= MAX_DROPOUT and 0 <= span < WINDOW - ahead):
            return [*map(self.receive, sequences)]
        arrived = (1 << span + 1) - 1
        if sequences != [*range(first, last + 1)]:
            if any(after <= before for before, after in pairwise(sequences)):
                return [*map(self.receive, sequences)]
            arrived = sum(1 << last - sequence for sequence in sequences)
        self._restart_at = None
        self.highest = last
        self._mask = (self._mask << ahead + span | arrived) & (1 << WINDOW) - 1
        self._span = min(self._span + ahead + span, WINDOW)
        self.expected += ahead + span
        self.received += len(sequences)
        return [True] * len(sequences)

    def _advance(self, sequence: int, ahead: int) -> None:
        self.highest = sequence
        self._mask = ((self._mask << ahead) | 1) & ((1 << WINDOW) - 1) if ahead < WINDOW else 1
        self._span = min(self._span + ahead, WINDOW)
        self.expected += ahead
        self.received += 1

    @property
    def packet_error_rate(self) -> float:
        """Share of the last RATE_WINDOW datagrams that did not arrive, 0..1; NaN before the first."""
        return self._lost.bit_count() / min(self._span, RATE_WINDOW) if self._span else math.nan

    @property
    def mean_burst(self) -> float:
        """Mean length of the runs of losses among the same; 0 without a loss, NaN before the first."""
        if not self._span:
            return math.nan
        lost = self._lost
        return lost.bit_count() / (lost & ~(lost << 1)).bit_count() if lost else 0.0

    @property
    def _lost(self) -> int:
        """Bit k: number highest - k, of the last RATE_WINDOW, did not arrive."""
        return ~self._mask & ((1 << min(self._span, RATE_WINDOW)) - 1)

    def report(self) -> ReceiverReport:
        """The report for the other side."""
        return ReceiverReport(self.expected, self.received, self.packet_error_rate, self.mean_burst)


@dataclass(frozen=True)
class LinkStatistics:
    """One side's view of one link at one moment. Bytes are UDP payload; NaN is unknown."""

    datagrams_sent: int = 0
    bytes_sent: int = 0
    datagrams_received: int = 0
    bytes_received: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)     # datagrams by kind, see DROP_KINDS
    frames: Mapping[str, int] = field(default_factory=dict)      # edge: sent, answered, expired, cut;
    #                                                              bridge: complete, partial, evicted, superseded;
    #                                                              its runtime's: of these, replaced and failed
    # The bridge's runtime's: of the answered frames' tokens, received, remembered (from earlier frames), estimated (or left out).
    tokens: Mapping[str, int] = field(default_factory=dict)
    packet_error_rate: float = math.nan         # of the incoming datagrams, over the recent ones, 0..1
    mean_burst: float = math.nan                # of the incoming datagrams: losses in a row
    reordered: int = 0
    remote_packet_error_rate: float = math.nan  # of what goes out from here, as the other side reported it
    remote_mean_burst: float = math.nan
    round_trip_s: float = math.nan              # smoothed (RFC 6298); the edge's only
    round_trip_variation_s: float = math.nan
    clock_offset_s: float = math.nan            # the bridge's clock minus the edge's; the edge's only

    @property
    def datagrams_used(self) -> int:
        """The datagrams that were received and not dropped."""
        return self.datagrams_received - sum(self.dropped.values())


def sum_of(first: LinkStatistics, *others: LinkStatistics) -> LinkStatistics:
    """The counts of all, with the figures of the first."""
    everyone = (first, *others)
    counts = {name: sum(getattr(one, name) for one in everyone)
              for name in ('datagrams_sent', 'bytes_sent', 'datagrams_received', 'bytes_received')}
    maps = {name: MappingProxyType(dict(sum((Counter(getattr(one, name)) for one in everyone), Counter())))
            for name in ('dropped', 'frames')}
    return replace(first, **counts, **maps)


class Traffic:
    """The counters behind a `LinkStatistics`."""

    def __init__(self):
        self.datagrams_sent = self.bytes_sent = self.datagrams_received = self.bytes_received = 0
        self.dropped: Counter[str] = Counter()
        self.frames: Counter[str] = Counter()

    def sent(self, size: int, datagrams: int = 1) -> None:
        """Count datagrams of `size` bytes in all."""
        self.datagrams_sent += datagrams
        self.bytes_sent += size

    def received(self, size: int, datagrams: int = 1) -> None:
        """Count datagrams of `size` bytes in all."""
        self.datagrams_received += datagrams
        self.bytes_received += size

    def snapshot(self, tracker: SequenceTracker | None = None, remote: ReceiverReport | None = None, **clock: float) -> LinkStatistics:
        """The counts now, with the figures of what arrived here and what the other side reported, and those of `ClockFilter`."""
        statistics = LinkStatistics(self.datagrams_sent, self.bytes_sent, self.datagrams_received, self.bytes_received,
                                    MappingProxyType(dict(self.dropped)), MappingProxyType(dict(self.frames)))
        if tracker is not None:
            statistics = replace(statistics, packet_error_rate=tracker.packet_error_rate, mean_burst=tracker.mean_burst,
                                 reordered=tracker.reordered)
        if remote is not None:
            statistics = replace(statistics, remote_packet_error_rate=remote.packet_error_rate, remote_mean_burst=remote.mean_burst)
        return replace(statistics, **clock)
