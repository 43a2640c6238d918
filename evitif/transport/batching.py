"""How datagrams pass between a UDP socket and the kernel: one system call for each, or one for a run of them.

Linux cuts the data of one `sendmsg` into datagrams of a given size (UDP_SEGMENT, generic segmentation offload, since 4.18), and returns
consecutive datagrams of one sender and one size, the last of which may be shorter, as one piece with that size (UDP_GRO, generic receive
offload, since 5.0); udp(7). Either side may do so without the other: on the network the datagrams are the same.

A sender counts what the kernel took; a receiver says where each datagram begins. Both hold the socket as `socket`, which has to be
non-blocking.
"""

from __future__ import annotations

import errno
import logging
import math
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from evitif.transport import message_batch
from evitif.transport.addresses import SocketAddress, TransportError, format_address
from evitif.transport.counters import error_name

# Of <linux/udp.h>; CPython's socket module has the names from 3.14 on at the earliest.
SOL_UDP = 17
UDP_SEGMENT = 103
UDP_GRO = 104
IP_RECVTOS, IPV6_RECVTCLASS, IPV6_TCLASS = 13, 66, 67      # of <linux/in.h> and <linux/in6.h>; IP_TOS is also a message's kind
SO_TIMESTAMPNS = 35             # of <asm-generic/socket.h>, also the kind of the control message that carries the stamp
MAX_SEGMENTS = 64               # UDP_MAX_SEGMENTS before Linux 6.9, 128 since
MAX_RUN_BYTES = 65507           # of one sendmsg: an IPv4 packet's payload without options and the UDP header

LARGEST_DATAGRAM = 65535        # bytes, UDP's length field (RFC 768); of a run that is received, too
BATCH = 64                      # system calls, and about as many datagrams, that are received before any of it is handled
ROOM_BYTES = 4 * LARGEST_DATAGRAM       # for these; what does not fit waits for the next batch
LEAST_OF_RUN = 256              # bytes; datagrams that came one by one are put together from this size on: small ones keep their own times
#                                 of arrival, by which clocks are compared

_SEGMENT_SIZE = struct.Struct('=H')
_GRO_SIZE = struct.Struct('=i')
_GRO_SPACE = socket.CMSG_SPACE(_GRO_SIZE.size) if hasattr(socket, 'CMSG_SPACE') else 0
_TIMESPEC = struct.Struct('@ll')         # seconds and nanoseconds
_STAMP_SPACE = socket.CMSG_SPACE(_TIMESPEC.size) if hasattr(socket, 'CMSG_SPACE') else 0
_ECN_SPACE = socket.CMSG_SPACE(4) if hasattr(socket, 'CMSG_SPACE') else 0
_PROBE_BYTES = 1200

# What a kernel, an interface without checksum offload or a path through IPsec says to UDP_SEGMENT. EINVAL and EMSGSIZE
# may also mean that the datagrams are too large for the path, which sending the first of them alone tells apart.
_REFUSALS = frozenset({
    errno.ENOPROTOOPT, errno.EINVAL, errno.EIO, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMSGSIZE,
})

_TRAFFIC_CLASSES = frozenset({(socket.IPPROTO_IP, socket.IP_TOS), (socket.IPPROTO_IPV6, IPV6_TCLASS)})

Failed = Callable[[OSError, int], None]     # the error, and how many datagrams it cost
Datagrams = Sequence | np.ndarray           # bytes-like; or of one size, uint8 [n, size]
_WOULD_BLOCK = frozenset({errno.EAGAIN, errno.EWOULDBLOCK})


class Received(NamedTuple):
    """A datagram (memoryview), or some of one size from one sender (uint8 [n, size]), in room that the next batch overwrites."""

    data: memoryview | np.ndarray
    address: SocketAddress
    stamped_at: float       # see `DatagramReceiver`
    ecn: int = 0            # of the IP header (RFC 3168), 0 where the kernel does not tell


