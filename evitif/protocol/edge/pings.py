"""The PINGs of an edge's session: when they go out beside its frames, in how many copies, and what had been sent before each."""

import math
from collections import OrderedDict

from evitif.protocol.rate.copies import sufficient_copies

REMEMBERED = 1024            # 20 s of the most that go out: a PONG that took longer tells nothing
FRAME_INTERVAL_S = 0.05      # between those that go ahead of frames, and between those that follow them, at least
FAILURE = 0.2                # share of the PING intervals that may pass without a PONG
MAX_COPIES = 8


class Pings:
    """Those that a PONG may still come for."""

    def __init__(self):
        self.due_at = math.inf
        self._sent: OrderedDict[float, tuple[int, int]] = OrderedDict()
        self._ahead_at = self._behind_at = -math.inf

    def __len__(self) -> int:
        return len(self._sent)

    def clear(self) -> None:
        """Another session begins."""
        self._sent.clear()

    def note(self, now: float, sent_bytes: int, ahead_bytes: int) -> None:
        """One goes out; what is told with its PONG (`congestion.Report`)."""
        self._sent[now] = sent_bytes, ahead_bytes
        if len(self._sent) > REMEMBERED:
            self._sent.popitem(last=False)

    def take(self, sent_at: float) -> tuple[int, int] | None:
        """What was noted with the PING of that time, once: of further copies of its PONG, None."""
        return self._sent.pop(sent_at, None)

    def go_ahead(self, now: float) -> bool:
        """Whether one goes ahead of a frame that begins now; if so it has gone."""
        if now < self._ahead_at + FRAME_INTERVAL_S:
            return False
        self._ahead_at = now
        return True

    def follow(self, now: float) -> bool:
        """Whether one follows what has left of a frame; if so it has gone. Two at one time could not be told apart."""
        if now < self._behind_at + FRAME_INTERVAL_S or now == self._ahead_at:
            return False
        self._behind_at = now
        return True


def copies_of_ping(downlink: float, uplink: float, fewest: int) -> int:
    """So many that a PING and its PONG arrive but for a share FAILURE; the packet error rates are NaN where unknown."""
    arrives = math.prod(1.0 - (0.0 if math.isnan(rate) else rate) for rate in (downlink, uplink))
    return sufficient_copies(1.0 - arrives, FAILURE, fewest, MAX_COPIES)
