"""
`UdpLoop`: one UDP socket and one thread that drive one protocol object without I/O.

The rules, which keep latency low and the order right:

- The protocol object is touched only under the lock, whoever does so: the loop's thread or a caller of `call`.
- What the protocol wants to send is sent by the thread that made it want to: `call(send_frame)` puts the frame on the
  wire before it returns, without a hand-over to the loop's thread.
- Events are taken from the protocol under the lock and handed to `on_event` outside it, always in the loop's thread,
  one at a time, in the order in which the protocol made them. A callback may therefore use `call`, and needs no lock of
  its own; while it works, datagrams wait in the kernel's receive buffer, so it should hand long work to another thread.
- A send that the kernel cannot take now is lost, as on the air, and counted. Nothing is kept to be sent late.
- Datagrams go to and come from the kernel in runs, one system call each, where it can do that (`batching`). What came
  is handed to the protocol where it lies, as a view of the loop's buffer.
- The network's errors are counted; they end neither the loop nor a call.
- A remote that is silent is looked up again (`remote_name`): its name may stand for another address by now, or resolve at last.
"""

from __future__ import annotations

import collections
import logging
import math
import selectors
import socket
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from evitif.repeated_log import RepeatedLog
from evitif.transport.addresses import (
    TransportError,
    check_address,
    format_address,
    granted_receive_buffer,
    kernel_drops,
    open_udp_socket,
    resolve,
)
from evitif.transport.batching import choose_calls
from evitif.transport.counters import ErrorCounts, UdpStatistics
from evitif.transport.remote_name import RemoteName

T = TypeVar('T')

SEND_BUFFER_BYTES = 1 << 20     # several frames; the kernel's default of 208 KiB is two at fp16
STOP_TIMEOUT_S = 10.0
TIMER_PATIENCE_S = 0.01        # how long a due timer waits for the datagrams that had arrived before it
CLOCK_STEP_S = 0.001            # between two batches; the kernel's stamps of the later one are then not relied on
TIMER_GRAIN_S = 0.001           # a timer that stays in the past is called again no sooner than this