def runs(datagrams: Sequence) -> Iterator[list]:
    """Cut a sequence of datagrams (bytes-like), in order, into what one call may carry with UDP_SEGMENT: datagrams of one size, the last of
    them shorter or not, and none of them empty unless it is alone."""
    run: list = []
    size = total = 0
    ended = True
    for datagram in datagrams:
        length = len(datagram)
        if ended or not 0 < length <= size or len(run) == MAX_SEGMENTS or total + length > MAX_RUN_BYTES:
            if run:
                yield run
            run, size, total = [datagram], length, length
            ended = False
        else:
            run.append(datagram)
            total += length
            ended = length < size
    if run:
        yield run


def parts(datagrams: np.ndarray) -> Iterator[np.ndarray]:
    """As `runs`, datagrams of one size, uint8 [n, size], not empty."""
    most = min(MAX_SEGMENTS, max(1, MAX_RUN_BYTES // datagrams.shape[1]))
    for begin in range(0, len(datagrams), most):
        yield datagrams[begin:begin + most]


class DatagramSender:
    """One system call a datagram."""

    def __init__(self, udp: socket.socket):
        self.socket = udp

    def send(self, datagrams: Datagrams, address: SocketAddress, failed: Failed) -> tuple[int, int]:
        """Send datagrams (bytes-like; or of one size, uint8 [n, size]) to one address, in order.

        :param failed: called for what the kernel did not take, which is lost
        :return: datagrams and bytes of payload that it took
        """
        sendto = self.socket.sendto
        sent = sent_bytes = 0
        for datagram in datagrams:
            try:
                sent_bytes += sendto(datagram, address)
            except OSError as error:
                failed(error, 1)
            else:
                sent += 1
        return sent, sent_bytes


class RunSender(DatagramSender):
    """One system call a run of datagrams (UDP_SEGMENT), until an interface refuses; then as `DatagramSender`."""

    def __init__(self, udp: socket.socket, log: logging.Logger):
        super().__init__(udp)
        self._log = log
        self._refused = False

    def send(self, datagrams: Datagrams, address: SocketAddress, failed: Failed) -> tuple[int, int]:
        """As `DatagramSender.send`."""
        if self._refused:
            return super().send(datagrams, address, failed)
        sendmsg = self.socket.sendmsg
        sent = sent_bytes = 0
        for run in (parts(datagrams) if isinstance(datagrams, np.ndarray) else runs(datagrams)):
            if len(run) == 1 or self._refused:
                count, size = super().send(run, address, failed)
            else:
                try:
                    buffers: list = [run] if isinstance(run, np.ndarray) else run
                    size = sendmsg(buffers, [(SOL_UDP, UDP_SEGMENT, _SEGMENT_SIZE.pack(len(run[0])))], 0, address)
                    count = len(run)
                except OSError as error:
                    count, size = self._resend(error, run, address, failed)
            sent += count
            sent_bytes += size
        return sent, sent_bytes

    def _resend(self, error: OSError, run: Datagrams, address: SocketAddress, failed: Failed) -> tuple[int, int]:
        """Send a run that the kernel refused, and of which it took nothing, one datagram a call."""
        if error.errno not in _REFUSALS:
            failed(error, len(run))
            return 0, 0
        first, first_bytes = super().send(run[:1], address, failed)
        if first:
            self._refused = True
            self._log.warning(
                'UDP to %s: the interface refuses to segment (%s), from now on one system call sends one datagram',
                format_address(address), _name(error),
            )
        rest, rest_bytes = super().send(run[1:], address, failed)
        return first + rest, first_bytes + rest_bytes


class DatagramReceiver:
    """One system call a datagram.

    `stamped_at` is when the last read data arrived at this host, by the kernel's stamp: seconds of `time.time`, NaN where there is none. A
    thread that gets the processor late reads late, and the stamp tells how late.
    """

    def __init__(self, udp: socket.socket):
        self.socket = udp
        self.stamped_at = math.nan
        self.ecn, self.tells_ecn = 0, False
        self._stamp_space = 0
        self._room: memoryview | None = None

    def ask_for_stamps(self) -> bool:
        """Let the kernel say from now on when a datagram arrived (SO_TIMESTAMPNS, socket(7)); whether it can."""
        if not sys.platform.startswith('linux') or not hasattr(self.socket, 'recvmsg_into'):
            return False
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        except OSError:
            return False
        self._stamp_space = _STAMP_SPACE
        return True

    def ask_for_ecn(self) -> bool:
        """Let the kernel say from now on how each datagram's IP header was marked (IP_RECVTOS, ip(7)); whether it can."""
        if not self._stamp_space:      # no control messages are read here
            return False
        asked = []
        for level, option in ((socket.IPPROTO_IP, IP_RECVTOS), (socket.IPPROTO_IPV6, IPV6_RECVTCLASS)):
            try:
                self.socket.setsockopt(level, option, 1)
                asked.append(option)
            except OSError:      # a socket of IPv4 has no second one
                continue
        self._stamp_space += _ECN_SPACE
        self.tells_ecn = bool(asked)
        return self.tells_ecn

    def receive(self, room: memoryview) -> tuple[int, int, tuple]:
        """Read the next datagram or run into `room`, of at least `LARGEST_DATAGRAM` bytes.

        :return: bytes read, bytes of each datagram in them (the last may be shorter), and who sent them
        :raises OSError: nothing is there (BlockingIOError), or what the network reports
        """
        if not self._stamp_space:
            size, address = self.socket.recvfrom_into(room)
            return size, size, address
        size, ancillary, _, address = self.socket.recvmsg_into((room,), self._stamp_space)
        return size, self._read(ancillary) or size, address

    def receive_batch(self, failed: Failed) -> tuple[list[Received], bool]:
        """Read what has arrived, up to about 64 datagrams, into room of its own.

        :param failed: called with the network's errors
        :return: the data in order, and whether there may be more
        """
        if self._room is None:
            self._room = memoryview(bytearray(ROOM_BYTES))
        received: list[Received] = []
        begin = taken = 0
        for _ in range(BATCH):
            try:
                size, segment, address = self.receive(self._room[begin:])
            except OSError as error:
                if error.errno in _WOULD_BLOCK:
                    return received, False
                failed(error, 1)
                continue
            received += _pieces(self._room[begin:begin + size], segment, address, self.stamped_at, self.ecn)
            begin += size
            taken += -(-size // segment) if segment else 1       # an empty datagram is one, too
            if taken >= BATCH or begin + LARGEST_DATAGRAM > ROOM_BYTES:
                break
        return received, True

    def _read(self, ancillary: list[tuple[int, int, bytes]]) -> int:
        """Keep the stamp; bytes of each datagram of a run, 0 where it is none."""
        self.stamped_at, self.ecn, segment = math.nan, 0, 0
        for level, kind, data in ancillary:
            if level == SOL_UDP and kind == UDP_GRO:
                segment = _GRO_SIZE.unpack(data)[0]
            elif level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(data) == _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack(data)
                self.stamped_at = seconds + 1e-9 * nanoseconds
            elif data and (level, kind) in _TRAFFIC_CLASSES:
                self.ecn = int.from_bytes(data, sys.byteorder) & 3
        return segment


def _pieces(data: memoryview, segment: int, address: SocketAddress, stamped_at: float, ecn: int) -> list[Received]:
    """The data of one system call, cut into datagrams of `segment` bytes, the last of which may be shorter."""
    whole = len(data) // segment if segment else 0
    if whole < 2:
        cuts = (0, segment) if whole and len(data) > segment else (0,)
        return [Received(data[at:at + segment], address, stamped_at, ecn) for at in cuts]
    end = whole * segment
    pieces = [Received(np.frombuffer(data[:end], np.uint8).reshape(whole, segment), address, stamped_at, ecn)]
    return pieces + [Received(data[end:], address, stamped_at, ecn)] * (end < len(data))


class RunReceiver(DatagramReceiver):
    """One system call for the datagrams that the kernel has put together (UDP_GRO), and for a batch of such runs (recvmmsg)."""

    def __init__(self, udp: socket.socket):
        super().__init__(udp)
        self._messages: message_batch.MessageBatch | None = None

    def receive(self, room: memoryview) -> tuple[int, int, tuple]:
        """As `DatagramReceiver.receive`."""
        size, ancillary, _, address = self.socket.recvmsg_into((room,), _GRO_SPACE + self._stamp_space)
        return size, self._read(ancillary) or size, address

    def receive_batch(self, failed: Failed) -> tuple[list[Received], bool]:
        """As `DatagramReceiver.receive_batch`."""
        if not message_batch.available():
            return super().receive_batch(failed)
        if self._messages is None:
            self._messages = message_batch.MessageBatch(self.socket)
        messages, received = self._messages, []
        try:
            count = messages.receive()
        except OSError as error:
            if error.errno not in _WOULD_BLOCK:
                failed(error, 1)
            return received, error.errno not in _WOULD_BLOCK
        if count > 1 and self.tells_ecn:
            messages.find_class(0, _TRAFFIC_CLASSES)
        for begin, end in messages.alike(count):
            segment, address = self._read(messages.controls(begin)), messages.address(begin)
            data = messages.data(begin, end)
            if not segment and len(data) > 1 and data.shape[1] >= LEAST_OF_RUN:
                received.append(Received(data, address, self.stamped_at, self.ecn))
                continue
            for row in range(end - begin):
                if row:
                    segment = self._read(messages.controls(begin + row))
                received += _pieces(data[row].data, segment or data.shape[1], address, self.stamped_at, self.ecn)
        return received, count == message_batch.MESSAGES


def choose_calls(udp: socket.socket, batching: bool | None, log: logging.Logger) -> tuple[DatagramSender, DatagramReceiver]:
    """Choose how to send and receive with `udp`, a UDP socket; the log says what was chosen and why.

    :param batching: None takes runs where the kernel knows them, False one datagram a call, True runs or an error
    :raises TransportError: `batching` is True and the kernel refuses
    """
    refusals = {}
    sender: DatagramSender = DatagramSender(udp)
    receiver: DatagramReceiver = DatagramReceiver(udp)
    if batching is not False:
        if reason := _refusal(udp, UDP_SEGMENT):
            refusals['UDP_SEGMENT'] = reason
        else:
            sender = RunSender(udp, log)
        if reason := _refusal(udp, UDP_GRO):
            refusals['UDP_GRO'] = reason
        else:
            receiver = RunReceiver(udp)
    reasons = ', '.join(f'no {option}: {reason}' for option, reason in refusals.items())
    if batching and refusals:
        raise TransportError(f'batching = True, but this system cannot do it ({reasons}): expected None or False')
    log.info(
        'UDP %s: a system call sends %s and receives %s%s', format_address(udp.getsockname()),
        'a run of datagrams' if isinstance(sender, RunSender) else 'one datagram',
        'a run' if isinstance(receiver, RunReceiver) else 'one', f' ({reasons})' if reasons else '',
    )
    return sender, receiver


def _refusal(udp: socket.socket, option: int) -> str:
    """Why the kernel does not know a socket option, '' where it does; UDP_GRO is on from then on."""
    if not sys.platform.startswith('linux') or not hasattr(udp, 'recvmsg_into'):
        return f'{sys.platform} has none'
    try:
        if option == UDP_GRO:
            udp.setsockopt(SOL_UDP, UDP_GRO, 1)
            return ''
        # Read it back: a system that accepts every option and ignores it would send a run as one large datagram.
        udp.setsockopt(SOL_UDP, UDP_SEGMENT, _PROBE_BYTES)
        known = udp.getsockopt(SOL_UDP, UDP_SEGMENT) == _PROBE_BYTES
        udp.setsockopt(SOL_UDP, UDP_SEGMENT, 0)
        return '' if known else 'the option has no effect'
    except OSError as error:
        return _name(error)


def _name(error: OSError) -> str:
    return f'{error_name(error)}, {error.strerror}'
