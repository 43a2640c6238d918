"""The ideal erasure code at work: Reed-Solomon by zfec (GPL or TGPPL; not part of evitif)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from evitif_lab.rivals.parity import HEADER, MAX_DATAGRAMS, data_datagrams, datagrams_needed

try:
    import zfec
except ImportError:         # requirements/bench.txt
    zfec = None

MISSING = 'zfec is not installed: `pip install -r requirements/bench.txt`'


@dataclass(frozen=True)
class Encoder:
    """Data into datagrams for one link."""

    loss: float
    burst: float = 1.0

    def datagrams(self, frame: int, data: bytes) -> list[bytes]:
        """Datagrams of equal size, of which any `data_datagrams(len(data))` are enough."""
        k = data_datagrams(len(data))
        size = math.ceil(len(data) / k)
        padded = data.ljust(k * size, b'\0')
        blocks = [padded[at:at + size] for at in range(0, k * size, size)]
        blocks = zfec.Encoder(k, datagrams_needed(k, self.loss, self.burst)).encode(blocks)
        return [HEADER.pack(frame, len(data), k, index) + block for index, block in enumerate(blocks)]


class Decoder:
    """Datagrams into data, for the newest few frames."""

    FRAMES = 8

    def __init__(self):
        self._frames: dict[int, dict[int, bytes] | None] = {}      # None: it is complete

    def take(self, datagram: bytes) -> tuple[int, bytes] | None:
        """The frame's number and data when this is the datagram that completes it."""
        frame, size, k, index = HEADER.unpack_from(datagram)
        if frame not in self._frames:
            self._frames[frame] = {}
            while len(self._frames) > self.FRAMES:
                self._frames.pop(next(iter(self._frames)))
        blocks = self._frames[frame]
        if blocks is None:
            return None
        blocks[index] = bytes(datagram[HEADER.size:])
        if len(blocks) < k:
            return None
        self._frames[frame] = None
        # Of the field's size whatever n was sent: the first n blocks are the same.
        parts = zfec.Decoder(k, MAX_DATAGRAMS).decode(list(blocks.values()), list(blocks))
        return frame, b''.join(parts)[:size]