class UdpLoop:
    """
    Drive an `EdgeConnection` (give `remote`) or a `BridgeEndpoint` (give `bind`) over UDP.

    The protocol object has `receive_datagram(data, now, arrived_at)` where `remote` is given, else
    `receive_datagram(data, addr, now, arrived_at)`; `datagrams_to_send(now)` of bytes or of (bytes, addr);
    `get_timer()`, `handle_timer(now)`, `next_event()`, `close(now)`. It may have `receive_run`, as
    `receive_datagram` but for datagrams of one size that came together, uint8 [n, size], which it may write to, and, with
    `remote`, `run_to_send(now)` instead of `datagrams_to_send`: one datagram or such a run at a time, until None. The
    `data` that it receives is valid until the call returns; what it sends is read before it is asked for more. The
    order is kept for each address. `arrived_at` is when the kernel got the datagram, on the loop's
    clock: never after `now`, and before it by as long as the thread waited for the processor. Where the kernel does not
    tell, it is when the datagram was read. Neither goes backwards.

    With `remote` the socket is filtered by address here rather than connected: the kernel fixes a connected socket's
    own address, and a robot that roams to another network would go on sending from the address it has lost.

    :param remote: (host, port) of the bridge; resolved by `start`, and again while nothing comes from it
    :param bind: (host, port) to listen on; '' or 0.0.0.0 is every IPv4 interface, :: every interface, port 0 a free
        port
    :param on_event: called with each event, in the loop's thread, outside the lock; what it raises is logged
    :param receive_buffer_bytes: asked of the kernel; `granted_receive_buffer_bytes` says what it gave
    :param batching: whether a system call takes a run of datagrams (see `batching`): None where the system can, True
        always, which `start` refuses where it cannot, False never
    :param traffic_class: of the datagrams sent, the DSCP times four (RFC 2474)
    :param clock: seconds, monotonic
    :raises TransportError: where neither `remote` nor `bind` is given, or a port is out of range
    """

    def __init__(
        self,
        protocol,
        *,
        remote: tuple[str, int] | None = None,
        bind: tuple[str, int] | None = None,
        on_event: Callable[[object], None],
        receive_buffer_bytes: int = 4 << 20,
        batching: bool | None = None,
        traffic_class: int = 0,
        clock: Callable[[], float] = time.monotonic,
        log: logging.Logger | None = None,
    ):
        if remote is None and bind is None:
            raise TransportError('expected remote=(host, port) to send to or bind=(host, port) to listen on')
        self.protocol = protocol
        self.granted_receive_buffer_bytes = 0
        self._remote = None if remote is None else check_address(remote, 'remote')
        self._remote_name: RemoteName | None = None
        self._remote_address: tuple | None = None       # None where it is not known, or there is none
        self._bind = None if bind is None else check_address(bind, 'bind')
        self._on_event = on_event
        self._receive_buffer_bytes = receive_buffer_bytes
        self._batching = batching
        self._traffic_class = traffic_class
        self._clock = clock
        self._log = log or logging.getLogger(__name__)
        self._repeated = RepeatedLog(self._log.log)     # of what comes with each datagram

        self._lock = threading.RLock()
        self._events = collections.deque()
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None
        self._stopping = False
        self._more_waiting = False      # the last batch ended before the kernel had no more
        self._latest_now = -math.inf    # the protocol's time does not go backwards
        self._latest_arrival = -math.inf
        self._ahead = math.nan          # of the system's clock, which stamps what arrives: the loop's clock, seconds
        self._next_wake = -math.inf     # when the waiting loop wakes by itself; -inf while it is awake

    # --- from any thread ---

    @property
    def local_address(self) -> tuple[str, int]:
        """
        (host, port) that the socket is bound to.

        :raises TransportError: where the loop is not running
        """
        with self._lock:
            return self._open_socket().getsockname()[:2]

    @property
    def running(self) -> bool:
        """Whether `call` would be answered: between `start` and `stop`."""
        return self._socket is not None and not self._stopping

    @property
    def remote_problem(self) -> str:
        """Why the remote's address is not known, as a sentence; nothing where it is."""
        return self._remote_name.problem if self._remote_name else ''

    def start(self) -> None:
        """
        Resolve, open the socket, start the thread. A remote that does not resolve now is looked up again and again.

        :raises TransportError: where it is running already, the remote can be no host's address, the address cannot be
            bound, or `batching` is True and the kernel cannot
        """
        if self._thread is not None:
            raise TransportError('the UDP loop was started already, expected stop() first')
        family = self._resolve()
        self._sent = self._bytes_sent = self._received = self._bytes_received = self._foreign = 0
        self._send_errors = ErrorCounts(self._log)
        self._receive_errors = ErrorCounts(self._log)
        self._stopping = False
        self._socket = self._open(family)
        self.granted_receive_buffer_bytes = granted_receive_buffer(self._socket)
        if self.granted_receive_buffer_bytes < self._receive_buffer_bytes:
            self._log.warning(
                'UDP receive buffer of %s: asked for %d bytes, the kernel granted %d; bursts may be dropped '
                'before they are read (on Linux: sysctl net.core.rmem_max=%d)',
                format_address(self._socket.getsockname()), self._receive_buffer_bytes,
                self.granted_receive_buffer_bytes, self._receive_buffer_bytes,
            )
        self._waker, self._wake_receiver = socket.socketpair()
        self._waker.setblocking(False)
        self._wake_receiver.setblocking(False)
        name = format_address(self._remote or self._socket.getsockname())
        self._thread = threading.Thread(target=self._run, name=f'udp {name}', daemon=True)
        self._thread.start()

    def _resolve(self) -> int | None:
        """The address family to open a socket of: the remote's, None where it is not known."""
        self._remote_name = self._remote_address = None
        if self._remote is None:
            return None
        self._remote_name = RemoteName(self._remote, self._wake, self._log)
        found = self._remote_name.resolve(self._clock())
        if found is None:
            return None
        self._remote_address = found[1]
        return found[0]

    def _open(self, family: int | None) -> socket.socket:
        """A socket of that family, where it has to be one, and the calls for it."""
        family, local = self._local_address_for(family)
        udp = open_udp_socket(
            family, local, receive_buffer_bytes=self._receive_buffer_bytes, send_buffer_bytes=SEND_BUFFER_BYTES,
            traffic_class=self._traffic_class
        )
        try:
            self._sender, self._receiver = choose_calls(udp, self._batching, self._log)
            self._receiver.ask_for_stamps()
        except TransportError:
            udp.close()
            raise
        return udp

    def stop(self) -> None:
        """
        Close the protocol (it says goodbye), hand out its last events, close the socket and join the thread.

        May be called again, before `start`, and from `on_event`, where it cannot join and returns at once. `start` may
        follow.
        """
        thread = self._thread
        if thread is None:
            return
        with self._lock:
            self._stopping = True
            if self._socket is not None:
                self._wake()
        if thread is threading.current_thread():
            return
        thread.join(STOP_TIMEOUT_S)
        if thread.is_alive():
            self._log.error('%s did not end within %.0f s: on_event does not return', thread.name, STOP_TIMEOUT_S)
            return
        self._thread = None

    def call(self, function: Callable[[float], T]) -> T:
        """
        Run `function(now)` under the lock in the caller's thread and send what it made to send before returning.

        Events that it made are handed out later, in the loop's thread. May be nested, and used within `on_event`.

        :raises TransportError: where the loop is not running
        :raises Exception: what `function` raises; what was to be sent is sent nevertheless
        """
        with self._lock:
            self._open_socket()
            try:
                return function(self._now())
            finally:
                self._send_pending(self._now())
                self._collect_events()
                if self._next_wake > -math.inf:
                    timer = self._timer()
                    if self._events or (timer is not None and timer < self._next_wake):
                        self._wake()

    def statistics(self) -> UdpStatistics:
        """
        The counters since `start`.

        :raises TransportError: where the loop is not running
        """
        with self._lock:
            udp = self._open_socket()
            return UdpStatistics(
                sent=self._sent, bytes_sent=self._bytes_sent,
                received=self._received, bytes_received=self._bytes_received, foreign=self._foreign,
                send_errors=dict(self._send_errors), receive_errors=dict(self._receive_errors),
                kernel_dropped=kernel_drops(udp),
            )

    # --- in the loop's thread ---

    def _run(self) -> None:
        batch: list[tuple[memoryview | np.ndarray, tuple, float, float]] = []
        selector = selectors.DefaultSelector()
        selector.register(self._socket, selectors.EVENT_READ)
        selector.register(self._wake_receiver, selectors.EVENT_READ)
        try:
            while not self._stopping:
                self._more_waiting = False
                for key, _ in selector.select(self._time_to_wait()):
                    if key.fileobj is self._wake_receiver:
                        self._drain_waker()
                    else:
                        self._receive(batch)
                with self._lock:
                    self._next_wake = -math.inf
                    self._handle(batch)
                    self._follow_remote(selector)
                batch.clear()
                self._dispatch()
        finally:
            selector.close()
            self._close()

    def _time_to_wait(self) -> float | None:
        """
        Seconds until the protocol's timer, None without one; from here on `call` must wake the loop for an earlier one.
        """
        with self._lock:
            timer = self._timer()
            if self._events or self._stopping:
                return 0.0
            if self._remote_name is not None and self._remote_name.ask_at < math.inf:
                timer = min(self._remote_name.ask_at, math.inf if timer is None else timer)
            if timer is None:
                self._next_wake = math.inf
                return None
            # The timer that is due has just been handled, so one still in the past would otherwise spin.
            now = self._clock()
            self._next_wake = timer if timer > now else now + TIMER_GRAIN_S
            return self._next_wake - now

    def _timer(self) -> float | None:
        return self._guarded(self.protocol.get_timer)

    def _drain_waker(self) -> None:
        try:
            while len(self._wake_receiver.recv(4096)) == 4096:
                pass
        except OSError:
            pass

    def _receive(self, batch: list[tuple[memoryview | np.ndarray, tuple, float, float]]) -> None:
        """Take a batch from the kernel: datagrams, and runs of them, in the receiver's room."""
        remote, ahead = self._remote_address, self._clock_ahead()
        received, self._more_waiting = self._receiver.receive_batch(self._receive_errors.note)
        now = self._clock()
        for data, address, stamped_at in received:
            count, size = (1, len(data)) if isinstance(data, memoryview) else (len(data), data.size)
            if self._remote is not None and (remote is None or address[:2] != remote[:2]):
                self._foreign += count
            else:
                if self._remote_name is not None:
                    self._remote_name.heard_at = now
                self._received += count
                self._bytes_received += size
                batch.append((data, address, now, self._arrival(stamped_at + ahead, now)))

    def _clock_ahead(self) -> float:
        """
        What to add to a stamp of the kernel's, NaN where the system's clock was set since the last batch.

        In this order, a thread that is interrupted in between takes an arrival for later than it was, never for earlier,
        which the least delay would remember.
        """
        system = time.time()
        ahead = self._clock() - system
        steady = abs(ahead - self._ahead) <= CLOCK_STEP_S
        self._ahead = ahead
        return ahead if steady else math.nan

    def _arrival(self, stamped_at: float, now: float) -> float:
        if not stamped_at <= now:       # NaN, too
            stamped_at = now
        self._latest_arrival = max(self._latest_arrival, stamped_at)
        return self._latest_arrival

    def _handle(self, batch: list[tuple[memoryview | np.ndarray, tuple, float, float]]) -> None:
        receive_datagram, receive_run = self.protocol.receive_datagram, getattr(self.protocol, 'receive_run', None)
        for data, address, read_at, arrived_at in batch:
            now = self._latest_now = max(self._latest_now, read_at)
            about = (now, arrived_at) if self._remote is not None else (address, now, arrived_at)
            if not isinstance(data, np.ndarray):
                self._guarded(receive_datagram, data, *about)
            elif receive_run is not None:
                self._guarded(receive_run, data, *about)
            else:
                for row in data:
                    self._guarded(receive_datagram, row.data, *about)
        now = self._now()
        timer = self._timer()
        # More may have arrived by now, which a deadline has to wait for.
        patience = TIMER_PATIENCE_S if self._more_waiting else 0.0
        if timer is not None and timer + patience <= now:
            self._guarded(self.protocol.handle_timer, now)
        self._send_pending(now)
        self._collect_events()

    def _dispatch(self) -> None:
        while self._events:
            self._guarded(self._on_event, self._events.popleft())

    def _close(self) -> None:
        with self._lock:
            self._stopping = True
            now = self._now()
            self._guarded(self.protocol.close, now)
            self._send_pending(now)
            self._collect_events()
            udp, self._socket = self._socket, None
            udp.close()
            self._waker.close()
            self._wake_receiver.close()
        self._dispatch()

    # --- under the lock ---

    def _open_socket(self) -> socket.socket:
        if self._socket is None:
            raise TransportError('the UDP loop is not running, expected start() first')
        return self._socket

    def _now(self) -> float:
        """
        The clock; never before a time that the protocol was told already, as a datagram's arrival may be when `call`
        overtook it.
        """
        self._latest_now = max(self._latest_now, self._clock())
        return self._latest_now

    def _follow_remote(self, selector: selectors.BaseSelector) -> None:
        """Send to where the remote is now, if it was found at another address."""
        if self._remote_name is None or self._stopping:
            return
        self._remote_name.ask_again(self._clock())
        found = self._remote_name.take()
        if found is None or found[1] == self._remote_address:
            return
        family, address = found
        if family != self._socket.family:
            try:
                udp = self._open(family)
            except TransportError as error:
                self._remote_name.problem = str(error)
                return
            selector.unregister(self._socket)
            self._socket.close()
            self._socket = udp
            selector.register(udp, selectors.EVENT_READ)
        if self._remote_address is not None:
            self._log.info('%s is at %s now', self._remote[0], format_address(address))
        self._remote_address = address

    def _local_address_for(self, family: int | None) -> tuple[int, tuple]:
        if self._bind is not None:
            bind_family, local = resolve(self._bind, passive=True)
            if family not in (None, bind_family):
                raise TransportError(
                    f'bind {format_address(self._bind)} and remote {format_address(self._remote)}: '
                    'expected both IPv4 or both IPv6'
                )
            return bind_family, local
        return (socket.AF_INET6, ('::', 0)) if family == socket.AF_INET6 else (socket.AF_INET, ('0.0.0.0', 0))

    def _send_pending(self, now: float) -> None:
        if hasattr(self.protocol, 'run_to_send'):
            self._send_runs(now)
            return
        pending = self._guarded(self.protocol.datagrams_to_send, now)
        if not pending:
            return
        if self._remote is not None:
            self._send(pending, self._remote_address)
            return
        by_address = {}
        for data, address in pending:
            by_address.setdefault(address, []).append(data)
        for address, datagrams in by_address.items():
            self._send(datagrams, address)

    def _send_runs(self, now: float) -> None:
        single: list[bytes] = []
        while True:
            run = self._guarded(self.protocol.run_to_send, now)
            if isinstance(run, bytes):
                single.append(run)
                continue
            if single:
                self._send(single, self._remote_address)
                single = []
            if run is None:
                return
            self._send(run, self._remote_address)

    def _send(self, datagrams: Sequence, address: tuple | None) -> None:
        if address is None:     # it does not resolve, which was said
            self._send_errors['EADDRNOTAVAIL'] += len(datagrams)
            return
        sent, sent_bytes = self._sender.send(datagrams, address, self._send_errors.note)
        self._sent += sent
        self._bytes_sent += sent_bytes

    def _collect_events(self) -> None:
        while (event := self._guarded(self.protocol.next_event)) is not None:
            self._events.append(event)

    def _guarded(self, function: Callable, *arguments):
        """Call the protocol or the callback; a fault of theirs is logged and gives None, and does not end the loop."""
        try:
            return function(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other datagrams, timers and events go on
            name = getattr(function, '__qualname__', repr(function))
            first = arguments[0] if arguments else ''
            first = str(bytes(first[:80]) if isinstance(first, memoryview) else first)[:80]
            self._repeated(logging.ERROR, f'{name}({first}) failed:\n{traceback.format_exc()}', (name, type(error)))
            return None

    def _wake(self) -> None:
        self._next_wake = -math.inf
        try:
            self._waker.send(b'\0')
        except OSError:
            pass    # its buffer is full of wake-ups already
