"""An image codec and an ideal erasure code over UDP, to the whole model; the answer in several copies, as evitif's."""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time

import numpy as np

from benchmarks.link.conditions import Condition
from benchmarks.link.contestants.context import Context, NewestImage, OnAnswer, OnReplaced
from benchmarks.link.erasure import MISSING, Decoder, Encoder, zfec
from benchmarks.link.images import decode, encode
from evitif.pipeline.slot import LatestSlots
from evitif.protocol.rate.copies import sufficient_copies
from evitif.transport.addresses import open_udp_socket
from evitif.transport.batching import LARGEST_DATAGRAM, choose_calls
from evitif_lab.rivals.parity import FAILURE, HEADER

if zfec is None:
    raise ImportError(MISSING)

ANSWER = struct.Struct('!IId')      # number, class id, seconds of computation
BUFFER_BYTES = 4 << 20
FEWEST_COPIES, MOST_COPIES = 3, 20  # of an answer, as evitif's


def _open(address: tuple[str, int]) -> tuple:
    udp = open_udp_socket(socket.AF_INET, address, receive_buffer_bytes=BUFFER_BYTES, send_buffer_bytes=BUFFER_BYTES)
    udp.setblocking(True)
    return choose_calls(udp, None, logging.getLogger(__name__))


def _lost(error: OSError, datagrams: int) -> None:
    """What the kernel cannot take now is lost, as on the air."""


class Robot:
    gives_up_s = 1.0

    def __init__(self, context: Context, options: dict, on_answer: OnAnswer, on_replaced: OnReplaced):
        self._options, self._on_answer = options, on_answer
        self._address = context.reach(options['name'])
        self._sender, self._receiver = _open(('0.0.0.0', 0))
        self._encoder = Encoder(0.0)
        self._compute: dict[int, float] = {}        # of frames without an answer, the newest few
        self._images = NewestImage(self._send, on_replaced)
        self.submit = self._images.submit
        threading.Thread(target=self._receive, daemon=True).start()

    def connect(self, condition: Condition) -> None:
        """Listen and open the way to the bridge."""
        self._encoder = Encoder(condition.loss, condition.burst)

    def disconnect(self) -> None:
        """Close what `connect` opened."""
        self._images.discard()

    def _send(self, number: int, image: np.ndarray) -> None:
        began = time.monotonic()
        data = encode(image, self._options['codec'], self._options['quality'])
        datagrams = self._encoder.datagrams(number, data)
        self._compute[number] = time.monotonic() - began
        if len(self._compute) > 64:
            self._compute.pop(next(iter(self._compute)), None)
        self._sender.send(datagrams, self._address, _lost)

    def _receive(self) -> None:
        room = memoryview(bytearray(LARGEST_DATAGRAM))
        while True:
            try:
                size, segment, _ = self._receiver.receive(room)
            except OSError:
                continue
            for at in range(0, size, segment):
                number, class_id, compute = ANSWER.unpack_from(room[at:])
                here = self._compute.pop(number, None)
                if here is not None:        # the first copy
                    self._on_answer(number, class_id, here + compute)


class Bridge:
    def __init__(self, context: Context, options: dict):
        self._context = context
        self._sender, self._receiver = _open(context.listen(options['name']))
        self._copies = 1
        self._slots: LatestSlots = LatestSlots()
        for target in (self._receive, self._answer):
            threading.Thread(target=target, daemon=True).start()

    def connect(self, condition: Condition) -> None:
        """Listen for the robot."""
        self._context.stream        # noqa: B018 - loaded before the first image comes
        self._copies = sufficient_copies(condition.loss, FAILURE, FEWEST_COPIES, MOST_COPIES, condition.burst)

    def _receive(self) -> None:
        room = memoryview(bytearray(LARGEST_DATAGRAM))
        decoder = Decoder()
        while True:
            try:
                size, segment, address = self._receiver.receive(room)
            except OSError:
                continue
            for at in range(0, size, segment):
                datagram = room[at:min(at + segment, size)]
                if len(datagram) > HEADER.size and (complete := decoder.take(datagram)) is not None:
                    self._slots.put('frame', (*complete, address))

    def _answer(self) -> None:
        while (item := self._slots.take()) is not None:
            number, data, address = item
            began = time.monotonic()
            class_id = self._context.whole(decode(data))
            answer = ANSWER.pack(number, class_id, time.monotonic() - began)
            self._sender.send([answer] * self._copies, address, _lost)
