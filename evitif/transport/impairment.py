"""What a bad link does to datagrams, without sockets and clocks: `Impairment` says how bad, `ImpairedChannel` decides on each datagram.

A datagram passes, in this order: a transmitter of limited rate with a tail-drop queue; loss; corruption; duplication; delay with jitter;
reordering. A lost datagram has therefore used the transmitter's time, as on the air. Loss is independent, or comes in bursts by Gilbert's
channel (`evitif.channel`). A trace takes the place of the rate, or adds its own losses and delays (`link_trace`).
"""

from __future__ import annotations

import dataclasses
import math
import random
from typing import NamedTuple

from evitif.channel import shortest_burst, transitions
from evitif.transport.link_trace import LinkTrace, LinkTracePlayer, RateTracePlayer, load_trace

HEADER_BYTES = 28               # IPv4 and UDP headers, which the limited rate carries too
MAX_FLIPPED_BITS = 8
FILE = 'file'                   # the kind of a setting that is no number
TRACE_HELP = ('file with a trace of a link, played again and again: losses and delays, as `trace_folder` writes them, or rates in '
              "Mahimahi's format, in place of the rate")


def _setting(default: float, kind: str, help_text: str) -> float:
    return dataclasses.field(default=default, metadata={'kind': kind, 'help': help_text})


class Kind(NamedTuple):
    """Which values a setting may have: in words, and the range."""

    expected: str
    least: float
    most: float
    unit: str = ''
    also: float | None = None           # allowed beside the range

    def holds(self, value: float) -> bool:
        """Whether a setting may have the value; NaN never."""
        return self.least <= value <= self.most or value == self.also


KINDS = {
    'probability': Kind('a probability from 0 to 1', 0.0, 1.0),
    'datagrams': Kind('a mean number of datagrams, 1 or more, at most 1000', 1.0, 1000.0, 'datagrams'),
    'seconds': Kind('seconds from 0 to 60', 0.0, 60.0, 's'),
    'bits per second': Kind('bits per second, 0 for unlimited, else 1000 or more, at most 1e12', 1000.0, 1e12, 'bit/s', also=0.0),
}


def check_setting(name: str, kind: str, value: object) -> float:
    """`value` as a float; raises ValueError, naming setting, value and range, if it is outside."""
    allowed = KINDS[kind]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not allowed.holds(value):
        raise ValueError(f'{name} = {value!r}: expected {allowed.expected}')
    return float(value)


