"""A leaky bucket that spreads what is sent, and keeps to a rate.

What it lets through at once is bounded (RFC 8085, section 3.1.1: a sender ought to be paced): a burst of 5 ms at the rate, and
at least two full datagrams, so that a frame leaves in some few runs (UDP_SEGMENT) and not datagram by datagram. A limit that
was set by hand holds over every second: the bucket then fills at 92 % of it and is never deeper than 4 % of a second's worth,
and the rest is for what is not delayed (handshake, PING).
"""

import math

IP_UDP_BYTES = 28           # IPv4 and UDP headers of a datagram: what a link's rate is spent on as well
BURST_S = 0.005
MIN_BURST_BYTES = 2 * (1200 + IP_UDP_BYTES)
INITIAL_BURST_BYTES = 10 * (1200 + IP_UDP_BYTES)        # while nothing is known of the path (RFC 6928; RFC 9002, section 7.7)
MIN_LIMIT_BIT_S = 300_000.0     # below it the handshake alone would go beyond
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
        self._rate, self._depth, self._level = math.inf, math.inf, math.inf      # bytes/s, bytes, bytes
        self._at = -math.inf

    @property
    def ceiling_bit_s(self) -> float:
        """The most that `set_rate` has an effect for."""
        return _LIMIT_SHARE * self.limit_bit_s or math.inf

    def set_rate(self, bit_s: float, now: float, burst_bytes: int = MIN_BURST_BYTES) -> None:
        """Pace at `bit_s` from now on, or at the ceiling where that is less, with bursts of at least so many bytes."""
        self._fill(now)
        self._rate = min(bit_s, self.ceiling_bit_s) / 8
        self._depth = max(burst_bytes, self._rate * BURST_S)
        if self.limit_bit_s:
            self._depth = min(self._depth, max(IP_UDP_BYTES + 1200, _LIMIT_BURST_S * self.limit_bit_s / 8))
        self._level = min(self._level, self._depth)

    def begin(self, bit_s: float, now: float) -> None:
        """The first burst of a session may be larger, within the limit."""
        self.set_rate(bit_s, now, INITIAL_BURST_BYTES)
        if not self.limit_bit_s:
            self._level = self._depth

    def spend(self, payload: int, now: float) -> None:
        """Note a datagram of `payload` bytes that is sent now, whether or not there was room for it."""
        self._fill(now)
        self._level -= payload + IP_UDP_BYTES

    def allows(self, payload: int, now: float) -> bool:
        """Whether a datagram of `payload` bytes may be sent now."""
        self._fill(now)
        return self._level >= min(payload + IP_UDP_BYTES, self._depth) - 1e-6

    def ready_at(self, waiting: int) -> float:
        """When as much of `waiting` bytes may be sent as may be at once; a time that has passed where that is now."""
        missing = min(waiting, self._depth) - self._level
        return self._at + missing / self._rate + 1e-6 if missing > 0 else self._at

    def ahead_bytes(self, now: float) -> int:
        """How much of what was sent would not have left yet at an even rate: it left in a burst."""
        self._fill(now)
        return int(max(self._depth - self._level, 0.0)) if math.isfinite(self._depth) else 0

    def _fill(self, now: float) -> None:
        if now > self._at:
            if math.isfinite(self._at):
                self._level = min(self._depth, self._level + (now - self._at) * self._rate)
            self._at = now
