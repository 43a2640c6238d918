"""Traces of links, played by the link simulator: what became of each datagram, or what the link could carry. docs/recordings.md has both.

* Loss and delay, as `trace_writer` writes them: CSV with the columns `sequence,arrived_s,bytes,sent_s`, a line for each datagram that
  arrived. A number that is missing is a datagram that was lost; `sent_s` is on the sender's clock, and empty where nobody knows it.
* Rates in the format of Mahimahi (Netravali et al., "Mahimahi: accurate record-and-replay for HTTP", USENIX ATC 2015): on each line a
  time in whole milliseconds, at which the link carries 1,500 bytes.

Both are played again from the beginning when they end.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

import numpy as np

COLUMNS = 'sequence,arrived_s,bytes,sent_s'
OPPORTUNITY_BYTES = 1500        # with IP and UDP headers
MOST_BYTES = 64 << 20           # of a file
MOST_DATAGRAMS = 4_000_000      # of a trace, lost ones included
NEAR_S = 0.1                    # a datagram takes the fate of those recorded within this time
SILENCE_S, FILL_S = 0.5, 0.02   # after so long without a datagram the link was down: one is lost each 0.02 s
EMPTY_PATH_S = 30.0             # before and after: the least delay is that of the empty path
_MODULUS = 1 << 32


@dataclass(frozen=True, eq=False)
class LinkTrace:
    """Datagrams in the order in which they were sent.

    :ivar sent: float64 [n], seconds, the first 0
    :ivar delay: float64 [n], seconds above that of the empty path; NaN: lost
    :ivar overtaken: bool [n], whether a later one arrived before it
    """

    sent: np.ndarray
    delay: np.ndarray
    overtaken: np.ndarray

    @property
    def length_s(self) -> float:
        """How long it lasts."""
        return float(self.sent[-1])

    @property
    def loss(self) -> float:
        """The share of the datagrams that was lost."""
        return float(np.isnan(self.delay).mean())


@dataclass(frozen=True, eq=False)
class RateTrace:
    """When the link carries 1,500 bytes each: float64 [n], seconds, ascending; the last is the trace's length."""

    times: np.ndarray

    @property
    def length_s(self) -> float:
        """How long it lasts."""
        return float(self.times[-1])


class LinkTracePlayer:
    """The fate of each datagram of a channel. Those of the same time take the recorded ones in their order, and begin again with them
    where there were fewer.

    :param began: when the trace is at its beginning, on the channel's clock
    """

    def __init__(self, trace: LinkTrace, began: float):
        self._trace, self._began, self._next = trace, began, 0

    def fate(self, now: float) -> tuple[float, bool]:
        """What becomes of a datagram: its additional delay in seconds, NaN where it is lost, and whether later ones overtake it."""
        at = (now - self._began) % self._trace.length_s
        first, end = np.searchsorted(self._trace.sent, (at - NEAR_S, at + NEAR_S)).tolist()
        if first == end:
            found = max(first - 1, 0)
        else:
            found = self._next if first <= self._next < end else first
            self._next = found + 1
        return float(self._trace.delay[found]), bool(self._trace.overtaken[found])


class RateTracePlayer:
    """A transmitter that sends when the trace lets it. Several small datagrams share an opportunity, a large one takes several.

    :param began: when the trace is at its beginning, on the channel's clock
    """

    def __init__(self, trace: RateTrace, began: float):
        self._trace, self._began = trace, began
        self._opportunity, self._left = -1, 0       # the one that was used last, and its bytes that are left

    def free_at(self, now: float) -> float:
        """When the next byte of a datagram that comes now can leave; it is the one that `send` is asked for next."""
        rounds, at = divmod(now - self._began, self._trace.length_s)
        next_one = int(rounds) * len(self._trace.times) + int(np.searchsorted(self._trace.times, at))
        if next_one > self._opportunity:
            self._opportunity, self._left = next_one, OPPORTUNITY_BYTES
        elif not self._left:
            self._opportunity, self._left = self._opportunity + 1, OPPORTUNITY_BYTES
        return self._time(self._opportunity)

    def send(self, size: int) -> float:
        """Send so many bytes, headers included; when the last of them leaves."""
        while size > self._left:
            size -= self._left
            self._opportunity, self._left = self._opportunity + 1, OPPORTUNITY_BYTES
        self._left -= size
        return self._time(self._opportunity)

    def _time(self, opportunity: int) -> float:
        rounds, index = divmod(opportunity, len(self._trace.times))
        return self._began + rounds * self._trace.length_s + float(self._trace.times[index])


def load_trace(path: str) -> LinkTrace | RateTrace:
    """Read a trace of either kind, by what is in it. Raises ValueError, saying what is wrong with it."""
    try:
        found = Path(path).expanduser().stat()
    except (OSError, ValueError) as error:      # ValueError: a NUL in the name
        raise ValueError(f'the trace {path!r} cannot be read: {getattr(error, "strerror", None) or error}') from None
    if not S_ISREG(found.st_mode):
        raise ValueError(f'the trace {path!r} is no file')
    try:
        return _load(path, found.st_mtime_ns, found.st_size)
    except OSError as error:
        raise ValueError(f'the trace {path!r} cannot be read: {error.strerror or error}') from None


