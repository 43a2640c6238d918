"""Pacing: datagrams leave at a rate, a few at once.

A burst is bounded (RFC 8085, section 3.1.1: a sender ought to be paced): 5 ms at the rate, and at least two full datagrams, so that
a frame leaves in a few runs (UDP_SEGMENT) rather than datagram by datagram. A limit set by hand holds over every second: the bucket
fills at 92 % of it and holds at most 4 % of a second's worth. The rest is for what is not paced (handshake, PING).
"""

import math

from evitif.protocol.rate.token_bucket import TokenBucket
from evitif.settings import EdgeSettings, bounds_of

IP_UDP_BYTES = 28           # IPv4 and UDP headers of a datagram, which a link carries too
BURST_S = 0.005
MIN_BURST_BYTES = 2 * (1200 + IP_UDP_BYTES)
LEAST_BURST_BYTES = 1200 + IP_UDP_BYTES      # where the path marks, since a short queue takes two for the beginning of one (RFC 9331)
INITIAL_BURST_BYTES = 10 * (1200 + IP_UDP_BYTES)        # while nothing is known of the path (RFC 6928; RFC 9002, section 7.7)
MIN_LIMIT_BIT_S = 1e6 * bounds_of(EdgeSettings, 'rate_limit')[0]
_LIMIT_SHARE, _LIMIT_BURST_S = 0.92, 0.04


class Pacer:
    """Says when bytes may be sent, at `rate` bit/s (infinite at first).

    :param limit_bit_s: never more than this, IP and UDP headers included, over any second; 0: no limit
    :raises ValueError: the limit is negative, not finite, or too small to keep
    """

    def __init__(self, limit_bit_s: float = 0.0):
        if not (limit_bit_s == 0 or MIN_LIMIT_BIT_S <= limit_bit_s < math.inf):
            raise ValueError(f'rate limit is {limit_bit_s:g} bit/s; expected 0 (none) or at least {MIN_LIMIT_BIT_S:g} bit/s')
        self.limit_bit_s = limit_bit_s
        self._bucket = TokenBucket(math.inf, math.inf)      # of bytes

    @property
    def ceiling_bit_s(self) -> float:
        """The highest rate that `set_rate` keeps to."""
        return _LIMIT_SHARE * self.limit_bit_s or math.inf

    def set_rate(self, bit_s: float, now: float, burst_bytes: int = MIN_BURST_BYTES) -> None:
        """Pace at `bit_s`, at most at the ceiling, from now on, with bursts of at least `burst_bytes`."""
        rate = min(bit_s, self.ceiling_bit_s) / 8
        depth = max(burst_bytes, rate * BURST_S)
        if self.limit_bit_s:
            depth = min(depth, max(IP_UDP_BYTES + 1200, _LIMIT_BURST_S * self.limit_bit_s / 8))
        self._bucket.reshape(rate, depth, now)

    def begin(self, bit_s: float, now: float) -> None:
        """A session begins: its first burst may be larger, within the limit."""
        self.set_rate(bit_s, now, INITIAL_BURST_BYTES)
        if not self.limit_bit_s:
            self._bucket.level = self._bucket.depth

    def spend(self, payload: int, now: float) -> None:
        """Note a datagram of `payload` bytes that is sent now, whether or not there was room for it."""
        self._bucket.fill(now)
        self._bucket.level -= payload + IP_UDP_BYTES

    def allows(self, payload: int, now: float) -> bool:
        """Whether a datagram of `payload` bytes may be sent now."""
        return self._bucket.fill(now) >= min(payload + IP_UDP_BYTES, self._bucket.depth) - 1e-6

    def take(self, count: int, payload: int, seal: int, now: float) -> int:
        """How many datagrams of `payload` bytes and a seal, at most `count`, may be sent now; they are spent."""
        if not self.allows(payload, now):
            return 0
        cost = payload + seal + IP_UDP_BYTES
        self._bucket.level -= cost
        # The bucket is no longer full, so it allows no more than it holds.
        more = (self._bucket.level + 1e-6 - payload - IP_UDP_BYTES) / cost + 1
        more = int(min(max(more, 0), count - 1))
        self._bucket.level -= more * cost
        return 1 + more

    def ready_at(self, waiting: int) -> float:
        """When `waiting` bytes, or a full burst of them, may be sent; a time in the past if they may be sent now."""
        bucket = self._bucket
        missing = min(waiting, bucket.depth) - bucket.level
        return bucket.filled_at + missing / bucket.rate + 1e-6 if missing > 0 else bucket.filled_at

    def ahead_bytes(self, now: float) -> int:
        """How many of the bytes sent would still wait at an even rate: they left in a burst."""
        level, depth = self._bucket.fill(now), self._bucket.depth
        return int(max(depth - level, 0.0)) if math.isfinite(depth) else 0
