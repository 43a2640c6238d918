"""What a frame and its answer take on a sealed link, in bytes of UDP payload: measured on real datagrams.

An image that a codec made is counted in the same datagrams, so that what is compared is the image's bytes alone.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from evitif.protocol.frames.packetiser import MAX_DATAGRAM_BYTES, Packetiser, TokenFrame
from evitif.protocol.rate.copies import answer_copies
from evitif.protocol.wire import answer, datagram
from evitif.protocol.wire.answer import Answer
from evitif.protocol.wire.datagram import HEADER, SEAL_BYTES, TOKENS_HEADER
from evitif.protocol.wire.parameters import StreamParameters
from evitif.selection.sending import copies_for, packets_for

_HEADERS = HEADER.size + TOKENS_HEADER.size + SEAL_BYTES
DATAGRAM_ROOM = MAX_DATAGRAM_BYTES - _HEADERS
DELIVERED = 0.99        # of the images, where an erasure code is given parity for a loss


class SelectedFrames:
    """The datagrams of frames that carry some of the patches of a stream, in as many copies as a packet error rate asks for."""

    def __init__(self, parameters: StreamParameters, packet_error_rate: float = 0.0):
        self._parameters, self._rate = parameters, packet_error_rate
        self._rows = np.zeros((parameters.units, parameters.row_bytes), np.uint8)
        self._packetisers: dict[int, Packetiser] = {}
        self._sizes: dict[int, int] = {}

    def packets(self, chosen: np.ndarray) -> list[np.ndarray]:
        """For patches int64 [k], most important first: which of them each datagram carries."""
        frame = TokenFrame(0, 0, '', self._rows, sent=np.asarray(chosen, np.int64))
        datagrams = self._packetiser(copies_for(self._rate, patches=len(chosen))).packetise(frame)
        self._sizes[len(chosen)] = sum(len(packet) + SEAL_BYTES for packet in datagrams)
        return [datagram.parse_tokens(datagram.parse(packet).body).units.astype(np.int64) for packet in datagrams]

    def bytes(self, patches: int) -> int:
        """Of a frame with so many patches."""
        if patches not in self._sizes:
            self.packets(np.arange(patches))
        return self._sizes[patches]

    def _packetiser(self, copies: int) -> Packetiser:
        if copies not in self._packetisers:
            self._packetisers[copies] = Packetiser(self._parameters, max_datagram_bytes=MAX_DATAGRAM_BYTES - SEAL_BYTES,
                                                   min_packets=packets_for(copies, self._rate), patch_copies=copies)
        return self._packetisers[copies]


def image_datagrams(image_bytes: int) -> int:
    """Datagrams that an image of so many bytes is cut into."""
    return max(1, math.ceil(image_bytes / DATAGRAM_ROOM))


def image_bytes_on_wire(image_bytes: int, packet_error_rate: float = 0.0) -> int:
    """Bytes of an image with headers and seals, and with the ideal erasure code's parity where something is lost: any
    `image_datagrams` of those that are sent suffice, and as many are sent that they arrive but for 1 % of the images."""
    needed = image_datagrams(image_bytes)
    if not packet_error_rate:
        return image_bytes + needed * _HEADERS
    sent = datagrams_with_parity(needed, packet_error_rate)
    return sent * (math.ceil(image_bytes / needed) + _HEADERS)


@cache
def datagrams_with_parity(needed: int, packet_error_rate: float) -> int:
    """The fewest datagrams of which `needed` arrive with a probability of at least DELIVERED, losses being independent."""
    sent, p = needed, packet_error_rate
    while sum(math.comb(sent, k) * (1 - p)**k * p**(sent - k) for k in range(needed, sent + 1)) < DELIVERED:
        sent += 1
    return sent


@cache
def answer_bytes(classes: int, patches: int, packet_error_rate: float = 0.0, top_k: int = 5) -> int:
    """Bytes of all copies of an answer to a frame of which `patches` could have been sent; 0 for an image as one piece."""
    k = min(top_k, classes)
    body = answer.encode(Answer(
        frame_id=0, capture_stamp_ns=0, class_ids=tuple(range(k)), scores=(0.0,) * k, strategy='selection', recovery='omission',
        packets_received=1, packets_expected=1, bytes_received=0, tokens_received=0, tokens_expected=patches,
        received=np.zeros(patches, bool), packet_error_rate=packet_error_rate, first_arrival=0.0, wait_s=0.0, recovery_s=0.0,
        tail_s=0.0, hold_s=0.0), 1)
    return (HEADER.size + len(body) + SEAL_BYTES) * answer_copies(packet_error_rate)
