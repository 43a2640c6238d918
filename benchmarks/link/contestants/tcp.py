"""int8 tokens, or a JPEG, over one TCP connection that is kept for a turn, with TCP_NODELAY.

In TCP's favour: it is opened before the losses begin; no more frames are under way than a round trip without loss asks
for, so that they do not wait for one another; and nothing of a turn is left to the next.
"""

from __future__ import annotations

import math
import socket
import struct
import threading
import time

import numpy as np

from benchmarks.link.conditions import Condition
from benchmarks.link.contestants.context import Context, NewestImage, OnAnswer, OnReplaced
from benchmarks.link.images import decode, encode

HEADER = struct.Struct('!II')       # number, bytes that follow
ANSWER = struct.Struct('!IId')      # number, class id, seconds of computation
CONNECT_S = 10.0
TCP_CONGESTION = getattr(socket, 'TCP_CONGESTION', 13)
WORK_S = 0.02                       # for the computation, when the frames under way are counted


def _configure(opened: socket.socket, congestion: str) -> None:
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.setsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, congestion.encode())


def _read(opened: socket.socket, size: int) -> bytes:
    """
    Exactly `size` bytes.

    :raises ConnectionError: the other side ended
    """
    parts = bytearray(size)
    room = memoryview(parts)
    while room:
        count = opened.recv_into(room)
        if not count:
            raise ConnectionError('the connection was closed')
        room = room[count:]
    return bytes(parts)


class Robot:
    gives_up_s = 5.0

    def __init__(self, context: Context, options: dict, on_answer: OnAnswer, on_replaced: OnReplaced):
        self._context, self._options, self._on_answer = context, options, on_answer
        self._socket: socket.socket | None = None
        self._turn = threading.Condition()
        self._under_way: dict[int, float] = {}      # seconds of computation here, by number
        self._limit = 1
        self._images = NewestImage(self._send, on_replaced)
        self.submit = self._images.submit

    def connect(self, condition: Condition) -> None:
        """Open the connection."""
        opened = socket.create_connection(self._context.reach(self._options['name']), CONNECT_S)
        opened.settimeout(None)
        _configure(opened, self._options['congestion'])
        with self._turn:
            self._under_way.clear()
            self._limit = 1 + math.ceil(self._context.settings['rate'] * (2e-3 * condition.delay_ms + WORK_S))
            self._socket = opened
        threading.Thread(target=self._receive, args=(opened,), daemon=True).start()

    def disconnect(self) -> None:
        """Close it and forget what was not sent."""
        self._images.discard()
        with self._turn:
            opened, self._socket = self._socket, None
            self._turn.notify_all()
        # Linger 0: what was not sent is forgotten, and the other side is told.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        try:
            opened.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        opened.close()

    def _send(self, number: int, image: np.ndarray) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._socket is None or len(self._under_way) < self._limit)
            opened = self._socket
            if opened is None:
                return
            self._under_way[number] = 0.0
        began = time.monotonic()
        tokens = self._options['payload'] == 'tokens'
        data = self._context.head(image) if tokens else encode(image, self._options['payload'], self._options['quality'])
        with self._turn:
            self._under_way[number] = time.monotonic() - began
        try:
            opened.sendall(HEADER.pack(number, len(data)) + data)
        except OSError:
            pass        # the turn is over

    def _receive(self, opened: socket.socket) -> None:
        try:
            while True:
                number, class_id, compute = ANSWER.unpack(_read(opened, ANSWER.size))
                with self._turn:
                    here = self._under_way.pop(number, 0.0)
                    self._turn.notify_all()
                self._on_answer(number, class_id, here + compute)
        except OSError:
            pass        # the turn is over


class Bridge:
    def __init__(self, context: Context, options: dict):
        self._context, self._options = context, options
        self._listener = socket.create_server(context.listen(options['name']))
        self._listener.setsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, options['congestion'].encode())
        threading.Thread(target=self._serve, daemon=True).start()

    def connect(self, condition: Condition) -> None:
        """Listen for the robot."""
        self._context.stream        # noqa: B018 - loaded before the first image comes

    def _serve(self) -> None:
        while True:
            opened, _ = self._listener.accept()
            _configure(opened, self._options['congestion'])
            threading.Thread(target=self._answer, args=(opened,), daemon=True).start()

    def _answer(self, opened: socket.socket) -> None:
        tokens = self._options['payload'] == 'tokens'
        with opened:
            try:
                while True:
                    number, size = HEADER.unpack(_read(opened, HEADER.size))
                    data = _read(opened, size)
                    began = time.monotonic()
                    class_id = self._context.tail(data) if tokens else self._context.whole(decode(data))
                    opened.sendall(ANSWER.pack(number, class_id, time.monotonic() - began))
            except OSError:
                pass    # the turn is over
