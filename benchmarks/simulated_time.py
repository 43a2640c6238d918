"""Edge and bridge in simulated time: what is due happens in order, and after it both say what they have to."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

from evitif.protocol.bridge.endpoint import BridgeEndpoint
from evitif.protocol.edge.connection import EdgeConnection


class SimulatedTime:
    """The clock of one edge and one bridge, and what happens at which time.

    :param exchange: carries what both have to send, and takes their events
    """

    def __init__(self, edge: EdgeConnection, bridge: BridgeEndpoint, exchange: Callable[[], object]):
        self.now = 0.0
        self._edge, self._bridge, self._exchange = edge, bridge, exchange
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def at(self, when: float, action: Callable[[], object]) -> None:
        """Call `action` at that time. If it returns an empty set, it concerned neither edge nor bridge."""
        heapq.heappush(self._queue, (when, next(self._order), action))

    def run(self, until: float) -> None:
        """Let time pass until then."""
        self._exchange()
        while True:
            timers = [timer for timer in (self._edge.get_timer(), self._bridge.get_timer()) if timer is not None]
            arrival = self._queue[0][0] if self._queue else math.inf
            when = min([*timers, arrival])
            if when > until:
                break
            self.now = max(self.now, when)
            if arrival <= when:
                if heapq.heappop(self._queue)[2]() == set():
                    continue
            else:
                self._edge.handle_timer(self.now)
                self._bridge.handle_timer(self.now + 1e-9)
            self._exchange()
        self.now = until