@dataclasses.dataclass(frozen=True)
class Impairment:
    """How bad one direction of a link is; by default, perfect. Raises ValueError, naming the value and its range."""

    loss: float = _setting(0.0, 'probability', 'share of the datagrams that is lost')
    burst_length: float = _setting(1.0, 'datagrams', 'mean number of datagrams lost in a row (Gilbert-Elliott); 1: independent loss')
    delay_s: float = _setting(0.0, 'seconds', 'delay of every datagram')
    jitter_s: float = _setting(0.0, 'seconds', 'additional random delay, from 0 to this')
    reorder: float = _setting(0.0, 'probability', 'share of the datagrams that is held back so that later ones overtake it')
    reorder_delay_s: float = _setting(0.005, 'seconds', 'for how long such a datagram is held back')
    duplicate: float = _setting(0.0, 'probability', 'share of the datagrams that arrives twice')
    corrupt: float = _setting(0.0, 'probability', 'share of the datagrams in which bits are flipped')
    rate_bit_s: float = _setting(0.0, 'bits per second', 'rate of the link, IP and UDP headers included; 0: unlimited')
    queue_s: float = _setting(0.1, 'seconds', 'longest wait for the limited rate; what would wait longer is dropped')
    trace: str = dataclasses.field(default='', metadata={'kind': FILE, 'help': TRACE_HELP})

    def __post_init__(self):
        for field in dataclasses.fields(self)[:-1]:
            value = check_setting(field.name, field.metadata['kind'], getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        if not isinstance(self.trace, str):
            raise ValueError(f'trace = {self.trace!r}: expected the name of a file, or none')
        if self.trace:
            load_trace(self.trace)
        if self.burst_length > 1.0 and self.loss > 0.0:
            shortest = shortest_burst(self.loss) if self.loss < 1.0 else math.inf
            if self.burst_length < shortest * (1 - 1e-9):      # 0.9 / (1 - 0.9) is a little more than 9
                expected = f'{shortest:.4g} or more' if shortest < math.inf else 'a loss below 1'
                raise ValueError(
                    f'burst_length = {self.burst_length:g} with loss = {self.loss:g}: no Gilbert-Elliott chain has so '
                    f'short bursts at this loss rate, expected {expected}, or burst_length = 1 for independent loss'
                )


@dataclasses.dataclass
class ChannelCounters:
    """What happened to the datagrams of one direction; the bytes are of UDP payload."""

    received: int = 0
    bytes_received: int = 0
    queue_dropped: int = 0      # by the limited rate's queue, or because the simulator held too much already
    lost: int = 0
    corrupted: int = 0
    duplicated: int = 0
    reordered: int = 0
    delivered: int = 0          # copies included
    bytes_delivered: int = 0


class ImpairedChannel:
    """One direction of an impaired link.

    What becomes of the n-th datagram depends on the seed, the impairment and n alone, except where a limited rate makes its queue depend
    on time: each datagram draws the same number of random numbers.

    :param seed: anything; its text counts
    :param counters: where to count; several channels may share one
    :param header_bytes: what the limited rate carries beside each datagram; 0 where what is offered has its headers
    """

    def __init__(self, impairment: Impairment | None = None, seed: object = 0, counters: ChannelCounters | None = None,
                 header_bytes: int = HEADER_BYTES):
        self.impairment = impairment or Impairment()
        self.counters = counters if counters is not None else ChannelCounters()
        self._draw = random.Random(f'fate {seed}').random
        self._bits = random.Random(f'bits {seed}')
        self._header_bytes = header_bytes
        self._bad: bool | None = None       # the channel's state, None: to be drawn
        self._transmitter_free_at = -math.inf
        self._latest_delivery = -math.inf
        self._began: float | None = None    # when the trace was at its beginning; None: with the next datagram
        self._player: LinkTracePlayer | RateTracePlayer | None = None

    def set_impairment(self, impairment: Impairment, began: float | None = None) -> None:
        """Change the link for the datagrams offered from now on; those under way keep their time of delivery.

        :param began: when its trace is at the beginning, on the clock of `offer`; None: with the next datagram, or as it was
        """
        if impairment.trace != self.impairment.trace or began is not None:
            self._player, self._began = None, began
        bursty = impairment.burst_length > 1.0 and self.impairment.burst_length > 1.0
        if not bursty or impairment.loss != self.impairment.loss:
            self._bad = None
        self.impairment = impairment

    def offer(self, datagram: bytes, now: float) -> list[tuple[float, bytes]]:
        """Put a datagram on the link at `now` (seconds). Returns what the link delivers when: nothing if it is lost, two copies if it is
        duplicated.

        A time of delivery may be `now` itself, and is below an earlier datagram's only where that one was held back to be reordered.
        """
        link, counters, draw = self.impairment, self.counters, self._draw
        loss_draw, corrupt_draw, duplicate_draw, jitter_draw, reorder_draw = draw(), draw(), draw(), draw(), draw()
        lost = self._is_lost(link, loss_draw)
        size = len(datagram)
        counters.received += 1
        counters.bytes_received += size

        sent_at, trace_delay, overtaken = now, 0.0, False
        player = self._player or (self._begin_trace(link.trace, now) if link.trace else None)
        if isinstance(player, RateTracePlayer):
            if player.free_at(now) - now > link.queue_s:
                counters.queue_dropped += 1
                return []
            sent_at = player.send(size + self._header_bytes)
        elif link.rate_bit_s:
            start = max(now, self._transmitter_free_at)
            if start - now > link.queue_s:
                counters.queue_dropped += 1
                return []
            sent_at = self._transmitter_free_at = start + 8 * (size + self._header_bytes) / link.rate_bit_s
        if isinstance(player, LinkTracePlayer):
            trace_delay, overtaken = player.fate(now)
        if lost or math.isnan(trace_delay):
            counters.lost += 1
            return []

        if corrupt_draw < link.corrupt and size:
            datagram = self._flip_bits(datagram)
            counters.corrupted += 1
        deliver_at = sent_at + link.delay_s + link.jitter_s * jitter_draw + trace_delay
        if overtaken:
            counters.reordered += 1
        elif reorder_draw < link.reorder:
            deliver_at = max(deliver_at, self._latest_delivery) + link.reorder_delay_s
            counters.reordered += 1
        else:
            deliver_at = self._latest_delivery = max(deliver_at, self._latest_delivery)
        copies = 1
        if duplicate_draw < link.duplicate:
            copies = 2
            counters.duplicated += 1
        counters.delivered += copies
        counters.bytes_delivered += copies * size
        return [(deliver_at, datagram)] * copies

    def _begin_trace(self, path: str, now: float) -> LinkTracePlayer | RateTracePlayer:
        trace, began = load_trace(path), now if self._began is None else self._began
        self._player = LinkTracePlayer(trace, began) if isinstance(trace, LinkTrace) else RateTracePlayer(trace, began)
        return self._player

    def _is_lost(self, link: Impairment, draw: float) -> bool:
        if link.burst_length <= 1.0 or link.loss <= 0.0:
            return draw < link.loss
        to_bad, to_good = transitions(link.loss, link.burst_length)
        bad = draw < link.loss if self._bad is None else draw >= to_good if self._bad else draw < to_bad
        self._bad = bad
        return bad

    def _flip_bits(self, datagram: bytes) -> bytes:
        flipped = bytearray(datagram)
        bits = 8 * len(flipped)
        for bit in self._bits.sample(range(bits), min(bits, self._bits.randint(1, MAX_FLIPPED_BITS))):
            flipped[bit >> 3] ^= 1 << (bit & 7)
        return bytes(flipped)
