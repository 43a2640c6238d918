"""A frame of entropy-coded tokens: how it is cut into parts by their bytes, and its datagrams."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evitif.protocol.frames.frame_datagrams import FrameDatagrams, even_sizes
from evitif.protocol.frames.interleaving import scattered_order
from evitif.protocol.wire import datagram
from evitif.protocol.wire.coded import CODED_HEADER, CodedPart, CodedTokens, back_to
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


def patches_of(first: int, count: int, grid: tuple[int, int]) -> np.ndarray:
    """The patches of a range of ranks, int [count], as numbered row by row."""
    order = scattered_order(grid)
    return order[np.arange(first, first + count) % len(order)]


def tokens_of(part: CodedPart, parameters: StreamParameters) -> np.ndarray:
    """The tokens of a part, int [n] ascending: the prefix tokens and a range of the ranked patches."""
    prefix = parameters.prefix_tokens
    return np.concatenate([np.arange(prefix), prefix + np.sort(patches_of(part.first, part.count, parameters.grid))])


def cut_by_bytes(sizes: np.ndarray, fixed: float, room: int, copies: int = 1, fewest: int = 1) -> list[tuple[int, int]]:
    """Cut the patches into ranges of nearly equal bytes: [(first rank, patches)], in sending order.

    The patches are gone through once for each copy. A later copy is cut elsewhere, so that no two ranges are the same and the loss of
    two datagrams seldom takes all copies of a patch.

    :param sizes: expected bytes of each patch, by rank, float [patches]
    :param fixed: expected bytes of a payload beside its patches: prefix tokens, the coder's end
    :param room: for a payload, bytes
    :param fewest: ranges of each copy, at least, as long as there is a patch for each
    """
    sizes = np.maximum(sizes, 1e-3)
    patches, ends = len(sizes), np.concatenate(([0.0], np.cumsum(sizes)))
    count = min(max(math.ceil(ends[-1] / max(room - fixed, 1.0)), fewest, 1), patches)
    ranges = []
    for copy in range(copies):
        marks = ends[-1] * (np.arange(count) + copy / copies) / count
        starts = np.unique(np.searchsorted(ends, marks) % patches)
        lengths = np.diff(np.append(starts, starts[0] + patches))
        ranges += zip(starts.tolist(), lengths.tolist(), strict=True)
    return ranges


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
    sizes = [fixed + len(part.payload) for part in tokens.parts]
    if max(sizes) > room:
        raise ValueError(f'a part of a frame takes {max(sizes)} bytes; expected at most {room}')
    sizes = [room] * len(sizes) if padded else even_sizes(sizes)
    datagrams = np.zeros((len(sizes), max(sizes)), np.uint8)
    for index, (first, count, payload) in enumerate(tokens.parts):
        if not (0 <= first < patches and 1 <= count <= patches):
            raise ValueError(f'part {index} has {count} patches from rank {first} in {len(payload)} bytes; expected some of {patches}')
        head = HEADER.pack(datagram.MAGIC, datagram.VERSION, datagram.CODED, 0, 0, 0) + CODED_HEADER.pack(
            frame.frame_id, index, len(sizes), frame.capture_stamp_ns, tokens.step, back, first, count, len(name), len(payload)) + name
        datagrams[index, :fixed + len(payload)] = np.frombuffer(head + payload, np.uint8)
    return FrameDatagrams(datagrams, sizes)
