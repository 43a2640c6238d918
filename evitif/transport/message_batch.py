"""`recvmmsg`: what waits in a UDP socket, up to 64 messages, in one system call (recvmmsg(2), Linux 2.6.33).

Python has no call for it; `ctypes` calls the C library. Its structures are numpy arrays, so the fields of all messages are read and
compared at once.
"""

from __future__ import annotations

import ctypes
import functools
import os
import socket
import struct
import sys
from collections.abc import Callable

import numpy as np

MESSAGES = 64                   # of one call
ROOM_BYTES = 65536 + 1280       # for each: the largest run that the kernel puts together, and no power of two, so that the first lines
#                                 of all messages do not share the few places that a cache has for one remainder
_ADDRESS_BYTES, _CONTROL_BYTES = 28, 128        # sockaddr_in6; two control messages take 56
# struct msghdr, struct mmsghdr, struct iovec and struct cmsghdr of the C library, in the machine's own sizes and order
_HEADER = np.dtype([('name', np.uintp), ('name_length', np.uint32), ('vector', np.uintp), ('vector_length', np.uintp),
                    ('control', np.uintp), ('control_length', np.uintp), ('flags', np.int32)], align=True)
_MESSAGE = np.dtype([('header', _HEADER), ('size', np.uint32)], align=True)
_VECTOR = np.dtype([('base', np.uintp), ('length', np.uintp)])
_CONTROL = struct.Struct('@Nii')
_IPV4, _IPV6 = struct.Struct('!2xH4s'), struct.Struct('!2xHI16s')
_SCOPE = struct.Struct('@I')


@functools.cache
def _library_call() -> Callable[..., int] | None:
    """The C library's `recvmmsg`, or None where there is none."""
    if not sys.platform.startswith('linux'):
        return None
    try:
        call = ctypes.CDLL(None, use_errno=True).recvmmsg
    except (OSError, AttributeError):
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p]
    return call


def available() -> bool:
    """Whether this system has `recvmmsg`."""
    return _library_call() is not None


class MessageBatch:
    """Room for 64 messages of one non-blocking socket of IPv4 or IPv6, and what the last call put into it."""

    def __init__(self, udp: socket.socket):
        self._descriptor = udp.fileno()
        self._rooms = np.empty((MESSAGES, ROOM_BYTES), np.uint8)
        self._names = np.zeros((MESSAGES, _ADDRESS_BYTES), np.uint8)
        self._controls = np.zeros((MESSAGES, _CONTROL_BYTES), np.uint8)
        self._vectors = np.zeros(MESSAGES, _VECTOR)
        self._vectors['base'] = self._rooms.ctypes.data + ROOM_BYTES * np.arange(MESSAGES)
        self._vectors['length'] = ROOM_BYTES
        self._messages = np.zeros(MESSAGES, _MESSAGE)
        headers = self._messages['header']
        for field, array, length, size in (('name', self._names, 'name_length', _ADDRESS_BYTES),
                                           ('control', self._controls, 'control_length', _CONTROL_BYTES),
                                           ('vector', self._vectors.view(np.uint8).reshape(MESSAGES, -1), 'vector_length', 1)):
            headers[field] = array.ctypes.data + array.shape[1] * np.arange(MESSAGES)
            headers[length] = size
        self._at = self._messages.ctypes.data
        self._sizes, self._name_lengths, self._control_lengths = self._messages['size'], headers['name_length'], headers['control_length']
        call = _library_call()
        if call is None:
            raise OSError('this system has no recvmmsg: expected a call of `available` first')
        self._call = call
        self.class_at = 0                # of the traffic class in the control messages; 0: none, or not found yet
        self._address = b'', ()          # the last one, as it came and as Python writes it

    def receive(self) -> int:
        """Take what waits; how many messages it was. Raises OSError: nothing is there (BlockingIOError), or what the network reports."""
        self._name_lengths[:], self._control_lengths[:] = _ADDRESS_BYTES, _CONTROL_BYTES
        count = self._call(self._descriptor, self._at, MESSAGES, socket.MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return count

    def alike(self, count: int) -> list[tuple[int, int]]:
        """The first `count` messages as ranges with one size, one sender, control messages of one length, and one traffic class."""
        if count == 1:
            return [(0, 1)]
        sizes = self._sizes[:count].tolist()
        controls = self._kinds(count)
        names = self._names[:count].tobytes()
        # Mostly all are alike, and comparing bytes and lists first is faster than comparing arrays.
        if sizes.count(sizes[0]) < count or controls.count(controls[0]) < count or names != names[:_ADDRESS_BYTES] * count:
            kinds = list(zip(sizes, controls, (names[at:at + _ADDRESS_BYTES] for at in range(0, len(names), _ADDRESS_BYTES)), strict=True))
            cuts = [0, *(k for k in range(1, count) if kinds[k] != kinds[k - 1]), count]
            return list(zip(cuts[:-1], cuts[1:], strict=True))
        return [(0, count)]

    def _kinds(self, count: int) -> list:
        """For each message what tells its control messages from others': their length, and the traffic class where there is one."""
        lengths = self._control_lengths[:count]
        if not self.class_at or not lengths.size or (lengths <= self.class_at).any():
            return lengths.tolist()
        return (lengths.astype(np.int64) << 8 | self._controls[:count, self.class_at]).tolist()

    def find_class(self, index: int, kinds: frozenset[tuple[int, int]]) -> None:
        """Note where in a message's control messages the traffic class stands; the kernel writes them in one order."""
        raw, at = self._controls[index, :self._control_lengths[index]].tobytes(), 0
        self.class_at = 0
        while at + _CONTROL.size <= len(raw):
            length, level, kind = _CONTROL.unpack_from(raw, at)
            if length < _CONTROL.size:
                return
            if (level, kind) in kinds:
                self.class_at = at + _CONTROL.size
            at += socket.CMSG_SPACE(length - _CONTROL.size)

    def data(self, begin: int, end: int) -> np.ndarray:
        """The data of messages of one size: uint8 [messages, size], in the room that the next call overwrites."""
        return self._rooms[begin:end, :self._sizes[begin]]

    def address(self, index: int) -> tuple:
        """Who sent a message, as `socket.recvfrom` says it."""
        raw = self._names[index].tobytes()
        if raw != self._address[0]:
            self._address = raw, _address(raw)
        return self._address[1]

    def controls(self, index: int) -> list[tuple[int, int, bytes]]:
        """The control messages that came with a message, as `socket.recvmsg` gives them: level, kind, data."""
        raw, found, at = self._controls[index, :self._control_lengths[index]].tobytes(), [], 0
        while at + _CONTROL.size <= len(raw):
            length, level, kind = _CONTROL.unpack_from(raw, at)
            if length < _CONTROL.size:
                break
            found.append((level, kind, raw[at + _CONTROL.size:at + length]))
            at += socket.CMSG_SPACE(length - _CONTROL.size)
        return found


def _address(raw: bytes) -> tuple:
    if int.from_bytes(raw[:2], sys.byteorder) == socket.AF_INET:
        port, host = _IPV4.unpack_from(raw)
        return socket.inet_ntop(socket.AF_INET, host), port
    port, flow, host = _IPV6.unpack_from(raw)
    return socket.inet_ntop(socket.AF_INET6, host), port, flow, _SCOPE.unpack_from(raw, _IPV6.size)[0]
