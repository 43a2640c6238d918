"""Many robots in one process: the protocol's own edges with a socket each, and frames that were made before, so that what is
measured is the bridge."""

from __future__ import annotations

import selectors
import socket
import time
from dataclasses import dataclass

import numpy as np

from evitif.protocol.edge.connection import EdgeConfig, EdgeConnection
from evitif.protocol.events import AnswerArrived, FrameExpired
from evitif.protocol.frames.packetiser import Packetiser, TokenFrame
from evitif.protocol.sealing.keys import Key
from evitif.protocol.wire.parameters import StreamParameters

CONNECT_S = 30.0


@dataclass
class Counts:
    """Of one robot."""

    sent: int = 0
    answered: int = 0
    expired: int = 0


class Fleet:
    """`robots` edges that send frames of `rows` (uint8 [units, row_bytes]) to the bridge at `address`, (host, port).

    Raises TimeoutError where they do not all get a session.
    """

    def __init__(self, parameters: StreamParameters, rows: np.ndarray, address: tuple[str, int], robots: int, *, key: Key | None = None,
                 answer_deadline_s: float = EdgeConfig.answer_deadline_s,
                 max_datagram_bytes: int = EdgeConfig.max_datagram_bytes):
        self._rows = rows
        self._selector = selectors.DefaultSelector()
        self._edges: list[tuple[EdgeConnection, socket.socket]] = []
        self.counts = [Counts() for _ in range(robots)]
        self.latencies: list[float] = []          # seconds from sending to the answer
        config = EdgeConfig(answer_deadline_s=answer_deadline_s, max_datagram_bytes=max_datagram_bytes)
        for number in range(robots):
            opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            opened.setblocking(False)
            opened.connect(address)
            edge = EdgeConnection(parameters, f'robot {number}', config, key=key)
            edge.connect(time.monotonic())
            self._edges.append((edge, opened))
            self._selector.register(opened, selectors.EVENT_READ, number)
        self._frame = 0
        end = time.monotonic() + CONNECT_S
        while not all(edge.connected for edge, _ in self._edges):
            if time.monotonic() > end:
                raise TimeoutError(f'{sum(edge.connected for edge, _ in self._edges)} of {robots} robots were connected after '
                                   f'{CONNECT_S:.0f} s')
            self._turn(time.monotonic() + 0.01)

    def drive(self, seconds: float, rate: float) -> float:
        """Send `rate` frames/s from each robot, evenly spread, for so long, then wait for the last answers. Counts and latencies
        begin anew. Returns the seconds of sending."""
        self.counts[:] = [Counts() for _ in self.counts]
        self.latencies.clear()
        began = now = time.monotonic()
        sent = 0
        while now < began + seconds:
            while sent < (now - began) * rate * len(self._edges):
                self._send(sent % len(self._edges), now)
                sent += 1
            self._turn(min(began + (sent + 1) / (rate * len(self._edges)), now + 0.01))
            now = time.monotonic()
        end = now + self._edges[0][0].config.answer_deadline_s + 0.05
        while time.monotonic() < end:
            self._turn(time.monotonic() + 0.01)
        return now - began

    @property
    def frame_bytes(self) -> int:
        """UDP payload of one frame of one robot."""
        frame = TokenFrame(0, 0, 'camera', self._rows)
        return sum(map(len, Packetiser(self._edges[0][0].parameters).packetise(frame)))

    def close(self) -> None:
        """Close all sockets."""
        for edge, opened in self._edges:
            edge.close(time.monotonic())
            self._flush(edge, opened, time.monotonic())
            opened.close()
        self._selector.close()

    def _send(self, number: int, now: float) -> None:
        edge, opened = self._edges[number]
        self._frame += 1
        if edge.send_frame(TokenFrame(self._frame, self._frame, 'camera', self._rows), now):
            self.counts[number].sent += 1
        self._flush(edge, opened, now)

    @staticmethod
    def _flush(edge: EdgeConnection, opened: socket.socket, now: float) -> None:
        for data in edge.datagrams_to_send(now):
            try:
                opened.send(data)
            except OSError:
                pass                      # lost, as on the air

    def _turn(self, until: float) -> None:
        """Take what arrives until then, and do what is due."""
        for key, _ in self._selector.select(max(0.0, until - time.monotonic())):
            edge, opened = self._edges[key.data]
            for _ in range(64):
                try:
                    data = opened.recv(65535)
                except OSError:
                    break
                edge.receive_datagram(data, time.monotonic())
        now = time.monotonic()
        for number, (edge, opened) in enumerate(self._edges):
            timer = edge.get_timer()
            if timer is not None and timer <= now:
                edge.handle_timer(now)
            self._flush(edge, opened, now)
            while (event := edge.next_event()) is not None:
                if isinstance(event, AnswerArrived):
                    self.counts[number].answered += 1
                    self.latencies.append(event.round_trip_s)
                elif isinstance(event, FrameExpired):
                    self.counts[number].expired += 1
