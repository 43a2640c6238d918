"""A frame of entropy-coded tokens: how it is cut into parts by their bytes, and its datagrams."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evitif.protocol.frames.frame_datagrams import FrameDatagrams, even_sizes
from evitif.protocol.frames.interleaving import scattered_order
from evitif.protocol.wire import datagram
from evitif.protocol.wire.coded import CODED_HEADER, CodedPart, CodedTokens, back_to, bitmap_bytes
from evitif.protocol.wire.datagram import HEADER
from evitif.protocol.wire.parameters import StreamParameters


@dataclass(frozen=True, eq=False)
class CodedFrame:
    """One frame's tokens, entropy-coded, on their way from the edge to the bridge."""

    frame_id: int                  # u32, the edge's counter
    capture_stamp_ns: int          # i64, the source image's header stamp
    source_frame: str              # the source image's header.frame_id, at most 255 bytes of UTF-8
    tokens: CodedTokens


def payload_room(datagram_bytes: int, name_bytes: int) -> int:
    """The bytes that a datagram of `datagram_bytes`, without its seal, has for a payload."""
    return datagram_bytes - HEADER.size - CODED_HEADER.size - name_bytes


def patches_of(part: CodedPart, grid: tuple[int, int]) -> np.ndarray:
    """The patches of a part, int [n], as numbered row by row, by rank."""
    order = scattered_order(grid)
    ranks = np.arange(part.first, part.first + part.count)
    if part.chosen:
        ranks = ranks[np.unpackbits(np.frombuffer(part.chosen, np.uint8), count=part.count).astype(bool)]
    return order[ranks % len(order)]


def tokens_of(part: CodedPart, parameters: StreamParameters) -> np.ndarray:
    """The tokens of a part, int [n] ascending: the prefix tokens and its patches."""
    prefix = parameters.prefix_tokens
    return np.concatenate([np.arange(prefix), prefix + np.sort(patches_of(part, parameters.grid))])


def cut_by_bytes(sizes: np.ndarray, copies: np.ndarray, packets: int) -> list[CodedPart]:
    """Spread the copies of patches over parts of nearly equal bytes, in sending order; their payloads are left out.

    The patches follow one another by rank, each with as much of the frame as its copies take together. A copy travels where its patch
    lies, the others at equal distances from there, around the frame: n packets have those of a patch with c copies n / c apart, so a
    burst, or two losses, seldom takes all. A part has the fewest ranks around what it carries, and a bitmap where it does not carry all.

    :param sizes: expected bytes of each patch, by rank, float [patches]
    :param copies: in how many packets it travels, int [patches], at least 0; more than `packets` count as that many
    :param packets: parts, at least 1; fewer where a part would carry no patch
    """
    copies, patches = np.minimum(copies, packets), len(sizes)
    shares = np.maximum(sizes, 1e-3) * copies
    ends = np.cumsum(shares)
    middles, parts = (ends - shares / 2) / max(ends[-1], 1e-9), []
    carried = np.zeros((packets, patches), bool)
    for copy in range(int(copies.max(initial=0))):
        ranks = np.flatnonzero(copies > copy)
        carried[((middles[ranks] * packets + copy * packets / copies[ranks]) % packets).astype(int) % packets, ranks] = True
    for row in carried[carried.any(1)]:
        ranks = np.flatnonzero(row)
        gaps = np.diff(ranks, append=ranks[0] + patches)        # the range begins after the longest gap
        first = int(ranks[(int(gaps.argmax()) + 1) % len(ranks)])
        count = patches - int(gaps.max()) + 1
        chosen = b'' if count == len(ranks) else np.packbits(np.roll(row, -first)[:count]).tobytes()
        parts.append(CodedPart(first, count, b'', chosen))
    return parts


def coded_datagrams(frame: CodedFrame, parameters: StreamParameters, room: int, padded: bool = False) -> FrameDatagrams:
    """The datagrams of a frame, without numbers and checksums.

    :param room: bytes that a datagram may have, without its seal
    :param padded: make each of `room` bytes, to find out whether the path takes them (RFC 8899)
    :raises ValueError: a part does not fit, or a number is out of range
    """
    name, tokens = frame.source_frame.encode(), frame.tokens
    back = back_to(frame.frame_id, tokens.reference)
    patches = parameters.grid[0] * parameters.grid[1]
    if not tokens.parts or len(tokens.parts) > 0xFFFF:
        raise ValueError(f'a frame has {len(tokens.parts)} parts; expected 1 to 65535')
    fixed = HEADER.size + CODED_HEADER.size + len(name)
    sizes = [fixed + len(part.chosen) + len(part.payload) for part in tokens.parts]
    if max(sizes) > room:
        raise ValueError(f'a part of a frame takes {max(sizes)} bytes; expected at most {room}')
    sizes = [room] * len(sizes) if padded else even_sizes(sizes)
    datagrams = np.zeros((len(sizes), max(sizes)), np.uint8)
    for index, (first, count, payload, chosen) in enumerate(tokens.parts):
        if not (0 <= first < patches and 1 <= count <= patches and len(chosen) in (0, bitmap_bytes(count))):
            raise ValueError(f'part {index} has {count} patches from rank {first}, a bitmap of {len(chosen)} bytes and {len(payload)} '
                             f'bytes of payload; expected some of {patches}, and none or {bitmap_bytes(count)} bytes of bitmap')
        head = HEADER.pack(datagram.MAGIC, datagram.VERSION, datagram.CODED, 0, 0, 0) + CODED_HEADER.pack(
            frame.frame_id, index, len(sizes), frame.capture_stamp_ns, tokens.step, back, first, count, bool(chosen), len(name),
            len(payload)) + name
        whole = head + chosen + payload
        datagrams[index, :len(whole)] = np.frombuffer(whole, np.uint8)
    return FrameDatagrams(datagrams, sizes)
