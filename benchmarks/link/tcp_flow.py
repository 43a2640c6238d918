"""A TCP flow in simulated time, without a payload: what a robot's uplink may have to share.

Reno (RFC 5681, 6582) or CUBIC (RFC 9438), with selective acknowledgements: slow start from ten segments (RFC 6928), for CUBIC left early
when the round trip grows (HyStart++, RFC 9406); loss found by three later acknowledgements (RFC 6675, 8985); proportional rate
reduction in recovery (RFC 6937); a timeout of at least 0.2 s (RFC 6298, Linux's least). Segments leave when acknowledgements come; what is
sent again counts like anything else, since only the rate matters here. `test/benchmarks/test_tcp_flow.py` compares it with the kernel's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

SEGMENT_BYTES = 1500         # IP header included
INITIAL_WINDOW = 10          # segments
THRESHOLD = 3                # later acknowledgements that make a segment lost
LEAST_TIMEOUT_S = 0.2
CUBIC_C, CUBIC_BETA, RENO_BETA = 0.4, 0.7, 0.5
_HYSTART_SAMPLES, _HYSTART_LEAST_S, _HYSTART_MOST_S = 8, 0.004, 0.016


class Passage(NamedTuple):
    """A segment has left the bottleneck."""

    left_at: float
    marked: bool = False         # congestion experienced (RFC 3168)


class TcpFlow:
    """A flow that always has something to send, from now on.

    :param clock: says the simulated time, seconds
    :param at: calls something at a simulated time
    :param carry: takes a segment's bytes and the time to the bottleneck; None: the segment is lost
    :param base_s: round trip beside the bottleneck and its queue
    :param ecn: whether a mark counts as a loss that needs no second copy (RFC 3168)
    """

    def __init__(self, clock: Callable[[], float], at: Callable[[float, Callable[[], object]], object],
                 carry: Callable[[int, float], Passage | None], base_s: float, kind: Literal['reno', 'cubic'] = 'cubic', ecn: bool = False):
        self._clock, self._at, self._carry, self._base, self._ecn = clock, at, carry, base_s, ecn
        self._cubic = kind == 'cubic'
        self._beta = CUBIC_BETA if self._cubic else RENO_BETA
        self.window, self._threshold = float(INITIAL_WINDOW), math.inf      # segments
        self._outstanding: dict[int, float] = {}      # by number, when it was sent
        self._next = self._highest_acknowledged = 0
        self._round_trip = self._variation = self._least = math.nan
        self._timeout_at, self._backed_off, self._timer_set = math.inf, 0, False
        self._recovery_until = -1                     # number of the last segment before the window was cut
        self._recovering, self._flight_then, self._acknowledged_since, self._sent_since = False, 1, 0, 0
        self._before_cut, self._cut_at, self._reno_window = 0.0, math.nan, 0.0      # CUBIC's W_max, its epoch, W_est
        self._round_end, self._round_least, self._former_least, self._samples = 0, math.inf, math.inf, 0
        self.delivered: list[float] = []              # when each segment had left the bottleneck
        self.lost = self.cuts = self.timeouts = 0
        self._pump()

    def rate(self, start: float, end: float) -> float:
        """Mean rate through the bottleneck, bit/s with IP headers."""
        return 8 * SEGMENT_BYTES * sum(start <= at < end for at in self.delivered) / (end - start)

    def _pump(self) -> None:
        while len(self._outstanding) < int(self.window):
            now, number = self._clock(), self._next
            self._next += 1
            self._outstanding[number] = now
            self._sent_since += 1
            passage = self._carry(SEGMENT_BYTES, now)
            if passage is not None:
                self._at(passage.left_at + self._base, lambda number=number, passage=passage: self._acknowledge(number, passage))
            if self._timeout_at == math.inf:
                self._arm(now)

    def _arm(self, now: float) -> None:
        wait = 1.0 if math.isnan(self._round_trip) else max(self._round_trip + 4 * self._variation, LEAST_TIMEOUT_S)
        self._timeout_at = now + wait * 2 ** self._backed_off
        if not self._timer_set:
            self._timer_set = True
            self._at(self._timeout_at, self._on_timer)

    def _on_timer(self) -> set:
        self._timer_set = False
        now = self._clock()
        if not self._outstanding:
            self._timeout_at = math.inf
        elif now >= self._timeout_at - 1e-9:
            self.timeouts += 1
            self.lost += len(self._outstanding)
            self._outstanding.clear()
            self._cut(now)
            self.window, self._recovering = 1.0, False
            self._backed_off = min(self._backed_off + 1, 6)
            self._arm(now)
            self._pump()
        else:
            self._timer_set = True
            self._at(self._timeout_at, self._on_timer)
        return set()

    def _acknowledge(self, number: int, passage: Passage) -> set:
        now = self._clock()
        sent_at = self._outstanding.pop(number, None)
        self.delivered.append(passage.left_at)
        if sent_at is None:      # a timeout took it for lost
            return set()
        self._backed_off = 0
        self._measure(now - sent_at)
        self._arm(now)
        self._highest_acknowledged = max(self._highest_acknowledged, number)
        self._acknowledged_since += 1
        lost = [one for one in self._outstanding if one <= self._highest_acknowledged - THRESHOLD] if self._is_gap() else []
        for one in lost:
            del self._outstanding[one]
        self.lost += len(lost)
        if (lost and max(lost) > self._recovery_until) or (self._ecn and passage.marked and number > self._recovery_until):
            self._cut(now)
            self.window, self._recovering = self._threshold, True
            self._flight_then, self._acknowledged_since, self._sent_since = len(self._outstanding) + len(lost) + 1, 1, 0
        if self._recovering and number > self._recovery_until:
            self._recovering, self.window = False, self._threshold
        if self._recovering:
            self._reduce()
        elif self.window < self._threshold:
            self.window += 1
            self._leave_slow_start_early(number, now - sent_at)
        else:
            self._grow(now)
        self._pump()
        return set()

    def _is_gap(self) -> bool:
        return bool(self._outstanding) and next(iter(self._outstanding)) <= self._highest_acknowledged - THRESHOLD

    def _measure(self, round_trip: float) -> None:
        if math.isnan(self._round_trip):
            self._round_trip, self._variation, self._least = round_trip, round_trip / 2, round_trip
            return
        self._variation += (abs(round_trip - self._round_trip) - self._variation) / 4
        self._round_trip += (round_trip - self._round_trip) / 8
        self._least = min(self._least, round_trip)

    def _cut(self, now: float) -> None:
        """Lost, or marked: RFC 5681, section 3.1; RFC 9438, sections 4.6 and 4.7."""
        self.cuts += 1
        self._before_cut = self.window * (1 + self._beta) / 2 if self.window < self._before_cut else self.window
        self._threshold = max(self.window * self._beta, 2.0)
        self._cut_at, self._reno_window = math.nan, self._threshold
        self._recovery_until = self._next - 1

    def _reduce(self) -> None:
        """Proportional rate reduction with its slow start bound (RFC 6937, section 3)."""
        flight = len(self._outstanding)
        if flight > self._threshold:
            allowed = math.ceil(self._acknowledged_since * self._threshold / self._flight_then) - self._sent_since
        else:
            allowed = min(self._threshold - flight, max(self._acknowledged_since - self._sent_since, 1) + 1)
        self.window = flight + max(allowed, 0)

    def _leave_slow_start_early(self, number: int, round_trip: float) -> None:
        if not self._cubic:
            return
        if number >= self._round_end:
            self._former_least, self._round_least, self._samples, self._round_end = self._round_least, math.inf, 0, self._next
        self._round_least, self._samples = min(self._round_least, round_trip), self._samples + 1
        grown = min(max(self._former_least / 8, _HYSTART_LEAST_S), _HYSTART_MOST_S)
        if self._samples >= _HYSTART_SAMPLES and self._round_least >= self._former_least + grown:
            self._threshold = self._before_cut = self.window

    def _grow(self, now: float) -> None:
        """One acknowledgement in congestion avoidance."""
        if not self._cubic:
            self.window += 1 / self.window
            return
        if math.isnan(self._cut_at):
            self._cut_at, self._reno_window = now, self.window
            self._plateau_s = ((max(self._before_cut - self.window, 0.0)) / CUBIC_C) ** (1 / 3)
            self._plateau = max(self._before_cut, self.window)
        alpha = 3 * (1 - CUBIC_BETA) / (1 + CUBIC_BETA) if self._reno_window < self._before_cut else 1.0
        self._reno_window += alpha / self.window
        target = self._plateau + CUBIC_C * (now + self._round_trip - self._cut_at - self._plateau_s) ** 3
        target = min(max(target, self.window), 1.5 * self.window)
        self.window = max(self.window + (target - self.window) / self.window, self._reno_window)