@functools.lru_cache(maxsize=8)
def _load(path: str, _changed: int, size: int) -> LinkTrace | RateTrace:
    if size > MOST_BYTES:
        raise ValueError(f'the trace {path} has {size / 1e6:.0f} MB: expected at most {MOST_BYTES / 1e6:.0f}')
    lines = Path(path).expanduser().read_text(errors='replace').splitlines()
    content = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith('#')]
    if not content:
        raise ValueError(f'the trace {path} is empty')
    if content[0][1] == COLUMNS:
        return _link_trace(path, content[1:])
    if content[0][1].isdecimal():
        return _rate_trace(path, content)
    raise ValueError(f'{path} is no trace of a link: expected CSV whose first line is {COLUMNS}, or one of Mahimahi with a time in whole '
                     f'milliseconds on each line; line {content[0][0]} is {content[0][1][:60]!r}')


def _rate_trace(path: str, content: list[tuple[int, str]]) -> RateTrace:
    times: list[int] = []
    for number, line in content:
        if not line.isdecimal() or len(line) > 12 or times and int(line) < times[-1]:
            raise ValueError(f'the trace {path}, line {number}: expected a time in whole milliseconds, not before the one above, '
                             f'got {line[:60]!r}')
        times.append(int(line))
    if not times[-1]:
        raise ValueError(f'the trace {path} lasts 0 ms: expected a last time above that')
    return RateTrace(np.array(times) / 1e3)


def _link_trace(path: str, content: list[tuple[int, str]]) -> LinkTrace:
    rows: dict[int, tuple[float, float]] = {}       # by sequence number: arrived, sent
    highest = None
    for number, line in content:
        try:
            sequence, arrived, _, sent = line.split(',')
            values = int(sequence), float(arrived), float(sent) if sent.strip() else math.nan
            if not (0 <= values[0] < _MODULUS and math.isfinite(values[1]) and not math.isinf(values[2])):
                raise ValueError
        except ValueError:
            if number == content[-1][0]:        # the power failed while it was written
                break
            raise ValueError(f'the trace {path}, line {number}: expected {COLUMNS}, the last may be empty, got {line[:60]!r}') from None
        # Numbers wrap (RFC 1982).
        whole = values[0] if highest is None else highest + (values[0] - highest + _MODULUS // 2) % _MODULUS - _MODULUS // 2
        highest = whole if highest is None else max(highest, whole)
        rows.setdefault(whole, values[1:])
    numbers = np.array(sorted(rows))
    if len(numbers) < 2 or numbers[-1] - numbers[0] > MOST_DATAGRAMS:
        raise ValueError(f'the trace {path} has {len(numbers)} datagrams that arrived'
                         + (f' of {numbers[-1] - numbers[0] + 1:,}' if len(numbers) else '')
                         + f': expected at least 2 of at most {MOST_DATAGRAMS:,}')
    arrived, said = np.array([rows[number] for number in numbers.tolist()]).T
    trace = _fates(numbers - numbers[0], arrived, said)
    if trace is None:
        raise ValueError(f'the trace {path} lasts no time: expected datagrams that were sent one after another')
    return trace


def _fates(numbers: np.ndarray, arrived: np.ndarray, said: np.ndarray) -> LinkTrace | None:
    """From what arrived, int64 and float64 [n] in the order of the numbers, to what became of all that were sent."""
    known = np.isfinite(said)
    sent = arrived.copy()       # on the receiver's clock, less the delay of the empty path
    if known.sum() >= 2:
        way, at = (arrived - said)[known], arrived[known]
        sent[known] = at - (way - _least_near(way, at))
        # Between two that say when they were sent, the others left evenly.
        first, last = np.flatnonzero(known)[[0, -1]]
        between = slice(first, last + 1)
        sent[between] = np.minimum(arrived[between], np.interp(numbers[between], numbers[known], sent[known]))
    sent = np.maximum.accumulate(sent)
    delay = np.maximum(arrived - sent, 0.0)
    overtaken = arrived > np.minimum.accumulate(arrived[::-1])[::-1]
    everything = np.arange(numbers[-1] + 1)
    all_sent = np.interp(everything, numbers, sent)
    all_delay, all_overtaken = np.full(len(everything), np.nan), np.zeros(len(everything), bool)
    all_delay[numbers], all_overtaken[numbers] = delay, overtaken
    all_sent, all_delay, all_overtaken = _with_silence(all_sent - all_sent[0], all_delay, all_overtaken)
    return LinkTrace(all_sent, all_delay, all_overtaken) if 0 < all_sent[-1] <= MOST_DATAGRAMS * FILL_S else None


def _least_near(way: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The least of `way` within EMPTY_PATH_S of each time: clocks drift, and paths change."""
    step = EMPTY_PATH_S / 2
    bins = ((at - at.min()) // step).astype(int)
    if bins.max() > MOST_DATAGRAMS:
        return np.full(len(way), way.min())
    least = np.full(bins.max() + 1, np.inf)
    np.minimum.at(least, bins, way)
    padded = np.pad(least, 2, constant_values=np.inf)
    return np.min([padded[shift:shift + len(least)] for shift in range(5)], axis=0)[bins]


def _with_silence(sent: np.ndarray, delay: np.ndarray, overtaken: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lost datagrams where nothing was sent for so long that the link must have been down: robots send at least a PING each 0.2 s."""
    gaps = np.flatnonzero(np.diff(sent) > SILENCE_S)
    if np.diff(sent)[gaps].sum() / FILL_S > MOST_DATAGRAMS:
        return sent, delay, overtaken
    fill = [np.arange(float(sent[gap]) + FILL_S, float(sent[gap + 1]), FILL_S) for gap in gaps.tolist()]
    places = np.repeat(gaps + 1, [len(each) for each in fill]) if fill else np.empty(0, int)
    times = np.concatenate(fill) if fill else np.empty(0)
    return (np.insert(sent, places, times), np.insert(delay, places, np.full(len(times), np.nan)),
            np.insert(overtaken, places, np.zeros(len(times), bool)))
