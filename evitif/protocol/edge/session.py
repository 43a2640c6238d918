"""What the edge keeps of one session with the bridge."""

from __future__ import annotations

import numpy as np

from evitif.protocol.edge.pings import Pings
from evitif.protocol.rate.clock import ClockFilter
from evitif.protocol.rate.statistics import SequenceTracker
from evitif.protocol.sealing.seal import Sealer
from evitif.protocol.wire import datagram, runs
from evitif.protocol.wire.datagram import Datagram, DatagramError, ReceiverReport


class EdgeSession:
    """One session: its sequence numbers, its seal, and its figures of the link."""

    def __init__(self, session_id: int, bridge: str = '', sealer: Sealer | None = None):
        self.session_id, self.bridge, self.sealer = session_id, bridge, sealer
        self.tracker = SequenceTracker(sealed=sealer is not None)      # of what the bridge sends
        self.remote: ReceiverReport | None = None      # the bridge's last report
        self.clock = ClockFilter()
        self.pings = Pings()
        self._sequence = 0

    def build(self, kind: int, body: bytes = b'') -> bytes:
        """A datagram with the next sequence number."""
        finish = datagram.finish if self.sealer is None else self.sealer.finish
        self._sequence += 1
        return datagram.build(kind, self.session_id, self._sequence - 1, body, finish)

    def finish(self, datagrams: np.ndarray) -> np.ndarray:
        """A run, uint8 [n, size], with the next sequence numbers and checksums, or sealed."""
        finish = runs.finish if self.sealer is None else self.sealer.finish_run
        self._sequence += len(datagrams)
        return finish(datagrams, self.session_id, self._sequence - len(datagrams))

    def open(self, received: Datagram) -> Datagram:
        """A datagram of this session that was not here before. Raises DatagramError."""
        if self.sealer is not None:
            received = self.sealer.open(received)
        if not self.tracker.receive(received.sequence):
            raise DatagramError('duplicate')
        return received
