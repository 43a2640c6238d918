"""`UdpLoop`: one UDP socket and one thread that drive one protocol object without I/O.

The rules, which keep latency low and the order right:

- The protocol object is touched only under the lock, by the loop's thread or a caller of `call`.
- The thread that makes the protocol want to send also sends: `call(send_frame)` puts the frame on the wire before it returns, without
  a hand-over to the loop's thread.
- The loop takes events from the protocol under the lock and hands them to `on_event` outside it, always in the loop's thread, one at a
  time, in the protocol's order. A callback may therefore use `call`, and needs no lock of its own; while it works, datagrams wait in the
  kernel's receive buffer, so it should give long work to another thread.
- A datagram that the kernel cannot take now is lost, as on the air, and counted. Nothing is kept to be sent late.
- Datagrams go to and come from the kernel in runs, one system call each, where the kernel can do that (`batching`). The protocol reads
  them in the loop's buffer, without a copy.
- The network's errors are counted; they end neither the loop nor a call.
- While a remote is silent its name is looked up again (`remote_name`): it may stand for another address by now, resolve at last, or have
  others.
"""

from __future__ import annotations

import logging
import math
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from evitif.transport.addresses import SocketAddress, TransportError, check_address, format_address
from evitif.transport.arrival_clock import ArrivalClock
from evitif.transport.counters import UdpStatistics
from evitif.transport.driver import Arrived, Driver, ProtocolObject
from evitif.transport.remote_name import RemoteName
from evitif.transport.udp_socket import UdpSocket

T = TypeVar('T')

STOP_TIMEOUT_S = 10.0
TIMER_PATIENCE_S = 0.01        # how long a due timer waits for the datagrams that had arrived before it
TIMER_GRAIN_S = 0.001           # a timer that stays in the past is called again no sooner than this


