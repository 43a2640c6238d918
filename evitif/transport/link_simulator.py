"""`LinkSimulator`: a UDP relay with an impaired link inside, between robots and a bridge; `evitif link` runs one.

    robots ──► listen address ══ uplink ══► one socket a robot ──► bridge
    robots ◄── listen address ◄══ downlink ══ one socket a robot ◄── bridge

Like a NAT it opens one socket towards the bridge for each robot's address, so the bridge can tell robots apart; each robot has its own
channel in each direction. A datagram that is due at once is sent at once, without a timer.
"""

from __future__ import annotations

import dataclasses
import errno
import heapq
import itertools
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable

from evitif.transport.addresses import (
    SocketAddress,
    TransportError,
    check_address,
    format_address,
    open_udp_socket,
    resolve,
    resolve_remote,
)
from evitif.transport.counters import ErrorCounts
from evitif.transport.impairment import ChannelCounters, ImpairedChannel, Impairment

DIRECTIONS = ('uplink', 'downlink')     # robot to bridge, bridge to robot
LARGEST_DATAGRAM = 65535
BATCH = 64                              # datagrams taken from one socket before the others have their turn
BUFFER_BYTES = 4 << 20
MAX_ROBOTS = 64
IDLE_S = 60.0
MAX_HELD_BYTES = 64 << 20               # in flight, over all robots: 1 s at 500 Mbit/s


@dataclasses.dataclass(eq=False)
class _Robot:
    """A robot's address as the simulator sees it, its socket towards the bridge, and its two channels."""

    address: SocketAddress
    upstream: socket.socket
    uplink: ImpairedChannel
    downlink: ImpairedChannel
    last_seen: float


