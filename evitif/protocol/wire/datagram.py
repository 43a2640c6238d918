"""The layout of every datagram: the common header, and the bodies of TOKENS, PING, PONG and the two of a path.

All numbers are in network byte order. docs/protocol.md has the same layouts as tables. HELLO, WELCOME and REFUSE are in
`handshake`, ANSWER in `answer`, MAP in `map_part`; `sealing` says how a sealed datagram differs.

Reading never trusts a length: bytes that are not exactly as described raise `DatagramError` with the kind under which they are
counted, and never anything else.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from evitif.vocabulary import ROWS

MAGIC = b'EV'
VERSION = 1                  # unsealed
SEALED_VERSION = 2           # the same but for the CRC and what `sealing` puts in its place
SEAL_BYTES = 16              # at the end of a sealed datagram
WINDOW = 1024                # sequence numbers, back from the highest, of which a receiver knows whether they came

HELLO, WELCOME, REFUSE, TOKENS, ANSWER, PING, PONG, BYE, RESET, CHALLENGE, PATH_CHALLENGE, PATH_RESPONSE, \
    CODED, MAP, REDIRECT, MOVED, STATUS, PEERS = range(1, 19)
TYPES = frozenset(range(HELLO, PEERS + 1))

# magic, version, type, session u64, sequence u32, crc32 u32
HEADER = struct.Struct('>2sBBQII')
_SESSION_AT = 4
_SESSION = struct.Struct('>QII')
_CRC_AT = 16
_CRC = struct.Struct('>I')
_NO_CRC = bytes(_CRC.size)

# frame id u32, packet index u16, packet count u16, capture stamp i64 ns, quantisation u8, row bytes u16,
# units in this packet u16, units that the frame sends u16, bytes of the source frame's name u8
TOKENS_HEADER = struct.Struct('>IHHqBHHHB')
SOURCE_FRAME_MAX = 255
UNIT_INDEX = np.dtype('>u2')
MAX_UNITS = 0xFFFF

# expected u32, received u32 (both cumulative, modulo 2**32), packet error rate f32, mean burst f32
REPORT = struct.Struct('>IIff')
PING_BODY = struct.Struct('>d')
UNREAD = struct.Struct('>I')             # bits of the heads that nobody reads, the lowest is the first; left out where all are read
PONG_BODY = struct.Struct('>dddII')      # and datagrams that came marked ECT(1) or CE, and CE (RFC 3168), cumulative, modulo 2**32

PATH_BYTES = 12              # of PATH_CHALLENGE and PATH_RESPONSE: u32 sequence number, 8 bytes that nobody can guess

MAX_UDP_PAYLOAD = 65507
SMALL_PATH = 548             # bytes of UDP payload that every path takes: every IPv4 host takes 576 with headers (RFC 1122)

Address = tuple[Any, ...]    # of a robot's socket: (host, port), with two numbers more for IPv6
Buffer = bytes | bytearray | memoryview


class DatagramError(Exception):
    """A datagram that is not what it should be; `kind` is the counter for it."""

    def __init__(self, kind: str):
        super().__init__(kind)
        self.kind = kind


class Datagram(NamedTuple):
    """A datagram whose header and checksum are right, its body unread. Of a `sealed` one nothing is to be believed before it is opened."""

    type: int
    session_id: int
    sequence: int            # u32; u64 before a sealed datagram is opened
    body: memoryview
    size: int
    header: memoryview
    sealed: bool


# Makes a datagram ready to send: (buffer with header and body, session, sequence) to bytes; `finish`, or a `Sealer`'s.
Finish = Callable[[bytearray | memoryview, int, int], bytes]


def finish(buffer: bytearray | memoryview, session_id: int, sequence: int) -> bytes:
    """Stamp session and sequence into a datagram that lies in `buffer` (writable, header included), and its CRC-32."""
    _SESSION.pack_into(buffer, _SESSION_AT, session_id, sequence & 0xFFFFFFFF, 0)
    _CRC.pack_into(buffer, _CRC_AT, zlib.crc32(buffer))
    return bytes(buffer)


def build(kind: int, session_id: int, sequence: int, body: bytes = b'', finish: Finish = finish) -> bytes:
    """A whole datagram of type `kind`, ready to send."""
    return finish(bytearray(HEADER.pack(MAGIC, VERSION, kind, 0, 0, 0) + body), session_id, sequence)


def parse(data: Buffer) -> Datagram:
    """Check the header and checksum of `data`.

    Raises `DatagramError`: 'truncated' (no room for header and seal), 'foreign' (not ours), 'version' (another version of ours),
    'corrupt' (wrong checksum), 'malformed' (unknown type).
    """
    try:
        view = memoryview(data).cast('B')
    except TypeError:
        raise DatagramError('foreign') from None
    if len(view) < HEADER.size:
        raise DatagramError('truncated' if view[:2] == MAGIC[:len(view)] else 'foreign')
    magic, version, kind, session_id, sequence, checksum = HEADER.unpack_from(view)
    if magic != MAGIC:
        raise DatagramError('foreign')
    if version == SEALED_VERSION:
        if len(view) < HEADER.size + SEAL_BYTES:
            raise DatagramError('truncated')
        if kind not in TYPES:
            raise DatagramError('malformed')
        return Datagram(kind, session_id, checksum << 32 | sequence, view[HEADER.size:], len(view), view[:HEADER.size], True)
    if version != VERSION:
        raise DatagramError('version')
    crc = zlib.crc32(view[HEADER.size:], zlib.crc32(_NO_CRC, zlib.crc32(view[:_CRC_AT])))
    if crc != checksum:
        raise DatagramError('corrupt')
    if kind not in TYPES:
        raise DatagramError('malformed')
    return Datagram(kind, session_id, sequence, view[HEADER.size:], len(view), view[:HEADER.size], False)


class TokensBody(NamedTuple):
    """What one TOKENS datagram says; `units` (u16 [n]) and `rows` (u8 [n, row_bytes]) are views of it."""

    frame_id: int
    packet_index: int
    packet_count: int
    capture_stamp_ns: int
    quantisation: int        # number of a Quantisation
    sent_units: int          # different ones, in all packets of the frame
    source_frame: bytes
    units: np.ndarray
    rows: np.ndarray

    @property
    def frame_key(self) -> tuple:
        """What all datagrams of a frame say alike."""
        return self.packet_count, self.capture_stamp_ns, self.source_frame, self.quantisation, self.sent_units


def parse_tokens(body: Buffer) -> TokensBody:
    """Read the body of a TOKENS datagram. Raises `DatagramError`: 'truncated' (shorter than it says) or 'malformed'."""
    if len(body) < TOKENS_HEADER.size:
        raise DatagramError('truncated')
    frame_id, index, count, stamp, quantisation, row_bytes, n, total, name = TOKENS_HEADER.unpack_from(body)
    names_at = TOKENS_HEADER.size
    units_at = names_at + name
    rows_at = units_at + 2 * n
    end = rows_at + n * row_bytes
    if len(body) != end:
        raise DatagramError('truncated' if len(body) < end else 'malformed')
    if n == 0 or row_bytes == 0 or index >= count or n > total or quantisation >= len(ROWS):
        raise DatagramError('malformed')
    units = np.frombuffer(body, UNIT_INDEX, n, units_at)
    rows = np.frombuffer(body, np.uint8, n * row_bytes, rows_at).reshape(n, row_bytes)
    return TokensBody(frame_id, index, count, stamp, quantisation, total, bytes(body[names_at:units_at]), units, rows)


@dataclass(frozen=True)
class ReceiverReport:
    """What one side has received from the other (after the receiver report of RFC 3550, section 6.4.1)."""

    expected: int                # datagrams, cumulative, modulo 2**32
    received: int                # of these
    packet_error_rate: float     # 0..1 over the recent datagrams, NaN when unknown
    mean_burst: float            # datagrams in a run of losses, NaN when unknown

    def to_bytes(self) -> bytes:
        """The report as PING and PONG carry it."""
        return REPORT.pack(self.expected & 0xFFFFFFFF, self.received & 0xFFFFFFFF, self.packet_error_rate, self.mean_burst)

    @classmethod
    def parse(cls, body: Buffer) -> ReceiverReport:
        """Read REPORT.size bytes. Raises DatagramError('malformed')."""
        report = cls(*REPORT.unpack(body))
        if not (math.isnan(report.packet_error_rate) or 0.0 <= report.packet_error_rate <= 1.0):
            raise DatagramError('malformed')
        if not (math.isnan(report.mean_burst) or 0.0 <= report.mean_burst < math.inf):
            raise DatagramError('malformed')
        return report


def ping_body(t1: float, report: ReceiverReport, unread: int = 0) -> bytes:
    """A PING's body; `t1`: when it was sent, seconds on the sender's clock; `unread`: a bit for each head that nobody reads."""
    return PING_BODY.pack(t1) + report.to_bytes() + (UNREAD.pack(unread) if unread else b'')


def parse_ping(body: Buffer) -> tuple[float, ReceiverReport, int]:
    """What `ping_body` wrote. Raises DatagramError."""
    size, unread = PING_BODY.size + REPORT.size, 0
    if len(body) == size + UNREAD.size:
        (unread,) = UNREAD.unpack_from(body, size)
        body = body[:size]
    (t1,), report = _parse_stamped(PING_BODY, body)
    return t1, report, unread


class Marks(NamedTuple):
    """Datagrams by the ECN field of their IP header (RFC 3168, 9331), cumulative: capable, as ECT(1) or CE; and of these CE."""

    capable: int = 0
    congestion: int = 0


def pong_body(t1: float, t2: float, t3: float, report: ReceiverReport, marks: Marks = Marks()) -> bytes:  # noqa: B008 - immutable
    """A PONG's body; `t1` as in the PING; `t2`, `t3`: when the PING came and the PONG left, on the answering side's clock."""
    return PONG_BODY.pack(t1, t2, t3, marks.capable & 0xFFFFFFFF, marks.congestion & 0xFFFFFFFF) + report.to_bytes()


def parse_pong(body: Buffer) -> tuple[float, float, float, ReceiverReport, Marks]:
    """What `pong_body` wrote. Raises DatagramError."""
    (t1, t2, t3, capable, congestion), report = _parse_stamped(PONG_BODY, body)
    if t3 < t2:
        raise DatagramError('malformed')
    return t1, t2, t3, report, Marks(int(capable), int(congestion))


def _parse_stamped(stamps: struct.Struct, body: Buffer) -> tuple[tuple[float, ...], ReceiverReport]:
    size = stamps.size + REPORT.size
    if len(body) != size:
        raise DatagramError('truncated' if len(body) < size else 'malformed')
    times = stamps.unpack_from(body)
    if not all(map(math.isfinite, times)):
        raise DatagramError('malformed')
    return times, ReceiverReport.parse(body[stamps.size:])
