"""How large a datagram may be that the path lets through.

A path may swallow large datagrams and say nothing (RFC 8899): PINGs pass, the link is connected, and no frame is answered. What arrives
of each size tells. Suppose that for a second PONGs came, every frame of a size expired, and at least as many datagrams were lost as
there were of that size. Then frames travel in datagrams of 548 bytes, and if those are swallowed too, in the smallest that hold a row.
Later a single frame tries the next larger size now and then; if it is answered, the size stays.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from evitif.protocol.events import DatagramSize, SentFrame
from evitif.protocol.rate.report import Report, lost_between
from evitif.protocol.wire.datagram import SMALL_PATH

SIZES = SMALL_PATH, 900, 1200      # bytes; every usual path takes 1,200 (RFC 9000, section 14)
NOTICE_S, NOTICE_FRAMES, NOTICE_DATAGRAMS, NOTICE_REPORTS = 1.0, 3, 16, 3
TRY_S, MAX_TRY_S = 5.0, 60.0     # until a larger size is tried; doubles with each failure
_SAME = 0.95                 # a frame's datagrams differ in size by as much


@dataclass
class _Suspicion:
    """A time in which no frame of a size is answered."""

    size: float
    since: float
    frames: int = 1            # that expired
    reports: int = 0
    first: Report | None = None
    last: Report | None = None


class PathSize:
    """The datagram size of one edge, seal included.

    :param largest: the configured size
    :param least: in which a row still fits
    :param say: takes an event
    """

    def __init__(self, largest: int, least: int, say: Callable[[DatagramSize], None]):
        self._sizes = sorted({size for size in (least, *SIZES) if least <= size <= largest} | {largest})
        self.size = largest
        self.large = 0                       # datagrams sent that were of a suspected size
        self._say = say
        self._suspicion: _Suspicion | None = None
        self._answered = 0.0, -math.inf      # size of the frame that was answered last, and when it was sent
        self._trial: int | None = None       # frame that tries a larger size
        self._try_at, self._wait = math.inf, TRY_S
        self._hopeless = math.inf            # size that is swallowed although no smaller one is left, once that was said

    def restart(self, now: float) -> None:
        """A session begins, or is back: the path may be another."""
        self._suspicion, self._trial, self._wait = None, None, TRY_S
        self._try_at = now + TRY_S

    def next_size(self, now: float) -> int:
        """The size for the next frame; if it is larger than `size`, say `tries`."""
        may_try = self._trial is None and now >= self._try_at and self.size < self._sizes[-1]
        return self._sizes[self._sizes.index(self.size) + 1] if may_try else self.size

    def tries(self, frame_id: int, filled: float, now: float) -> bool:
        """Whether this frame tries the larger size; `filled`: the bytes that its datagrams would have with one more row."""
        if filled < _SAME * self.next_size(now):      # an answer would prove too little
            self._try_at = now + self._wait
            return False
        self._trial = frame_id
        return True

    def left(self, datagrams: int, size: int) -> None:
        """Datagrams of a frame have left."""
        if self._suspicion is not None and size >= _SAME * self._suspicion.size:
            self.large += datagrams

    def on_report(self, report: Report, now: float) -> None:
        """A PONG tells what has arrived."""
        suspicion = self._suspicion
        if suspicion is not None and report.sent_at > suspicion.since:
            suspicion.first, suspicion.last = suspicion.first or report, report
            suspicion.reports += 1
            self._conclude(suspicion, now)

    def on_answered(self, frame: SentFrame, now: float) -> None:
        """A frame has arrived."""
        size = frame.bytes / frame.packets
        self._answered = size, frame.sent_at
        if self._suspicion is not None and size >= _SAME * self._suspicion.size:
            self._suspicion = None
        if size >= _SAME * self._hopeless:
            self._hopeless = math.inf
            self._say(DatagramSize(self.size, 0))
        if frame.frame_id == self._trial:
            self._change(self._sizes[self._sizes.index(self.size) + 1], now)

    def on_expired(self, frame: SentFrame, now: float) -> None:
        """A frame has not been answered, for whatever reason."""
        size = frame.bytes / frame.packets
        if frame.frame_id == self._trial:
            self._trial, self._wait = None, min(2 * self._wait, MAX_TRY_S)
            self._try_at = now + self._wait
            return
        answered, sent_at = self._answered
        if size > self.size or sent_at > frame.sent_at and answered >= _SAME * size:
            return
        suspicion = self._suspicion
        if suspicion is None:
            self._suspicion = _Suspicion(size, now)
            return
        suspicion.size = min(suspicion.size, size)
        suspicion.frames += 1
        self._conclude(suspicion, now)

    def _conclude(self, suspicion: _Suspicion, now: float) -> None:
        first, last = suspicion.first, suspicion.last
        if first is None or last is None or suspicion.reports < NOTICE_REPORTS or suspicion.frames < NOTICE_FRAMES \
                or now - suspicion.since < NOTICE_S:
            return
        expected, share = lost_between(first, last)
        large = last.large - first.large
        if large < NOTICE_DATAGRAMS or round(share * expected) < large:
            return
        smaller = next((size for size in (SIZES[0], self._sizes[0]) if size in self._sizes and size < suspicion.size), None)
        if smaller is not None:
            self._change(smaller, now)
        elif math.isinf(self._hopeless):
            self._hopeless = suspicion.size
            self._say(DatagramSize(self.size, self.size))
        self._suspicion = None

    def _change(self, size: int, now: float) -> None:
        self._say(DatagramSize(size, self.size))
        self.size = size
        self.restart(now)
