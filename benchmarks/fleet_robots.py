"""Many robots of a fleet in one process: the protocol's own links with a socket each, which can be exchanged for another one."""

from __future__ import annotations

import selectors
import socket
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from benchmarks.fleet_side import HOST, PARAMETERS
from evitif.protocol.edge.config import EdgeConfig
from evitif.protocol.edge.connection import EdgeConnection
from evitif.protocol.edge.links import EdgeLinks
from evitif.protocol.events import AnswerArrived, FrameExpired
from evitif.protocol.frames.packetiser import TokenFrame
from evitif.protocol.sealing.keys import Key

_ROWS = np.arange(PARAMETERS.units * PARAMETERS.row_bytes, dtype=np.uint8).reshape(PARAMETERS.units, -1)


@dataclass
class Robot:
    """One robot, what became of its frames, and when its answers came."""

    links: EdgeLinks
    socket: socket.socket
    sent: dict[int, float] = field(default_factory=dict)            # by frame, when
    ended: Counter[int] = field(default_factory=Counter)
    answered: dict[int, float] = field(default_factory=dict)        # by frame, when
    expired: list[float] = field(default_factory=list)              # when those were sent that were not answered


class Robots:
    """`count` robots whose homes are the directories' ports on this machine."""

    def __init__(self, count: int, directories: list[int], key: Key, redundant: int = 1):
        self._selector = selectors.DefaultSelector()
        self.robots: list[Robot] = []
        for number in range(count):
            def connection(ticket: bytes, number: int = number) -> EdgeConnection:
                return EdgeConnection(PARAMETERS, f'robot {number}', EdgeConfig(min_packets=2, congestion_control=False), key=key,
                                      ticket=ticket)
            links = EdgeLinks(connection, len(directories), redundant)
            for index, port in enumerate(directories):
                links.remote_at(index, (HOST, port))
            robot = Robot(links, self._open(number))
            self.robots.append(robot)
            links.connect(time.monotonic())
        self._frame = 0

    def _open(self, number: int) -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.setblocking(False)
        opened.bind((HOST, 0))
        self._selector.register(opened, selectors.EVENT_READ, number)
        return opened

    def rebind(self, number: int) -> None:
        """A robot has another port from now on."""
        robot = self.robots[number]
        self._selector.unregister(robot.socket)
        robot.socket.close()
        robot.socket = self._open(number)

    @property
    def connected(self) -> int:
        """Robots that have a session."""
        return sum(robot.links.connected for robot in self.robots)

    def wait(self, seconds: float) -> bool:
        """Let time pass until all are connected."""
        end = time.monotonic() + seconds
        while self.connected < len(self.robots) and time.monotonic() < end:
            self.turn(time.monotonic() + 0.02)
        return self.connected == len(self.robots)

    def drive(self, seconds: float, rate: float) -> None:
        """Send `rate` frames/s from each, evenly spread."""
        began = now = time.monotonic()
        sent = 0
        while now < began + seconds:
            while sent < (now - began) * rate * len(self.robots):
                robot = self.robots[sent % len(self.robots)]
                self._frame += 1
                if robot.links.send_frame(TokenFrame(self._frame, self._frame, 'c', _ROWS), now):
                    robot.sent[self._frame] = now
                self._flush(robot, now)
                sent += 1
            self.turn(min(began + (sent + 1) / (rate * len(self.robots)), now + 0.01))
            now = time.monotonic()

    def turn(self, until: float) -> None:
        """Take what arrives until then, and do what is due."""
        for key, _ in self._selector.select(max(0.0, until - time.monotonic())):
            robot = self.robots[key.data]
            for _ in range(64):
                try:
                    data, address = robot.socket.recvfrom(65535)
                except OSError:
                    break
                if robot.links.expects(address):
                    robot.links.receive_datagram(data, address, time.monotonic())
        now = time.monotonic()
        for robot in self.robots:
            timer = robot.links.get_timer()
            if timer is not None and timer <= now:
                robot.links.handle_timer(now)
            self._flush(robot, now)
            while (event := robot.links.next_event()) is not None:
                if isinstance(event, AnswerArrived):
                    robot.ended[event.sent.frame_id] += 1
                    robot.answered[event.sent.frame_id] = now
                elif isinstance(event, FrameExpired):
                    robot.ended[event.frame_id] += 1
                    robot.expired.append(robot.sent.get(event.frame_id, now))

    @staticmethod
    def _flush(robot: Robot, now: float) -> None:
        for data, address in robot.links.datagrams_to_send(now):
            try:
                robot.socket.sendto(data, address)
            except OSError:
                pass                      # lost, as on the air

    def figures(self) -> dict:
        """Counts so far, over all robots."""
        latencies = [at - robot.sent[frame] for robot in self.robots for frame, at in robot.answered.items() if frame in robot.sent]
        return {'sent': sum(len(robot.sent) for robot in self.robots), 'answered': sum(len(robot.answered) for robot in self.robots),
                'expired': sum(len(robot.expired) for robot in self.robots),
                'twice': sum(count > 1 for robot in self.robots for count in robot.ended.values()),
                'p50_ms': round(1e3 * float(np.percentile(latencies, 50)), 2) if latencies else None,
                'p99_ms': round(1e3 * float(np.percentile(latencies, 99)), 2) if latencies else None}

    def gaps_ms(self, since: float, concerned: list[int]) -> list[float]:
        """For each of these robots, how long after `since` its next answer came."""
        found = []
        for number in concerned:
            later = [at for frame, at in self.robots[number].answered.items() if at >= since and self.robots[number].sent[frame] >= since]
            found.append(1e3 * (min(later) - since) if later else float('inf'))
        return found

    def close(self) -> None:
        """Say goodbye."""
        now = time.monotonic()
        for robot in self.robots:
            robot.links.close(now)
            self._flush(robot, now)
            robot.socket.close()
        self._selector.close()
