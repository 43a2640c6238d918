"""`Driver`: the calls into a protocol object without I/O. A fault of the protocol is logged and ends nothing."""

from __future__ import annotations

import collections
import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from evitif.repeated_log import RepeatedLog
from evitif.transport.addresses import SocketAddress

# A datagram or a run of one size, its sender, when it arrived, and the ECN field of its IP header.
Arrived = tuple[memoryview | np.ndarray, SocketAddress, float, int]


class ProtocolObject(Protocol):
    """What a loop drives: `EdgeConnection`, or `BridgeEndpoint`, whose datagrams carry an address.

    It may have `receive_run`, as `receive_datagram` but for datagrams of one size that came together, uint8 [n, size], which it may write
    to; and, without addresses, `run_to_send(now)` instead of `datagrams_to_send`: one datagram or such a run at a time, until None. What
    it receives is valid until the call returns; the loop reads what it sends before it asks for more. With several remotes `run_to_send`
    says where to as well; `remote_at(index, address)` is told where each of them is, and `expects(address)` says who is heard.
    """
    @property
    def receive_datagram(self) -> Callable[..., None]:
        """Takes data, with addresses the sender, `now`, when the datagram arrived, and where it `takes_ecn` its ECN field (RFC 3168)."""
        ...

    def datagrams_to_send(self, now: float) -> Sequence[Any]:
        """Datagrams; with addresses (datagram, address)."""
        ...

    def get_timer(self) -> float | None:
        """When `handle_timer` is due."""
        ...

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        ...

    def next_event(self) -> object | None:
        """The next event, None where there is none."""
        ...

    def close(self, now: float) -> None:
        """Say goodbye."""
        ...


class Driver:
    """Calls one protocol object, whose datagrams carry an address if it is `addressed`. Not thread-safe."""

    def __init__(self, protocol: ProtocolObject, addressed: bool, log: logging.Logger):
        self._protocol, self._addressed = protocol, addressed
        self._run_to_send = getattr(protocol, 'run_to_send', None)
        self._takes_ecn = getattr(protocol, 'takes_ecn', False)
        self._receive_run = getattr(protocol, 'receive_run', None)
        self._repeated = RepeatedLog(log.log)       # each datagram may cause the same message
        self.events: collections.deque[object] = collections.deque()

    def receive(self, batch: list[Arrived], now: float) -> None:
        """Hand over what arrived, in order."""
        receive_datagram, receive_run = self._protocol.receive_datagram, self._receive_run
        for data, address, arrived_at, ecn in batch:
            about: tuple = (address, now, arrived_at) if self._addressed else (now, arrived_at)
            if self._takes_ecn:
                about += (ecn,)
            if not isinstance(data, np.ndarray):
                self.guarded(receive_datagram, data, *about)
            elif receive_run is not None:
                self.guarded(receive_run, data, *about)
            else:
                for row in data:
                    self.guarded(receive_datagram, row.data, *about)

    def timer(self) -> float | None:
        """When the protocol's timer is due, None without one."""
        return self.guarded(self._protocol.get_timer)

    def handle_timer(self, now: float) -> None:
        """Let the protocol do what is due."""
        self.guarded(self._protocol.handle_timer, now)

    def close(self, now: float) -> None:
        """Let the protocol say goodbye."""
        self.guarded(self._protocol.close, now)

    def collect_events(self) -> None:
        """Take the protocol's events into `events`."""
        while (event := self.guarded(self._protocol.next_event)) is not None:
            self.events.append(event)

    def to_send(self, now: float) -> Iterator[tuple[Sequence, SocketAddress | None]]:
        """What to send, and to whom: datagrams, or some of one size, uint8 [n, size]. Send each before asking for the next."""
        if self._run_to_send is not None and self._addressed:
            yield from self._addressed_runs(self._run_to_send, now)
            return
        if self._run_to_send is not None:
            yield from ((datagrams, None) for datagrams in self._runs_to_send(self._run_to_send, now))
            return
        pending = self.guarded(self._protocol.datagrams_to_send, now)
        if not self._addressed:
            if pending:
                yield pending, None
            return
        by_address: dict[SocketAddress, list] = {}
        for data, address in pending or ():
            by_address.setdefault(address, []).append(data)
        yield from ((datagrams, address) for address, datagrams in by_address.items())

    def _addressed_runs(self, run_to_send: Callable, now: float) -> Iterator[tuple[Sequence, SocketAddress | None]]:
        single: list[bytes] = []
        where = None
        while (found := self.guarded(run_to_send, now)) is not None:
            run, address = found
            if single and (address != where or not isinstance(run, bytes)):
                yield single, where
                single = []
            where = address
            if isinstance(run, bytes):
                single.append(run)
            else:
                yield run, address
        if single:
            yield single, where

    def _runs_to_send(self, run_to_send: Callable, now: float) -> Iterator[Sequence]:
        single: list[bytes] = []
        while True:
            run = self.guarded(run_to_send, now)
            if isinstance(run, bytes):
                single.append(run)
                continue
            if single:
                yield single
                single = []
            if run is None:
                return
            yield run

    def guarded(self, function: Callable, *arguments: object) -> Any:
        """What a function of the protocol or a callback returns; None, and a message in the log, where it fails."""
        try:
            return function(*arguments)
        except Exception as error:  # noqa: BLE001 - the other datagrams, timers and events go on
            name = getattr(function, '__qualname__', repr(function))
            first = arguments[0] if arguments else ''
            first = str(bytes(first[:80]) if isinstance(first, memoryview) else first)[:80]
            self._repeated(logging.ERROR, f'{name}({first}) failed:\n{traceback.format_exc()}', (name, type(error)))
            return None
