"""Runs: datagrams of one size that leave, or arrive, together, as one array uint8 [n, size].

A frame is one run or a few. numpy handles a run in about the time that Python takes for one datagram; only checksums and seals
still cost a call each. The layouts are those of `datagram`.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

import numpy as np

from evitif.protocol.wire import datagram
from evitif.protocol.wire.datagram import HEADER, TOKENS_HEADER, UNIT_INDEX, Buffer, TokensBody

# The headers of `datagram`, for all of a run at once.
HEAD = np.dtype([('magic', 'S2'), ('version', 'u1'), ('type', 'u1'), ('session', '>u8'), ('sequence', '>u4'), ('checksum', '>u4')])
TOKENS_HEAD = np.dtype([('frame_id', '>u4'), ('index', '>u2'), ('count', '>u2'), ('stamp', '>i8'), ('quantisation', 'u1'),
                        ('row_bytes', '>u2'), ('units', '>u2'), ('sent', '>u2'), ('name', 'u1')])
assert HEAD.itemsize == HEADER.size and TOKENS_HEAD.itemsize == TOKENS_HEADER.size
_SESSION_END = struct.calcsize('>2sBBQ')      # all of a session's datagrams of a type begin with the same bytes


def heads_of(datagrams: np.ndarray, kind: np.dtype = HEAD) -> np.ndarray:
    """The header at the beginning of each row: a view, `kind` [n]."""
    return datagrams[:, :kind.itemsize].view(kind)[:, 0]


def finish(datagrams: np.ndarray, session_id: int, first_sequence: int) -> np.ndarray:
    """`datagram.finish` each of `datagrams` (writable), numbered from `first_sequence` on; returns a copy."""
    heads = heads_of(datagrams)
    heads['session'] = session_id
    heads['sequence'] = [sequence & 0xFFFFFFFF for sequence in range(first_sequence, first_sequence + len(datagrams))]
    heads['checksum'] = 0
    heads['checksum'] = [*map(crc32, datagrams)]
    return datagrams.copy()


def of_one_session(datagrams: np.ndarray) -> int:
    """How many, from the first on, have the first one's version, type and session."""
    prefixes, first = datagrams[:, :_SESSION_END].tobytes(), datagrams[0, :_SESSION_END].tobytes()
    if prefixes == first * len(datagrams):
        return len(datagrams)
    return next(k for k in range(len(datagrams)) if prefixes[k * _SESSION_END:(k + 1) * _SESSION_END] != first)


def open_run(datagrams: np.ndarray) -> tuple[list[int], np.ndarray, list[str]]:
    """Check the checksums of unsealed datagrams, uint8 [n, size], which are written to.

    Returns the sequence numbers and bodies of those that are right, and 'corrupt' for each that is not.
    """
    heads = heads_of(datagrams)
    checksums = heads['checksum'].tolist()
    heads['checksum'] = 0
    computed = [*map(crc32, datagrams)]
    sequences, bodies = heads['sequence'].tolist(), datagrams[:, HEADER.size:]
    if computed == checksums:
        return sequences, bodies, []
    right = [k for k in range(len(computed)) if computed[k] == checksums[k]]
    return [sequences[k] for k in right], bodies[right], ['corrupt'] * (len(computed) - len(right))


class TokensRun(NamedTuple):
    """What the bodies of TOKENS datagrams of one frame say; `first` is that of the first (see `datagram.TokensBody`)."""

    first: TokensBody
    indices: list[int]       # of the packets
    units: np.ndarray        # int [n, units]; [units] in a run of one
    rows: np.ndarray         # uint8 [n, units, row_bytes], a view; [units, row_bytes] in a run of one

    @classmethod
    def of(cls, body: TokensBody) -> TokensRun:
        """A run of one."""
        return cls(body, [body.packet_index], body.units.astype(np.intp), body.rows)

    def part(self, begin: int, end: int) -> TokensRun:
        """The packets from number `begin` to before number `end`, of more than one."""
        return TokensRun(self.first, self.indices[begin:end], self.units[begin:end], self.rows[begin:end])


def parse_tokens(bodies: list[Buffer] | np.ndarray) -> TokensRun:
    """Read bodies of TOKENS datagrams, from the first on as many as are of one frame.

    :param bodies: uint8 [n, size], or a list of one
    :raises DatagramError: the first is wrong, see `datagram.parse_tokens`
    """
    first = datagram.parse_tokens(bodies[0] if isinstance(bodies, list) else bodies[0].data)
    if isinstance(bodies, list) or len(bodies) == 1:
        return TokensRun.of(first)
    units_at = TOKENS_HEADER.size + len(first.source_frame)
    rows_at = units_at + UNIT_INDEX.itemsize * len(first.units)
    heads = bodies[:, :units_at].copy()
    field = heads_of(heads, TOKENS_HEAD)['index']
    indices = field.tolist()
    field[:] = 0
    count, said = len(bodies), heads.tobytes()
    if said != said[:units_at] * count:
        count = next(k for k in range(count) if said[k * units_at:(k + 1) * units_at] != said[:units_at])
    if max(indices) >= first.packet_count:
        count = next((k for k in range(count) if indices[k] >= first.packet_count), count)
    units = bodies[:count, units_at:rows_at].view(UNIT_INDEX).astype(np.intp)
    return TokensRun(first, indices[:count], units, bodies[:count, rows_at:].reshape(count, *first.rows.shape))
