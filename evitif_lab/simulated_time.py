"""Simulated time: what is due happens in order. With an edge and a bridge in it, both say after each event what they have to."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence

from evitif.protocol.bridge.endpoint import BridgeEndpoint
from evitif.protocol.edge.connection import EdgeConnection


class Timeline:
    """What happens at which time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def at(self, when: float, action: Callable[[], object]) -> None:
        """Call `action` at that time, or as soon as may be where it has passed."""
        heapq.heappush(self._queue, (when, next(self._order), action))

    @property
    def next(self) -> float:
        """When the next event is; infinite where there is none."""
        return self._queue[0][0] if self._queue else math.inf

    def step(self) -> object:
        """Let time pass until the next event, and return what it returns."""
        when, _, action = heapq.heappop(self._queue)
        self.now = max(self.now, when)
        return action()


class SimulatedTime(Timeline):
    """The clock of one edge, or several, and one bridge. An action that returns an empty set concerned none of them.

    :param exchange: carries what all have to send, and takes their events
    """

    def __init__(self, edge: EdgeConnection | Sequence[EdgeConnection], bridge: BridgeEndpoint, exchange: Callable[[], object]):
        super().__init__()
        self._edges = (edge,) if isinstance(edge, EdgeConnection) else tuple(edge)
        self._bridge, self._exchange = bridge, exchange

    def run(self, until: float) -> None:
        """Let time pass until then."""
        self._exchange()
        while True:
            timers = [timer for timer in (*(edge.get_timer() for edge in self._edges), self._bridge.get_timer()) if timer is not None]
            when = min([*timers, self.next])
            if when > until:
                break
            if self.next <= when:
                if self.step() == set():
                    continue
            else:
                self.now = max(self.now, when)
                for edge in self._edges:
                    edge.handle_timer(self.now)
                self._bridge.handle_timer(self.now + 1e-9)
            self._exchange()
        self.now = until