class LinkSimulator:
    """Relay UDP datagrams between robots and a bridge over an impaired link.

    The same seed gives the n-th datagram of the k-th robot the same fate.

    :param listen: (host, port) that robots send to; port 0 takes a free one, see `local_address`
    :param forward: (host, port) of the bridge, which may be down
    :param uplink: robot to bridge
    :param downlink: bridge to robot
    :param max_robots: addresses relayed at once; more are counted in `robots_refused` until one has been idle for
        `idle_s` seconds
    :raises TransportError: a port is out of range
    """

    def __init__(self, listen: tuple[str, int], forward: tuple[str, int], *, uplink: Impairment | None = None,
                 downlink: Impairment | None = None, seed: int = 0, max_robots: int = MAX_ROBOTS, idle_s: float = IDLE_S,
                 clock: Callable[[], float] = time.monotonic, log: logging.Logger | None = None):
        self._listen = check_address(listen, 'listen')
        self._forward = check_address(forward, 'forward')
        self._impairments = {'uplink': uplink or Impairment(), 'downlink': downlink or Impairment()}
        self._seed = seed
        self._max_robots = max_robots
        self._idle_s = idle_s
        self._clock = clock
        self._log = log or logging.getLogger(__name__)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._reset()

    def _reset(self) -> None:
        self._counters = {direction: ChannelCounters() for direction in DIRECTIONS}
        self._robots: dict[SocketAddress, _Robot] = {}
        self._held: list[tuple[float, int, socket.socket, SocketAddress | None, bytes]] = []    # a heap by time of delivery
        self._held_bytes = 0
        self._order = itertools.count()
        self._robot_count = itertools.count()
        self.robots_refused = 0
        self.errors = ErrorCounts(self._log, 'link simulator')      # of both kinds of socket

    # --- from any thread ---

    @property
    def local_address(self) -> tuple[str, int]:
        """(host, port) that robots send to. Raises TransportError where the simulator is not running."""
        if self._thread is None:
            raise TransportError('the link simulator is not running, expected start() first')
        return self._local_address

    def start(self) -> None:
        """Open the socket and start the thread. Raises TransportError: it runs already, or an address cannot be resolved or bound."""
        if self._thread is not None:
            raise TransportError('the link simulator was started already, expected stop() first')
        self._reset()
        self._forward_family, self._forward_address = resolve_remote(self._forward)[0]
        family, address = resolve(self._listen, passive=True)
        self._listener = open_udp_socket(family, address, receive_buffer_bytes=BUFFER_BYTES, send_buffer_bytes=BUFFER_BYTES)
        self._local_address = self._listener.getsockname()[:2]
        self._waker, self._wake_receiver = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._selector.register(self._wake_receiver, selectors.EVENT_READ, None)
        self._stopping = False
        name = f'link simulator {format_address(self._local_address)}'
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, dropping what is in flight, and close the sockets. May be called again."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopping = True
        # The thread may see the flag before this wakes it, and end: the pair is closed here, never there.
        self._waker.send(b'\0')
        thread.join()
        self._waker.close()
        self._wake_receiver.close()

    def impairment(self, direction: str) -> Impairment:
        """The link's present state in `direction`, 'uplink' or 'downlink'."""
        return self._impairments[_check_direction(direction)]

    def set_impairment(self, direction: str, impairment: Impairment) -> None:
        """Change the link in a direction for every robot, from the next datagram on. Raises ValueError where there is no such direction."""
        _check_direction(direction)
        with self._lock:
            self._impairments[direction] = impairment
            for robot in self._robots.values():
                getattr(robot, direction).set_impairment(impairment)

    def move_robots(self) -> None:
        """Give each robot another address towards the bridge, as a NAT or another access point does.

        What the bridge still sends to the former address is lost. A robot for which no socket can be opened keeps its own.

        :raises TransportError: where the simulator is not running
        """
        if self._thread is None:
            raise TransportError('the link simulator is not running, expected start() first')
        with self._lock:
            for robot in self._robots.values():
                upstream = self._open_upstream()
                if upstream is not None:
                    self._selector.unregister(robot.upstream)
                    robot.upstream.close()
                    robot.upstream = upstream
                    self._selector.register(upstream, selectors.EVENT_READ, robot)
            self._held = [entry for entry in self._held if entry[2].fileno() >= 0]
            heapq.heapify(self._held)
            self._held_bytes = sum(len(entry[4]) for entry in self._held)

    def counters(self, direction: str) -> ChannelCounters:
        """A copy of a direction's counters since `start`, over all robots. Raises ValueError where there is no such direction."""
        _check_direction(direction)
        with self._lock:
            return dataclasses.replace(self._counters[direction])

    @property
    def robots(self) -> int:
        """Number of addresses that are relayed now."""
        with self._lock:
            return len(self._robots)

    # --- in the simulator's thread ---

    def _run(self) -> None:
        buffer = bytearray(LARGEST_DATAGRAM)
        try:
            while not self._stopping:
                ready = self._selector.select(self._time_to_wait())
                with self._lock:
                    self._send_due(self._clock())
                    for key, _ in ready:
                        if key.fileobj is self._listener:
                            self._relay_up(buffer)
                        elif key.data is not None and key.data.upstream.fileno() >= 0:
                            self._relay_down(key.data, buffer)
        finally:
            for robot in self._robots.values():
                robot.upstream.close()
            for opened in (self._selector, self._listener):
                opened.close()

    def _time_to_wait(self) -> float | None:
        return max(0.0, self._held[0][0] - self._clock()) if self._held else None

    def _relay_up(self, buffer: bytearray) -> None:
        view = memoryview(buffer)
        for _ in range(BATCH):
            try:
                size, address = self._listener.recvfrom_into(buffer)
            except BlockingIOError:
                return
            except OSError as error:
                self.errors.note(error)
                continue
            now = self._clock()
            robot = self._robots.get(address) or self._admit(address, now)
            if robot is None:
                continue
            robot.last_seen = now
            self._pass_on(robot.uplink, bytes(view[:size]), now, robot.upstream, None)

    def _relay_down(self, robot: _Robot, buffer: bytearray) -> None:
        view = memoryview(buffer)
        for _ in range(BATCH):
            try:
                size = robot.upstream.recv_into(buffer)
            except BlockingIOError:
                return
            except OSError as error:
                self.errors.note(error)      # ECONNREFUSED: the bridge is down, and may come back
                continue
            now = self._clock()
            robot.last_seen = now
            self._pass_on(robot.downlink, bytes(view[:size]), now, self._listener, robot.address)

    def _pass_on(self, channel: ImpairedChannel, datagram: bytes, now: float, out: socket.socket, address: SocketAddress | None) -> None:
        for deliver_at, data in channel.offer(datagram, now):
            if deliver_at <= now:
                self._send(out, address, data)
            elif self._held_bytes + len(data) > MAX_HELD_BYTES:
                counters = channel.counters
                counters.delivered -= 1
                counters.bytes_delivered -= len(data)
                counters.queue_dropped += 1
            else:
                self._held_bytes += len(data)
                heapq.heappush(self._held, (deliver_at, next(self._order), out, address, data))

    def _send_due(self, now: float) -> None:
        held = self._held
        while held and held[0][0] <= now:
            _, _, out, address, data = heapq.heappop(held)
            self._held_bytes -= len(data)
            self._send(out, address, data)

    def _send(self, out: socket.socket, address: SocketAddress | None, data: bytes) -> None:
        for attempt in (1, 2):
            try:
                if address is None:
                    out.send(data)
                else:
                    out.sendto(data, address)
            except OSError as error:
                # An ICMP refusal of an earlier datagram is reported by the next call, which then sends nothing (udp(7)).
                if attempt == 1 and error.errno == errno.ECONNREFUSED:
                    continue
                self.errors.note(error)
            return

    def _admit(self, address: SocketAddress, now: float) -> _Robot | None:
        """Open a robot's socket towards the bridge, after closing those of idle robots; None where there are too many."""
        for idle in [robot for robot in self._robots.values() if now - robot.last_seen > self._idle_s]:
            self._selector.unregister(idle.upstream)
            idle.upstream.close()
            del self._robots[idle.address]
        if len(self._robots) >= self._max_robots:
            self.robots_refused += 1
            return None
        upstream = self._open_upstream()
        if upstream is None:
            return None
        number = next(self._robot_count)
        robot = _Robot(address, upstream, self._channel('uplink', number), self._channel('downlink', number), now)
        self._robots[address] = robot
        self._selector.register(upstream, selectors.EVENT_READ, robot)
        return robot

    def _open_upstream(self) -> socket.socket | None:
        """A socket to the bridge; None, and counted, where there can be none."""
        any_address = ('0.0.0.0', 0) if self._forward_family == socket.AF_INET else ('::', 0)
        try:
            upstream = open_udp_socket(self._forward_family, any_address, receive_buffer_bytes=BUFFER_BYTES, send_buffer_bytes=BUFFER_BYTES)
        except OSError as error:
            self.errors.note(error)
            return None
        try:
            upstream.connect(self._forward_address)
        except OSError as error:
            upstream.close()
            self.errors.note(error)
            return None
        return upstream

    def _channel(self, direction: str, number: int) -> ImpairedChannel:
        seed = f'{self._seed} {direction} {number}'
        return ImpairedChannel(self._impairments[direction], seed, self._counters[direction])


def _check_direction(direction: str) -> str:
    if direction not in DIRECTIONS:
        raise ValueError(f'direction {direction!r}: expected one of {", ".join(DIRECTIONS)}')
    return direction
