"""Cuts a frame's rows into datagrams, each of bounded size and decodable alone.

What does not change from frame to frame (headers, source frame, unit indices) is written once, into one buffer for all
datagrams of a frame. A frame then costs one `take`, a few stores, and a CRC or a seal for each datagram.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evitif.bounded import BoundedDict
from evitif.protocol.frames.frame_datagrams import MAX_FILLING, FrameDatagrams
from evitif.protocol.frames.interleaving import arrange, importance_laps, interleave, prefix_copies_of, scattered_order, units_of
from evitif.protocol.wire import datagram
from evitif.protocol.wire.datagram import HEADER, MAX_UDP_PAYLOAD, SEAL_BYTES, SOURCE_FRAME_MAX, TOKENS_HEADER, UNIT_INDEX, Finish
from evitif.protocol.wire.parameters import StreamParameters, check_count
from evitif.protocol.wire.runs import TOKENS_HEAD, heads_of
from evitif.settings import EdgeSettings, bounds_of
from evitif.vocabulary import Quantisation

MAX_DATAGRAM_BYTES = EdgeSettings.max_datagram_bytes
LEAST_DATAGRAM_BYTES = 256 - SEAL_BYTES      # what a seal leaves of the least that can be set
MIN_PACKETS = EdgeSettings.min_packets
MAX_PATCH_COPIES = int(bounds_of(EdgeSettings, 'patch_copies')[1])
PREFIX_COPIES = EdgeSettings.prefix_copies

# Room kept free for the name of the source frame when a row has to fit into a datagram.
SOURCE_FRAME_RESERVE = 64
MAX_PACKETS = 0xFFFF           # the packet count is a u16
_PLANS = 32                    # layouts kept: one for each source frame and number of tokens sent


@dataclass(frozen=True, eq=False)
class TokenFrame:
    """One frame's tokens, quantised, on their way from the edge to the bridge."""

    frame_id: int                  # u32, the edge's counter
    capture_stamp_ns: int          # i64, the source image's header stamp
    source_frame: str              # the source image's header.frame_id, at most 255 bytes of UTF-8
    rows: np.ndarray               # uint8 [units, row_bytes]
    quantisation: Quantisation | None = None      # one of the stream's `row_formats`; None: the stream's own
    sent: np.ndarray | None = None      # int [n], the tokens that travel, most important first; None: all. Other rows are not read
    patch_copies: int = 0          # packets that each patch travels in, for `FrameSender`; 0: as configured
    min_packets: int = 0           # cut no coarser than this, for `FrameSender`; 0: as configured


def row_capacity(max_datagram_bytes: int, source_frame_bytes: int = SOURCE_FRAME_RESERVE) -> int:
    """The bytes that a datagram has for unit indices and rows; a unit takes 2 bytes more than its row."""
    return max_datagram_bytes - HEADER.size - TOKENS_HEADER.size - source_frame_bytes


