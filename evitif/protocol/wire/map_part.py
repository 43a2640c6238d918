"""MAP: a part of what a head says of each place of a frame: a mask, a depth image.

A map is cut into parts, each of which is read without the others, and travels in as many copies as an ANSWER. What a part means is for
the head's code to say (`evitif.heads`); here it is bytes. The layout is in docs/protocol.md.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from evitif.protocol.wire.datagram import HEADER, SEAL_BYTES, Buffer, DatagramError
from evitif.protocol.wire.parameters import MAX_HEADS

# frame id u32, capture stamp i64 ns, which of the bridge's heads u8, index of the part u8, parts of the map u8, copies u8; then the content
MAP_HEADER = struct.Struct('>IqBBBB')
MOST_PARTS = 64


@dataclass(frozen=True)
class MapPart:
    """What one MAP datagram says."""

    frame_id: int
    capture_stamp_ns: int
    head: int                # 0, 1, … of the bridge's heads
    index: int
    parts: int               # of the map, at least 1
    content: bytes

    @property
    def map_key(self) -> tuple[int, int, int]:
        """What all parts of a map say alike, and no other map's."""
        return self.frame_id, self.capture_stamp_ns, self.head


def map_room(max_datagram_bytes: int, *, sealed: bool) -> int:
    """Bytes of content that fit into a MAP datagram."""
    return max_datagram_bytes - HEADER.size - MAP_HEADER.size - (SEAL_BYTES if sealed else 0)


def encode(part: MapPart, copies: int) -> bytes:
    """The body of a MAP that is sent `copies` times. Raises ValueError naming what cannot be written."""
    if not part.content or not 0 <= part.head < MAX_HEADS or not 0 <= part.index < part.parts <= MOST_PARTS:
        raise ValueError(f'part {part.index} of {part.parts} of head {part.head} with {len(part.content)} bytes: expected a part that is '
                         f'not empty, at most {MOST_PARTS} parts and {MAX_HEADS} heads')
    try:
        return MAP_HEADER.pack(part.frame_id, part.capture_stamp_ns, part.head, part.index, part.parts, copies) + part.content
    except struct.error as error:
        raise ValueError(f'a part of a map cannot be written: {error}') from None


def decode(body: Buffer) -> tuple[MapPart, int]:
    """A `MapPart`, and how many copies of it are sent. Raises `DatagramError`: 'truncated' (shorter than it says), 'malformed'."""
    if len(body) <= MAP_HEADER.size:
        raise DatagramError('truncated')
    frame_id, stamp, head, index, parts, copies = MAP_HEADER.unpack_from(body)
    if head >= MAX_HEADS or not index < parts <= MOST_PARTS or copies == 0:
        raise DatagramError('malformed')
    return MapPart(frame_id, stamp, head, index, parts, bytes(body[MAP_HEADER.size:])), copies
