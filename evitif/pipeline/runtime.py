"""What both halves have in common at run time: a strategy, a socket with its thread, a worker thread, a log and counts."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import Generic, TypeVar

from evitif.pipeline.slot import LatestSlots
from evitif.pipeline.strategy import BridgeStrategy, EdgeStrategy
from evitif.pipeline.threads import choose_threads
from evitif.protocol.bridge.endpoint import BridgeEndpoint
from evitif.protocol.edge.connection import EdgeConnection
from evitif.protocol.sealing.keys import UNSEALED_WARNING
from evitif.repeated_log import RepeatedLog
from evitif.settings import BATCHING, LinkSettings
from evitif.transport import UdpLoop
from evitif.transport.trace_writer import TraceWriter

Log = Callable[[int, str], None]      # takes a level (logging.INFO, …) and a sentence
Item = TypeVar('Item')                # what waits in the slots
Half = TypeVar('Half', bound=EdgeStrategy | BridgeStrategy)


def log_to_python(level: int, text: str) -> None:
    """Log as Python's libraries do."""
    logging.getLogger(__name__).log(level, text)


class Runtime(ABC, Generic[Half, Item]):
    """:param link: the protocol's half of the link; `bind` or `remote` is its address, as `UdpLoop` has it"""

    def __init__(self, config: LinkSettings, strategy: Half, link: EdgeConnection | BridgeEndpoint, *,
                 on_event: Callable[[object], None], log: Log, bind: tuple[str, int] | None = None, remote: tuple[str, int] | None = None):
        self.config = config
        self.threads = ''                     # one sentence about how many PyTorch computes with, once started
        self._strategy: Half = strategy
        self.labels, self.description, self.placement = strategy.labels, strategy.description, strategy.placement
        self.heads = strategy.heads           # that answer beside the model's own classifier
        self._on_event, self._log = on_event, log
        self._repeated = RepeatedLog(log)     # of what comes with each frame or datagram
        self._trace: TraceWriter | None = None
        if config.trace_folder:
            self._trace = link.on_arrivals = TraceWriter(config.trace_folder, 'downlink' if bind is None else 'uplink', log)
        self._loop = UdpLoop(link, bind=bind, remote=remote, on_event=self._handle, batching=BATCHING[config.batching],
                             traffic_class=4 * config.dscp)
        self._slots: LatestSlots[Item] = LatestSlots()
        self._lock = threading.Lock()         # guards the counts and the subclass's state
        self._counts: Counter[str] = Counter()
        self._worker: threading.Thread | None = None

    def _prepare(self, *more: str) -> None:
        """Say what runs, and `more` about it, and choose PyTorch's threads."""
        for sentence in (self.description, *more):
            self._log(logging.INFO, sentence)
        if self.config.unsealed:
            self._log(logging.WARNING, UNSEALED_WARNING)
        self.threads = choose_threads(self.config.threads, self._strategy.warm_up)
        self._log(logging.INFO, self.threads)

    def _run(self, name: str) -> None:
        """Start the socket's thread and the worker. Raises TransportError (an OSError), see `UdpLoop.start`."""
        self._loop.start()
        self._worker = threading.Thread(target=self._work, name=name, daemon=True)
        self._worker.start()

    def _join_worker(self) -> None:
        """Wait for the worker, whose slots are closed."""
        if self._worker is not None:
            self._worker.join()
            self._worker = None

    def _end(self) -> None:
        """End the socket's thread, once the worker has ended, and the trace."""
        self._loop.stop()
        if self._trace is not None:
            self._trace.close()

    @abstractmethod
    def _work(self) -> None:
        """The worker's thread: take from the slots until they are closed."""

    @abstractmethod
    def _handle(self, event: object) -> None:
        """Take an event of the link, in the socket's thread or in that of `UdpLoop.call`."""

    def _add(self, **counts: int) -> None:
        with self._lock:
            self._counts.update(counts)
