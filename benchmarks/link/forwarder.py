"""The link's delay, rate and bursts: a process that carries IP packets between a TUN device in each of two namespaces.

It treats TCP, UDP and DDS alike, since what it sees are packets. A packet passes the transmitter of limited rate with its
tail-drop queue, may be lost in a burst, and waits out the delay (`ImpairedChannel`).

It is told what to do by lines of JSON on its standard input, and ends with it:

    python -m benchmarks.link.forwarder NAMESPACE NAMESPACE DEVICE
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import itertools
import json
import os
import select
import struct
import sys
import time
from dataclasses import asdict
from pathlib import Path

from evitif.transport.impairment import ImpairedChannel, Impairment

NAMESPACES = Path('/run/netns')
BATCH = 64                  # packets taken from one device before the other has its turn
LARGEST_PACKET = 2048       # the devices' MTU is 1,500
MAX_HELD = 20_000           # packets under way in one direction; more are dropped

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000      # linux/if_tun.h
_CLONE_NEWNET = 0x40000000                                         # linux/sched.h


class Direction:
    """Packets under way from one end to the other. No sockets and no clock."""

    def __init__(self, seed: int):
        self._channel = ImpairedChannel(seed=seed, header_bytes=0)
        self._held: list[tuple[float, int, bytes]] = []     # a heap by time of delivery
        self._order = itertools.count()
        self.overflowed = 0

    def set_impairment(self, impairment: Impairment) -> None:
        """What the packets suffer from now on."""
        self._channel.set_impairment(impairment)

    def take(self, packet: bytes, now: float) -> None:
        """A packet enters the link."""
        if len(self._held) >= MAX_HELD:
            self.overflowed += 1
            return
        for due, copy in self._channel.offer(packet, now):
            heapq.heappush(self._held, (due, next(self._order), copy))

    def due(self, now: float) -> list[bytes]:
        """The packets that leave the link by `now`, in order."""
        leaving = []
        while self._held and self._held[0][0] <= now:
            leaving.append(heapq.heappop(self._held)[2])
        return leaving

    @property
    def next_due(self) -> float | None:
        """When the next packet leaves; None where there is none."""
        return self._held[0][0] if self._held else None


def open_tun(namespace: str, device: str) -> int:
    """
    Make a TUN device in a namespace, which this thread enters for good; the device goes when what is returned is closed.

    :raises OSError: this user may not, or the kernel has no TUN
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with open(NAMESPACES / namespace) as entered:
        if libc.setns(entered.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f'cannot enter the network namespace {namespace}')
    tun = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack('16sH22x', device.encode(), _IFF_TUN | _IFF_NO_PI))
    return tun


def forward(ends: tuple[int, int], commands: int) -> None:
    """Carry packets between the two devices until `commands`, a file descriptor, is at its end."""
    directions = {ends[0]: (Direction(1), ends[1]), ends[1]: (Direction(2), ends[0])}
    poll = select.epoll()
    for descriptor in (*ends, commands):
        poll.register(descriptor, select.EPOLLIN)
    unread = b''
    while True:
        times = [direction.next_due for direction, _ in directions.values() if direction.next_due is not None]
        # epoll counts in whole milliseconds and rounds up; what is due sooner is waited for by select, which does not.
        wait = max(0.0, min(times) - time.monotonic()) if times else None
        if wait is not None and wait < 0.005:
            select.select([poll], [], [], wait)
            wait = 0.0
        for descriptor, _ in poll.poll(wait):
            if descriptor == commands:
                data = os.read(commands, 65536)
                if not data:
                    return
                *lines, unread = (unread + data).split(b'\n')
                for line in lines:
                    impairment = Impairment(**json.loads(line))
                    for direction, _ in directions.values():
                        direction.set_impairment(impairment)
                    print('done', flush=True)
                continue
            direction = directions[descriptor][0]
            for _ in range(BATCH):
                try:
                    packet = os.read(descriptor, LARGEST_PACKET)
                except BlockingIOError:
                    break
                direction.take(packet, time.monotonic())
        now = time.monotonic()
        for direction, far_end in directions.values():
            for packet in direction.due(now):
                try:
                    os.write(far_end, packet)
                except OSError:
                    pass        # the far device is full or down: lost, as on the air


def order(impairment: Impairment) -> bytes:
    """The line that sets both directions."""
    return json.dumps(asdict(impairment)).encode() + b'\n'


def main() -> int:
    """Forward between two namespaces until standard input ends."""
    one, other, device = sys.argv[1:]
    ends = open_tun(one, device), open_tun(other, device)
    print('ready', flush=True)
    try:
        forward(ends, sys.stdin.fileno())
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
