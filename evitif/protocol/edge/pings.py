"""The PINGs of an edge's session: when they go out, in how many copies, and what had been sent before each."""

import math

from evitif.bounded import BoundedDict
from evitif.protocol.rate.copies import sufficient_copies

REMEMBERED = 1024            # 20 s at the highest rate: a later PONG tells nothing
FRAME_INTERVAL_S = 0.05      # at least, between those ahead of frames, and between those behind them
FAILURE = 0.2                # share of the PING intervals that may pass without a PONG
MAX_COPIES = 8
Sent = tuple[int, int, int, int, int]      # `sent_bytes` to `small_bytes` of `Report`


class Pings:
    """The PINGs whose PONG may still come."""

    def __init__(self):
        self.due_at = math.inf
        self._sent: BoundedDict[float, Sent] = BoundedDict(REMEMBERED)
        self._ahead_at = self._behind_at = -math.inf

    def __len__(self) -> int:
        return len(self._sent)

    def note(self, now: float, sent: Sent) -> None:
        """One goes out; its report (`Report`) will have these figures."""
        self._sent[now] = sent

    def take(self, sent_at: float) -> Sent | None:
        """What was noted with the PING of that time; None for further copies of its PONG."""
        return self._sent.pop(sent_at, None)

    def go_ahead(self, now: float) -> bool:
        """Whether a PING goes ahead of the frame that begins now; if so it counts as sent."""
        if now < self._ahead_at + FRAME_INTERVAL_S:
            return False
        self._ahead_at = now
        return True

    def follow(self, now: float) -> bool:
        """Whether a PING follows what has left of a frame; if so it counts as sent. Two at one time could not be told apart."""
        if now < self._behind_at + FRAME_INTERVAL_S or now == self._ahead_at:
            return False
        self._behind_at = now
        return True


def copies_of_ping(downlink: float, uplink: float, fewest: int) -> int:
    """The copies with which PING and PONG arrive in all but a share FAILURE of the cases; unknown packet error rates are NaN."""
    arrives = math.prod(1.0 - (0.0 if math.isnan(rate) else rate) for rate in (downlink, uplink))
    return sufficient_copies(1.0 - arrives, FAILURE, fewest, MAX_COPIES)
