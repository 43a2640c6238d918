"""Runs: datagrams of one size that leave, or arrive, together, as one array uint8 [n, size].

A frame is a run or a few, and what numpy does to a run costs hardly more than what Python does to one datagram. Only a
checksum, or a seal, still is a call for each. What is said of a run here is what `datagram` says of each of its
datagrams, so that the same bytes are sent and the same are taken.
"""

from collections.abc import Callable
from typing import NamedTuple
from zlib import crc32

import numpy as np

from evitif.protocol.wire import datagram
from evitif.protocol.wire.datagram import HEADER, TOKENS_HEADER, UNIT_INDEX
from evitif.vocabulary import Quantisation

# The headers of `datagram` for all of a run at once.
HEAD = np.dtype([('magic', 'S2'), ('version', 'u1'), ('type', 'u1'), ('session', '>u8'), ('sequence', '>u4'), ('checksum', '>u4')])
TOKENS_HEAD = np.dtype([('frame_id', '>u4'), ('index', '>u2'), ('count', '>u2'), ('stamp', '>i8'), ('quantisation', 'u1'),
                        ('row_bytes', '>u2'), ('units', '>u2'), ('sent', '>u2'), ('name', 'u1')])
assert HEAD.itemsize == HEADER.size and TOKENS_HEAD.itemsize == TOKENS_HEADER.size
# What makes a run ready to send: (datagrams uint8 [n, size], session, first sequence) to others; `finish`, or a `Sealer`'s.
FinishRun = Callable[[np.ndarray, int, int], np.ndarray]
_SESSION_END = HEAD.fields['sequence'][1]                # all of a session's datagrams of a type begin with the same bytes


def heads_of(datagrams: np.ndarray, kind: np.dtype = HEAD) -> np.ndarray:
    """The header at the beginning of each row: a view, `kind` [n]."""
    return datagrams[:, :kind.itemsize].view(kind)[:, 0]


def finish(datagrams: np.ndarray, session_id: int, first_sequence: int) -> np.ndarray:
    """As `datagram.finish` each of `datagrams` (writable), numbered from `first_sequence` on; returns a copy."""
    heads = heads_of(datagrams)
    heads['session'] = session_id
    heads['sequence'] = [sequence & 0xFFFFFFFF for sequence in range(first_sequence, first_sequence + len(datagrams))]
    heads['checksum'] = 0
    heads['checksum'] = [*map(crc32, datagrams)]
    return datagrams.copy()


def of_one_session(datagrams: np.ndarray) -> int:
    """How many from the first on are of the first one's version, type and session."""
    prefixes, first = datagrams[:, :_SESSION_END].tobytes(), datagrams[0, :_SESSION_END].tobytes()
    if prefixes == first * len(datagrams):
        return len(datagrams)
    return next(k for k in range(len(datagrams)) if prefixes[k * _SESSION_END:(k + 1) * _SESSION_END] != first)


def open_run(datagrams: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The sequence numbers and bodies of the datagrams from the first on whose checksums are right; those of unsealed datagrams.

    `datagrams` are written to: the checksums of those that are returned are zero afterwards.
    """
    heads = heads_of(datagrams)
    field, count = heads['checksum'], len(datagrams)
    checksums = field.tolist()
    field[:] = 0
    computed = [*map(crc32, datagrams)]
    if computed != checksums:
        count = next(k for k in range(count) if computed[k] != checksums[k])
        field[count:] = checksums[count:]
    return heads['sequence'][:count].tolist(), datagrams[:count, HEADER.size:]


class TokensRun(NamedTuple):
    """What the bodies of a run of TOKENS datagrams of one frame say; see `datagram.TokensBody`, of which the first few fields
    are those of the first datagram."""

    first: datagram.TokensBody
    indices: list[int]       # of the packets, rising
    units: np.ndarray        # [n, units]
    rows: np.ndarray         # uint8 [n, units, row_bytes], a view

    def __len__(self) -> int:
        return len(self.indices)

    def part(self, count: int) -> 'TokensRun':
        """The first so many."""
        return TokensRun(self.first, self.indices[:count], self.units[:count], self.rows[:count])


def parse_tokens(bodies: np.ndarray) -> TokensRun | None:
    """The bodies of TOKENS datagrams, uint8 [n, size], from the first on as many as are of one frame and in order; None where the
    first is not what it should be, or stands alone."""
    if len(bodies) < 2 or bodies.shape[1] < TOKENS_HEADER.size:
        return None
    frame_id, index, count, stamp, quantisation, row_bytes, n, total, name = TOKENS_HEADER.unpack(bodies[0, :TOKENS_HEADER.size].tobytes())
    units_at = TOKENS_HEADER.size + name
    rows_at = units_at + UNIT_INDEX.itemsize * n
    if bodies.shape[1] != rows_at + n * row_bytes or n == 0 or row_bytes == 0 or n > total or quantisation >= len(Quantisation):
        return None
    heads = bodies[:, :units_at].copy()
    field = heads_of(heads, TOKENS_HEAD)['index']
    indices = field.tolist()
    field[:] = 0
    length, said = len(bodies), heads.tobytes()
    if said != said[:units_at] * length:
        length = next(k for k in range(length) if said[k * units_at:(k + 1) * units_at] != said[:units_at])
    if indices[:length] != [*range(index, index + length)]:
        length = next((k for k in range(1, length) if indices[k] <= indices[k - 1]), length)
    if length < 2 or indices[length - 1] >= count:
        return None
    units = bodies[:length, units_at:rows_at].view(UNIT_INDEX).astype(np.intp)
    rows = bodies[:length, rows_at:].reshape(length, n, row_bytes)
    source = bodies[0, TOKENS_HEADER.size:units_at].tobytes()
    first = datagram.TokensBody(frame_id, index, count, stamp, quantisation, total, source, units[0], rows[0])
    return TokensRun(first, indices[:length], units, rows)