class UdpLoop:
    """Drive an `EdgeConnection` (give `remote`) or a `BridgeEndpoint` (give `bind`) over UDP.

    `driver.ProtocolObject` says what the loop calls. The order is kept for each address. `arrived_at` is when the kernel got the
    datagram, on the loop's clock: never after `now`, and before it by as long as the thread waited for the processor; where the kernel
    does not tell, when the datagram was read. Neither goes backwards.

    :param remote: (host, port) of the bridge; resolved by `start`, and again while nothing comes from it
    :param bind: (host, port) to listen on; '' or 0.0.0.0 is every IPv4 interface, :: every interface, port 0 a free port
    :param on_event: called with each event, in the loop's thread, outside the lock; what it raises is logged
    :param receive_buffer_bytes: asked of the kernel; `granted_receive_buffer_bytes` says what it gave
    :param batching: whether a system call takes a run of datagrams (see `batching`): None where the system can, True always, which
        `start` refuses where it cannot, False never
    :param traffic_class: of the datagrams sent, the DSCP times four (RFC 2474) and the ECN field (RFC 3168)
    :param clock: seconds, monotonic
    :raises TransportError: not exactly one of `remote` and `bind` is given, or a port is out of range
    """

    def __init__(self, protocol: ProtocolObject, *, remote: tuple[str, int] | None = None, bind: tuple[str, int] | None = None,
                 on_event: Callable[[object], None], receive_buffer_bytes: int = 4 << 20, batching: bool | None = None,
                 traffic_class: int = 0, clock: Callable[[], float] = time.monotonic, log: logging.Logger | None = None):
        if (remote is None) == (bind is None):
            raise TransportError('expected remote=(host, port) to send to or bind=(host, port) to listen on')
        self.protocol = protocol
        self.granted_receive_buffer_bytes = 0
        self._remote = None if remote is None else check_address(remote, 'remote')
        self._remote_name: RemoteName | None = None
        self._bind = None if bind is None else check_address(bind, 'bind')
        self._on_event = on_event
        self._receive_buffer_bytes = receive_buffer_bytes
        self._batching = batching
        self._traffic_class = traffic_class
        self._clock = clock
        self._log = log or logging.getLogger(__name__)
        self._marking = getattr(protocol, 'marking', None)
        self._driver = Driver(protocol, remote is None, self._log)
        self._arrivals = ArrivalClock(clock)

        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._udp: UdpSocket | None = None
        self._stopping = False
        self._more_waiting = False      # the last batch ended before the kernel had no more
        self._latest_now = -math.inf    # the protocol's time does not go backwards
        self._next_wake = -math.inf     # when the waiting loop wakes by itself; -inf while it is awake

    # --- from any thread ---

    @property
    def local_address(self) -> tuple[str, int]:
        """(host, port) that the socket is bound to. Raises TransportError where the loop is not running."""
        with self._lock:
            return self._running_socket().socket.getsockname()[:2]

    @property
    def running(self) -> bool:
        """Whether `call` would be answered: between `start` and `stop`."""
        return self._udp is not None and not self._stopping

    @property
    def remote_problem(self) -> str:
        """Why the remote's address is not known, as a sentence; '' where it is."""
        return self._remote_name.problem if self._remote_name else ''

    def start(self) -> None:
        """Resolve, open the socket, start the thread. A remote that does not resolve now is looked up again and again.

        :raises TransportError: it is running already, the remote can be no host's address, the address cannot be bound, or `batching` is
            True and the kernel cannot
        """
        if self._thread is not None:
            raise TransportError('the UDP loop was started already, expected stop() first')
        family, address = self._resolve()
        udp = UdpSocket(family, bind=self._bind, receive_buffer_bytes=self._receive_buffer_bytes, batching=self._batching,
                        traffic_class=self._traffic_class, log=self._log)
        udp.remote = address
        self._stopping, self._udp = False, udp
        self.granted_receive_buffer_bytes = udp.granted_receive_buffer_bytes
        self._waker, self._wake_receiver = socket.socketpair()
        self._waker.setblocking(False)
        self._wake_receiver.setblocking(False)
        name = format_address(self._remote or udp.socket.getsockname())
        self._thread = threading.Thread(target=self._run, args=(udp,), name=f'udp {name}', daemon=True)
        self._thread.start()

    def _resolve(self) -> tuple[int | None, SocketAddress | None]:
        """The remote's address family and address; None where there is no remote, or its address is not known."""
        self._remote_name = None
        if self._remote is None:
            return None, None
        self._remote_name = RemoteName(self._remote, self._wake, self._log)
        return self._remote_name.resolve(self._clock()) or (None, None)

    def stop(self) -> None:
        """Close the protocol (it says goodbye), hand out its last events, close the socket and join the thread.

        May be called again, before `start`, and from `on_event`, where it cannot join and returns at once. `start` may follow.
        """
        thread = self._thread
        if thread is None:
            return
        with self._lock:
            self._stopping = True
            if self._udp is not None:
                self._wake()
        if thread is threading.current_thread():
            return
        thread.join(STOP_TIMEOUT_S)
        if thread.is_alive():
            self._log.error('%s did not end within %.0f s: on_event does not return', thread.name, STOP_TIMEOUT_S)
            return
        self._thread = None

    def call(self, function: Callable[[float], T]) -> T:
        """Run `function(now)` under the lock in the caller's thread, and send what the protocol then wants to send before returning.

        Its events are handed out later, in the loop's thread. May be nested, and used within `on_event`.

        :raises TransportError: the loop is not running
        :raises Exception: what `function` raises; what was to be sent is sent nevertheless
        """
        with self._lock:
            udp = self._running_socket()
            try:
                return function(self._now())
            finally:
                self._finish(udp, self._now())
                if self._next_wake > -math.inf:
                    timer = self._driver.timer()
                    if self._driver.events or (timer is not None and timer < self._next_wake):
                        self._wake()

    def statistics(self) -> UdpStatistics:
        """The counters since `start`. Raises TransportError where the loop is not running."""
        with self._lock:
            return self._running_socket().statistics()

    # --- in the loop's thread ---

    def _run(self, udp: UdpSocket) -> None:
        selector = selectors.DefaultSelector()
        selector.register(udp.socket, selectors.EVENT_READ)
        selector.register(self._wake_receiver, selectors.EVENT_READ)
        try:
            while not self._stopping:
                batch, read_at = [], -math.inf
                self._more_waiting = False
                for key, _ in selector.select(self._time_to_wait()):
                    if key.fileobj is self._wake_receiver:
                        self._drain_waker()
                    else:
                        batch, read_at = self._receive(udp)
                with self._lock:
                    self._next_wake = -math.inf
                    self._handle(udp, batch, read_at)
                    self._follow_remote(udp, selector)
                self._dispatch()
        finally:
            selector.close()
            self._close(udp)

    def _time_to_wait(self) -> float | None:
        """Seconds until the protocol's timer, None without one; from here on `call` must wake the loop for an earlier one."""
        with self._lock:
            timer = self._driver.timer()
            if self._driver.events or self._stopping:
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

    def _drain_waker(self) -> None:
        try:
            while len(self._wake_receiver.recv(4096)) == 4096:
                pass
        except OSError:
            pass

    def _receive(self, udp: UdpSocket) -> tuple[list[Arrived], float]:
        """A batch from the kernel, in the receiver's room, and when it was read."""
        offset = self._arrivals.offset()
        received, self._more_waiting = udp.receive()
        now = self._clock()
        # What comes while there is no link may be anybody's, and does not say that the name still stands for this address.
        if received and self._remote_name is not None and getattr(self.protocol, 'connected', True):
            self._remote_name.heard(udp.remote, now)
        return [(one.data, one.address, self._arrivals.arrived_at(one.stamped_at + offset, now), one.ecn) for one in received], now

    def _handle(self, udp: UdpSocket, batch: list[Arrived], read_at: float) -> None:
        self._latest_now = max(self._latest_now, read_at)
        self._driver.receive(batch, self._latest_now)
        now = self._now()
        timer = self._driver.timer()
        # More may have arrived by now, which a deadline has to wait for.
        patience = TIMER_PATIENCE_S if self._more_waiting else 0.0
        if timer is not None and timer + patience <= now:
            self._driver.handle_timer(now)
        self._finish(udp, now)

    def _dispatch(self) -> None:
        while self._driver.events:
            self._driver.guarded(self._on_event, self._driver.events.popleft())

    def _close(self, udp: UdpSocket) -> None:
        with self._lock:
            self._stopping = True
            now = self._now()
            self._driver.close(now)
            self._finish(udp, now)
            self._udp = None
            udp.socket.close()
            self._waker.close()
            self._wake_receiver.close()
        self._dispatch()

    # --- under the lock ---

    def _running_socket(self) -> UdpSocket:
        if self._udp is None:
            raise TransportError('the UDP loop is not running, expected start() first')
        return self._udp

    def _now(self) -> float:
        """The clock, but never before a time that the protocol has seen, such as a datagram's arrival that `call` overtook."""
        self._latest_now = max(self._latest_now, self._clock())
        return self._latest_now

    def _finish(self, udp: UdpSocket, now: float) -> None:
        """Send what the protocol wants to send, and take its events."""
        for datagrams, address in self._driver.to_send(now):
            if self._marking is not None:
                udp.mark(self._marking.on)
            udp.send(datagrams, address)
        self._driver.collect_events()

    def _follow_remote(self, udp: UdpSocket, selector: selectors.BaseSelector) -> None:
        """Send to where the remote is now, if it was found at another address."""
        if self._remote_name is None or self._stopping:
            return
        self._remote_name.ask_again(self._clock())
        found = self._remote_name.take(self._clock())
        if found is None or found[1] == udp.remote:
            return
        family, address = found
        if family != udp.socket.family:
            former = udp.socket
            try:
                selector.unregister(former)
                udp.reopen(family)
            except TransportError as error:
                self._remote_name.problem = str(error)
                return
            finally:
                selector.register(udp.socket, selectors.EVENT_READ)
        udp.remote = address

    def _wake(self) -> None:
        self._next_wake = -math.inf
        try:
            self._waker.send(b'\0')
        except OSError:
            pass    # its buffer is full of wake-ups already
