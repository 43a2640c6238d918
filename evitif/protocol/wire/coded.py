"""CODED: a datagram of a frame whose tokens are entropy-coded.

It carries the prefix tokens and patches of a range, all or those that a bitmap names, ranked as
`frames.interleaving.scattered_order` ranks them. What the payload means is for the token code to say (`evitif.model`); here it is
bytes. A frame may refer to an earlier one of the same session, of which the edge knows by an ANSWER what the bridge has.

The layout is in docs/protocol.md. Reading raises `DatagramError` and nothing else.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from evitif.protocol.wire.datagram import Buffer, DatagramError

# frame id u32, packet index u16, packet count u16, capture stamp i64 ns, step u8, how many frame ids back the reference is u8 (0: none),
# first rank u16, ranks u16, whether a bitmap says which of them are here u8, bytes of the source frame's name u8, bytes of the payload
# u16; then name, bitmap, payload and padding
CODED_HEADER = struct.Struct('>IHHqBBHHBBH')
MAX_BACK = 255


class CodedPart(NamedTuple):
    """What one datagram carries: the prefix tokens, and patches of the `count` ranks from `first` on (the rank after the last is 0)."""

    first: int
    count: int
    payload: bytes
    chosen: bytes = b''         # a bit for each rank, the first the highest of its byte: whether the patch is here; empty: all are


@dataclass(frozen=True, eq=False)
class CodedTokens:
    """The tokens of a frame, entropy-coded, in parts that each decode alone."""

    step: int                           # u8: index of the quantiser's step, the quality
    reference: int | None               # id of the frame that differences are from; None: no other frame is needed
    parts: tuple[CodedPart, ...]        # on the edge in sending order; on the bridge those that arrived and brought something
    sent: int | None = None             # on the edge, how many tokens these are, if not all


class CodedBody(NamedTuple):
    """What one CODED datagram says."""

    frame_id: int
    packet_index: int
    packet_count: int
    capture_stamp_ns: int
    step: int
    reference: int | None
    source_frame: bytes
    part: CodedPart

    @property
    def frame_key(self) -> tuple:
        """What all datagrams of a frame say alike."""
        return self.packet_count, self.capture_stamp_ns, self.source_frame, self.step, self.reference


def parse_coded(body: Buffer) -> CodedBody:
    """Read the body of a CODED datagram. Raises `DatagramError`: 'truncated' (shorter than it says) or 'malformed'."""
    if len(body) < CODED_HEADER.size:
        raise DatagramError('truncated')
    frame_id, index, packets, stamp, step, back, first, count, some, name, payload = CODED_HEADER.unpack_from(body)
    chosen_at = CODED_HEADER.size + name
    payload_at = chosen_at + (bitmap_bytes(count) if some else 0)
    if len(body) < payload_at + payload:
        raise DatagramError('truncated')
    if index >= packets or count == 0 or some > 1:
        raise DatagramError('malformed')
    reference = (frame_id - back) & 0xFFFFFFFF if back else None
    return CodedBody(frame_id, index, packets, stamp, step, reference, bytes(body[CODED_HEADER.size:chosen_at]),
                     CodedPart(first, count, bytes(body[payload_at:payload_at + payload]), bytes(body[chosen_at:payload_at])))


def bitmap_bytes(ranks: int) -> int:
    """Bytes of a bitmap with a bit for each rank."""
    return (ranks + 7) // 8


def back_to(frame_id: int, reference: int | None) -> int:
    """How many frame ids `reference` is back, 0 for none. Raises ValueError if it is further back than the header can say."""
    if reference is None:
        return 0
    back = (frame_id - reference) & 0xFFFFFFFF
    if not 1 <= back <= MAX_BACK:
        raise ValueError(f'frame {frame_id} refers to frame {reference}; expected one of the {MAX_BACK} before it')
    return back
