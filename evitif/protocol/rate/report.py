"""What the other side reports of a path."""

from dataclasses import dataclass

_MODULUS = 1 << 32


@dataclass(frozen=True)
class Report:
    """What one PONG says. `sent_at` is on the edge's clock, `arrived_at` on the bridge's, seconds."""

    sent_at: float
    arrived_at: float
    round_trip_s: float
    expected: int              # datagrams, cumulative, modulo 2**32
    received: int              # of these
    sent_bytes: int            # on the wire when the PING went out, cumulative, IP and UDP headers included
    ahead_bytes: int           # of these, what a burst had sent ahead of the allowed rate
    large: int = 0             # datagrams that had left by then in a size that the path may swallow, cumulative (`path_size`)
    small: int = 0             # datagrams that had left by then and were no frame's, cumulative; and
    small_bytes: int = 0       # of `sent_bytes`, theirs
    capable: int = 0           # datagrams that came marked ECT(1) or CE, cumulative, modulo 2**32
    marked: int = 0            # of these, CE: congestion experienced (RFC 3168)

    @property
    def delay_s(self) -> float:
        """One way, with the offset between the clocks."""
        return self.arrived_at - self.sent_at


def lost_between(first: Report, last: Report) -> tuple[int, float]:
    """Of what was sent between two reports: datagrams, and the share of them that was lost."""
    expected, received = since(first.expected, last.expected), since(first.received, last.received)
    return max(expected, 0), min(max(1 - received / expected, 0.0), 1.0) if expected > 0 else 0.0


def passed_between(first: Report, last: Report, radio_loss: float) -> float:
    """The bytes that have left the bottleneck, of those sent between two reports; what the radio lost behind it counts too.

    A full queue loses what comes in a burst, and lets PINGs pass that come before it: so these are taken to have passed, as far as at
    least half of the share of all is left for the frames (the radio may have lost more than is known).

    :param radio_loss: share that is lost behind the bottleneck
    """
    expected, received = since(first.expected, last.expected), since(first.received, last.received)
    small = min(last.small - first.small, max(expected, 0))
    frames, small_bytes = max(expected - small, 0), last.small_bytes - first.small_bytes
    passed = max(received, 0) / max(1 - radio_loss, 0.05)
    passed_small = min(passed, small)
    passed_frames = min(max(passed - passed_small, frames * passed / max(2 * expected, 1)), frames)
    return (small_bytes * passed_small / max(small, 1)
            + (last.sent_bytes - first.sent_bytes - small_bytes) * passed_frames / max(frames, 1))


def marked_between(first: Report, last: Report) -> tuple[int, int]:
    """Of what came between two reports: datagrams marked ECT(1) or CE, and CE."""
    return max(since(first.capable, last.capable), 0), max(since(first.marked, last.marked), 0)


def since(before: int, after: int) -> int:
    """The difference of two counters modulo 2**32; negative if the reports have overtaken each other."""
    return (after - before + (_MODULUS >> 1)) % _MODULUS - (_MODULUS >> 1)