def groups_needed(channels: int, row_bytes_of: Callable[[int], int | None], max_datagram_bytes: int = MAX_DATAGRAM_BYTES) -> int:
    """The fewest equal channel slices of a token whose rows fit into a datagram.

    :param channels: of a token
    :param row_bytes_of: bytes of the row of a slice, by its channels; None where the quantisation cannot write such a slice
    :param max_datagram_bytes: UDP payload, our headers included
    :raises ValueError: no slice fits
    """
    room = row_capacity(max_datagram_bytes) - UNIT_INDEX.itemsize
    smallest = None
    for groups in range(1, channels + 1):
        if channels % groups == 0 and (row_bytes := row_bytes_of(channels // groups)) is not None:
            if row_bytes <= room:
                return groups
            smallest = row_bytes
    reason = 'cannot be cut into slices that the quantisation writes' if smallest is None else \
        f'take rows of at least {smallest} bytes, which do not fit into datagrams of {max_datagram_bytes} bytes'
    raise ValueError(f'tokens of {channels} channels {reason}')


def packets_of_part(min_packets: int, patches: int, whole: int) -> int:
    """The fewest packets of a frame that sends `patches` of its `whole`: their share of `min_packets`, at least 4."""
    return max(math.ceil(min_packets * patches / whole), min(min_packets, 4))


def patch_copies_of(parameters: StreamParameters, patch_copies: int, *, max_datagram_bytes: int = MAX_DATAGRAM_BYTES,
                    min_packets: int = MIN_PACKETS, prefix_copies: int = PREFIX_COPIES) -> int:
    """In how many packets each patch travels.

    :param patch_copies: this many; 0 is automatic: once, but with a transform code, whose rows are small, as often as the rows of a frame
        stay within the bytes of int8 rows sent once (RFC 2198 sends audio twice by the same reasoning: a coarse copy costs little)
    """
    if patch_copies or not parameters.code:
        return patch_copies or 1

    def row_total(row_bytes: int, copies: int) -> int:
        unit = UNIT_INDEX.itemsize + row_bytes
        packets = interleave(parameters.grid, parameters.prefix_tokens, 1, slots=max(1, row_capacity(max_datagram_bytes) // unit),
                             min_packets=min_packets, prefix_copies=prefix_copies, patch_copies=copies)
        return unit * sum(len(units) for units in packets)

    budget = row_total(4 + parameters.channels, 1)
    return next((copies for copies in range(MAX_PATCH_COPIES, 1, -1) if row_total(parameters.row_bytes, copies) <= budget), 1)


def even_out(packets: list[np.ndarray]) -> list[np.ndarray]:
    """The packets' units, evened out to one size with copies of units from half a frame away, if that takes at most MAX_FILLING."""
    largest, half = max(map(len, packets)), len(packets) // 2
    missing = [largest - len(units) for units in packets]
    if not half or sum(missing) > MAX_FILLING * sum(map(len, packets)):
        return packets
    result = []
    for index, (units, count) in enumerate(zip(packets, missing, strict=True)):
        # Half a frame away may be the other copies of the very same units.
        away = np.concatenate([packets[(index + half + step) % len(packets)] for step in range(min(half, 3))])
        result.append(np.concatenate([units, np.setdiff1d(away, units)[:count]]))
    return result


class Layout(FrameDatagrams):
    """The datagrams of frames that carry the same numbers of units; what stays the same is already written.

    :param packets: for each packet, which of the units in `packetise`'s sequence it carries
    :param units: distinct units of a frame
    """

    def __init__(self, parameters: StreamParameters, source: bytes, packets: list[np.ndarray], units: int):
        if len(packets) > MAX_PACKETS:
            raise ValueError(f'a frame takes {len(packets)} datagrams; expected at most {MAX_PACKETS}')
        self.places = np.concatenate(packets)
        self._rows = np.empty((len(self.places), parameters.row_bytes), np.uint8)
        fixed = HEADER.size + TOKENS_HEADER.size + len(source)
        counts = [len(places) for places in packets]
        unit_bytes = UNIT_INDEX.itemsize + parameters.row_bytes
        sizes = [fixed + count * unit_bytes for count in counts]
        super().__init__(np.zeros((len(sizes), max(sizes)), np.uint8), sizes)
        heads = heads_of(self.datagrams)
        heads['magic'], heads['version'], heads['type'] = datagram.MAGIC, datagram.VERSION, datagram.TOKENS
        tokens = heads_of(self.datagrams[:, HEADER.size:], TOKENS_HEAD)
        tokens['index'], tokens['count'] = np.arange(self.packets), self.packets
        tokens['quantisation'] = parameters.quantisation.number
        tokens['row_bytes'], tokens['units'], tokens['sent'], tokens['name'] = parameters.row_bytes, counts, units, len(source)
        self._frame_ids, self._stamps = tokens['frame_id'], tokens['stamp']
        self.datagrams[:, HEADER.size + TOKENS_HEADER.size:fixed] = np.frombuffer(source, np.uint8)
        # Where units and rows lie: once for all datagrams, or for each if they differ in size.
        ends = np.cumsum(counts).tolist()
        parts = [(self.datagrams, slice(None), counts[0])] if len(set(counts)) == 1 else \
            [(self.datagrams[k:k + 1], slice(end - count, end), count) for k, (count, end) in enumerate(zip(counts, ends, strict=True))]
        self._units: list[tuple[np.ndarray, slice]] = []
        self._areas: list[tuple[np.ndarray, np.ndarray]] = []
        for whole, part, count in parts:
            rows_at = fixed + UNIT_INDEX.itemsize * count
            self._units.append((whole[:, fixed:rows_at].view(UNIT_INDEX), part))
            shape = len(whole), count, parameters.row_bytes
            area = whole[:, rows_at:rows_at + count * parameters.row_bytes]
            self._areas.append((area, self._rows[part].reshape(shape[0], -1)))

    def name(self, sequence: np.ndarray) -> np.ndarray:
        """Write which units of `sequence` the datagrams carry; returns them, int [len(places)]."""
        units = sequence[self.places]
        for target, part in self._units:
            target[:] = units[part].reshape(target.shape)
        return units

    def write(self, frame: TokenFrame, units: np.ndarray) -> None:
        """Write a frame's rows `units` into the datagrams; numbers and checksums are still missing."""
        # 'clip' spares numpy a buffer; all indices are in range.
        np.take(frame.rows, units, axis=0, out=self._rows, mode='clip')
        self._frame_ids[:], self._stamps[:] = frame.frame_id, frame.capture_stamp_ns
        for area, rows in self._areas:
            area[:] = rows


class Packetiser:
    """Cut frames of `parameters` into datagrams.

    :param max_datagram_bytes: largest UDP payload, our headers included
    :param min_packets: cut no coarser than this, so that one loss costs little, while there is a patch for each packet
    :param prefix_copies: datagrams that each prefix unit travels in, 0: automatic
    :param patch_copies: datagrams that each patch's units travel in, 0: automatic (`patch_copies_of`)
    :raises ValueError: a unit's row does not fit into a datagram; the text says how many groups would do
    """

    def __init__(self, parameters: StreamParameters, *, max_datagram_bytes: int = MAX_DATAGRAM_BYTES,
                 min_packets: int = MIN_PACKETS, prefix_copies: int = PREFIX_COPIES, patch_copies: int = 0):
        check_count('max_datagram_bytes', max_datagram_bytes, LEAST_DATAGRAM_BYTES, MAX_UDP_PAYLOAD)
        check_count('min_packets', min_packets, 1, 65535)
        check_count('prefix_copies', prefix_copies, 0, 65535)
        check_count('patch_copies', patch_copies, 0, MAX_PATCH_COPIES)
        room = row_capacity(max_datagram_bytes) - 2
        if parameters.row_bytes > room:
            needed = math.ceil(parameters.row_bytes * parameters.groups / room)
            while parameters.channels % needed and needed < parameters.channels:
                needed += 1
            raise ValueError(f'row_bytes is {parameters.row_bytes}; expected at most {room} in datagrams of '
                             f'{max_datagram_bytes} bytes: cut tokens into at least {needed} groups, '
                             f'not {parameters.groups}')
        self.parameters = parameters
        self.max_datagram_bytes = max_datagram_bytes
        self.min_packets = min_packets
        self.prefix_copies = prefix_copies
        self.patch_copies = patch_copies_of(parameters, patch_copies, max_datagram_bytes=max_datagram_bytes,
                                            min_packets=min_packets, prefix_copies=prefix_copies)
        self._layouts: BoundedDict[tuple, Layout] = BoundedDict(_PLANS)
        self._rank = np.argsort(scattered_order(parameters.grid))

    def packetise(self, frame: TokenFrame, session_id: int = 0, first_sequence: int = 0, finish: Finish = datagram.finish) -> list[bytes]:
        """The datagrams of `frame`, in sending order, with sequence numbers from `first_sequence` on.

        :param finish: adds the checksum, or seals; what it adds comes on top of `max_datagram_bytes`
        :raises ValueError: see `prepare`
        """
        layout = self.prepare(frame)
        return [finish(layout.datagrams[index, :size].data, session_id, first_sequence + index) for index, size in enumerate(layout.sizes)]

    def prepare(self, frame: TokenFrame) -> Layout:
        """The datagrams of `frame` without numbers and checksums, in a buffer that the next frame overwrites.

        Raises ValueError if the rows are not uint8 [units, row_bytes], `sent` is not of different tokens, a number is out of range, or the
        source frame's name is too long for a datagram.
        """
        shape = (self.parameters.units, self.parameters.row_bytes)
        if not isinstance(frame.rows, np.ndarray) or frame.rows.dtype != np.uint8 or frame.rows.shape != shape:
            raise ValueError(f'rows are {getattr(frame.rows, "dtype", type(frame.rows).__name__)} '
                             f'{list(getattr(frame.rows, "shape", ()))}; expected uint8 {list(shape)}')
        if not 0 <= frame.frame_id <= 0xFFFFFFFF:
            raise ValueError(f'frame_id is {frame.frame_id}; expected 0 to 2**32 - 1')
        if not -(1 << 63) <= frame.capture_stamp_ns < 1 << 63:
            raise ValueError(f'capture_stamp_ns is {frame.capture_stamp_ns}; expected a signed 64-bit number')
        source = frame.source_frame.encode()
        if frame.sent is None:
            layout = self._layout_of_all(source)
            units = layout.places
        else:
            layout, sequence = self._layout_of_some(source, self._checked(frame.sent))
            units = layout.name(sequence)
        layout.write(frame, units)
        return layout

    @property
    def longest_name(self) -> int:
        """The bytes that the source frame's name may take, so that a row still fits into a datagram."""
        return min(SOURCE_FRAME_MAX, row_capacity(self.max_datagram_bytes, 0) - UNIT_INDEX.itemsize - self.parameters.row_bytes)

    def packets(self, source_frame: str = '') -> int:
        """How many datagrams a frame with this source frame becomes, where all its tokens are sent."""
        return self._layout_of_all(source_frame.encode()).packets

    def _checked(self, sent: object) -> np.ndarray:
        tokens = self.parameters.tokens
        if not isinstance(sent, np.ndarray) or sent.ndim != 1 or not np.issubdtype(sent.dtype, np.integer) \
                or not 1 <= len(sent) <= tokens or sent.min() < 0 or sent.max() >= tokens or len(np.unique(sent)) < len(sent):
            raise ValueError(f'sent is {str(sent):.80}; expected an array of 1 to {tokens} different tokens, 0 to {tokens - 1}')
        return sent.astype(np.int64)

    def _layout_of_all(self, source: bytes) -> Layout:
        def build(slots: int) -> Layout:
            p = self.parameters
            packets = interleave(p.grid, p.prefix_tokens, p.groups, slots=slots, min_packets=self.min_packets,
                                 prefix_copies=self.prefix_copies, patch_copies=self.patch_copies)
            layout = Layout(p, source, even_out(packets), p.units)
            layout.name(np.arange(p.units))
            return layout

        return self._cached((source,), source, build)

    def _layout_of_some(self, source: bytes, sent: np.ndarray) -> tuple[Layout, np.ndarray]:
        """The layout for as many tokens as `sent`, and the sequence of units that its places point into."""
        p = self.parameters
        prefix, patches = np.sort(sent[sent < p.prefix_tokens]), sent[sent >= p.prefix_tokens] - p.prefix_tokens
        order, laps = importance_laps(patches, self._rank, self.patch_copies)
        sequence = units_of(np.concatenate([prefix, p.prefix_tokens + order]), p.groups)

        def build(slots: int) -> Layout:
            wanted = prefix_copies_of(p.prefix_tokens, len(patches), self.prefix_copies)
            packets = arrange(laps, [wanted[token] for token in prefix], p.groups, slots=slots,
                              min_packets=packets_of_part(self.min_packets, len(patches), len(self._rank)))
            first = len(prefix) * p.groups
            places = [np.concatenate([np.asarray(units, np.int64), np.arange(first + part.start, first + part.stop)])
                      for units, part in packets]
            return Layout(p, source, places, len(sent) * p.groups)

        return self._cached((source, tuple(prefix.tolist()), len(patches)), source, build), sequence

    def _cached(self, key: tuple, source: bytes, build: Callable[[int], Layout]) -> Layout:
        layout = self._layouts.get(key)
        if layout is None:
            slots = row_capacity(self.max_datagram_bytes, len(source)) // (2 + self.parameters.row_bytes)
            if len(source) > SOURCE_FRAME_MAX or slots < 1:
                raise ValueError(f'source_frame takes {len(source)} bytes; expected at most {SOURCE_FRAME_MAX}, and '
                                 f'room for a row of {self.parameters.row_bytes} in a datagram of '
                                 f'{self.max_datagram_bytes} bytes')
            layout = build(slots)
        self._layouts[key] = layout
        return layout
