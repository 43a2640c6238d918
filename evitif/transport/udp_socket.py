"""`UdpSocket`: one UDP socket, the system calls chosen for it, and counts of what passed through it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence

from evitif.transport.addresses import (
    SocketAddress,
    TransportError,
    format_address,
    granted_receive_buffer,
    kernel_drops,
    open_udp_socket,
    resolve,
    set_traffic_class,
)
from evitif.transport.batching import Received, choose_calls
from evitif.transport.counters import ErrorCounts, UdpStatistics

ECT1 = 1                        # of the ECN field
SEND_BUFFER_BYTES = 1 << 20     # several frames; the kernel's default of 208 KiB is two at fp16


class UdpSocket:
    """A non-blocking UDP socket that sends to and hears one remote, or sends to and hears anybody.

    The socket is not connected: the kernel fixes a connected socket's own address, and a robot that roams to another network would go on
    sending from the address it has lost. The remote's port is compared here, but not its host: a host with several addresses answers from
    the one that its way back begins at. Whether the remote has said it is for the protocol to check; anybody can write its address.

    :param family: of the address to send to; None: any
    :param bind: (host, port) to listen on; None: a free port of every interface, for traffic with `remote` alone, once that is set
    :raises TransportError: the address cannot be bound, or `batching` is True and the kernel cannot
    """

    def __init__(self, family: int | None, *, bind: tuple[str, int] | None, receive_buffer_bytes: int, batching: bool | None,
                 traffic_class: int, log: logging.Logger):
        self.remote: SocketAddress | None = None
        self._bind = bind
        self._receive_buffer_bytes, self._batching, self._traffic_class = receive_buffer_bytes, batching, traffic_class
        self._log = log
        self._sent = self._bytes_sent = self._received = self._bytes_received = self._foreign = 0
        self._send_errors, self._receive_errors = ErrorCounts(log), ErrorCounts(log)
        self.socket = self._open(family)
        self.granted_receive_buffer_bytes = granted_receive_buffer(self.socket)
        if self.granted_receive_buffer_bytes < receive_buffer_bytes:
            log.warning('UDP receive buffer of %s: asked for %d bytes, the kernel granted %d; bursts may be dropped before they are read '
                        '(on Linux: sysctl net.core.rmem_max=%d)', format_address(self.socket.getsockname()), receive_buffer_bytes,
                        self.granted_receive_buffer_bytes, receive_buffer_bytes)

    def _open(self, family: int | None) -> socket.socket:
        family, local = self._local_address_for(family)
        udp = open_udp_socket(family, local, receive_buffer_bytes=self._receive_buffer_bytes, send_buffer_bytes=SEND_BUFFER_BYTES,
                              traffic_class=self._traffic_class)
        try:
            self._sender, self._receiver = choose_calls(udp, self._batching, self._log)
            self._receiver.ask_for_stamps()
            if self._bind is not None:      # only a bridge reports how datagrams were marked
                self._receiver.ask_for_ecn()
        except TransportError:
            udp.close()
            raise
        return udp

    def _local_address_for(self, family: int | None) -> tuple[int, SocketAddress]:
        if self._bind is not None:
            return resolve(self._bind, passive=True)
        return (socket.AF_INET6, ('::', 0)) if family == socket.AF_INET6 else (socket.AF_INET, ('0.0.0.0', 0))

    def reopen(self, family: int) -> None:
        """Change to a socket of another address family. Raises TransportError, and keeps the former socket, where that fails."""
        udp = self._open(family)
        self.socket.close()
        self.socket = udp

    def mark(self, on: bool) -> None:
        """What is sent from now on is marked ECT(1) (RFC 9331), or not."""
        if on != self._traffic_class & ECT1:
            self._traffic_class ^= ECT1
            set_traffic_class(self.socket, self._traffic_class)

    def send(self, datagrams: Sequence, address: SocketAddress | None = None) -> None:
        """Send datagrams (bytes-like; or of one size, uint8 [n, size]) to `address`, else to the remote. What cannot go now is lost."""
        address = self.remote if self._bind is None else address
        if address is None:     # the remote's name does not resolve, which was logged
            self._send_errors['EADDRNOTAVAIL'] += len(datagrams)
            return
        sent, sent_bytes = self._sender.send(datagrams, address, self._send_errors.note)
        self._sent += sent
        self._bytes_sent += sent_bytes

    def receive(self) -> tuple[list[Received], bool]:
        """A batch from the kernel, datagrams and runs of them, without those of other ports than the remote's; whether more may wait."""
        received, more = self._receiver.receive_batch(self._receive_errors.note)
        accepted = []
        for one in received:
            count, size = (1, len(one.data)) if isinstance(one.data, memoryview) else (len(one.data), one.data.size)
            if self._bind is None and (self.remote is None or one.address[1] != self.remote[1]):
                self._foreign += count
                continue
            self._received += count
            self._bytes_received += size
            accepted.append(one)
        return accepted, more

    def statistics(self) -> UdpStatistics:
        """The counters so far."""
        return UdpStatistics(
            sent=self._sent, bytes_sent=self._bytes_sent, received=self._received, bytes_received=self._bytes_received,
            foreign=self._foreign, send_errors=dict(self._send_errors), receive_errors=dict(self._receive_errors),
            kernel_dropped=kernel_drops(self.socket))
