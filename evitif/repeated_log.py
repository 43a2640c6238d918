"""Log messages that a stream of images or datagrams can repeat: one of a kind now and then, with a count."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from evitif.bounded import BoundedDict

REPEAT_S = 10.0
_KINDS = 64         # remembered; some contain names from the network


class RepeatedLog:
    """Logs the first message of a kind, then at most one in `repeat_s`, with how many there were in between."""

    def __init__(self, log: Callable[[int, str], None], repeat_s: float = REPEAT_S, clock: Callable[[], float] = time.monotonic):
        self._log, self._repeat_s, self._clock = log, repeat_s, clock
        self._kinds: BoundedDict[object, tuple[float, int]] = BoundedDict(_KINDS)       # when one was logged, how many were held back since
        self._lock = threading.Lock()

    def __call__(self, level: int, text: str, kind: object = '') -> None:
        """:param kind: what distinguishes this message from others; '': its text"""
        with self._lock:
            now, kind = self._clock(), kind or text
            passed_on, held_back = self._kinds.get(kind, (-float('inf'), 0))
            held_back += 1
            due = now - passed_on >= self._repeat_s
            self._kinds[kind] = (now, 0) if due else (passed_on, held_back)
        if due:
            more = f' ({held_back} such in the last {now - passed_on:.0f} s)' if held_back > 1 else ''
            self._log(level, text + more)
