"""What a system call for each datagram costs beside one for a run of them, and beside TCP: a frame there, an answer back.

Two processes talk over loopback. Each round sends some frames in every way, in an order drawn anew, so that whatever else
the machine does meets all alike; what is compared is the median of the rounds' ratios. A frame's CPU time is that of both
processes, and the kernel's within them. TCP sends a frame as one piece, since loopback's packets are that large.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.part import command, save
from evitif.transport import TransportError, UdpLoop
from evitif.transport.addresses import open_udp_socket
from evitif.transport.batching import SOL_UDP, UDP_GRO, UDP_SEGMENT, choose_calls
from evitif_lab.commands.options import positive_int

FRAME_BYTES, DATAGRAM_BYTES, ANSWER_BYTES = 37_800, 1158, 100
DATAGRAMS = -(-FRAME_BYTES // DATAGRAM_BYTES)
LOOPBACK = ('127.0.0.1', 0)
TIMEOUT_S = 1.0                 # then the frame or its answer is taken as lost; it is counted, and not in the figures
WARM_UP = 3                     # rounds
BUFFER_BYTES = 4 << 20

NUMBER = struct.Struct('=I')    # of the frame, at the beginning of each datagram and answer
RUN = [(SOL_UDP, UDP_SEGMENT, struct.pack('=H', DATAGRAM_BYTES))]
GRO_SPACE = socket.CMSG_SPACE(4)

WAYS = {
    'bare, runs': 'sendmsg with UDP_SEGMENT, recvmsg with UDP_GRO',
    'bare, single': 'sendto, recvfrom',
    'UdpLoop, runs': 'batching=True',
    'UdpLoop, single': 'batching=False',
    'TCP': 'a kept connection, TCP_NODELAY',
}
REFERENCE = 'bare, single'
TITLE = 'System calls'
QUICK = 'fewer rounds'


class Frame:
    """The datagrams of a frame, in one buffer."""

    def __init__(self):
        self.buffer = memoryview(bytearray(FRAME_BYTES))
        self.datagrams = [self.buffer[at:at + DATAGRAM_BYTES] for at in range(0, FRAME_BYTES, DATAGRAM_BYTES)]

    def stamp(self, number: int) -> None:
        """Number all datagrams."""
        for datagram in self.datagrams:
            NUMBER.pack_into(datagram, 0, number)


class Arrivals:
    """Counts the datagrams of the newest frame; `take` says of which frame the last one is there."""

    def __init__(self):
        self.number = self.count = 0

    def take(self, datagram: bytes | memoryview) -> int | None:
        """Take a datagram; return the number of a frame that is complete."""
        number, = NUMBER.unpack_from(datagram)
        if number != self.number:
            self.number, self.count = number, 0
        self.count += 1
        return number if self.count == DATAGRAMS else None


def answer(number: int) -> bytes:
    """The answer to a frame."""
    return NUMBER.pack(number).ljust(ANSWER_BYTES, b'\0')


# --- bare loops ---

def blocking_udp(runs: bool) -> socket.socket:
    """A blocking socket on loopback."""
    udp = open_udp_socket(socket.AF_INET, LOOPBACK, receive_buffer_bytes=BUFFER_BYTES, send_buffer_bytes=BUFFER_BYTES)
    udp.setblocking(True)
    if runs:
        udp.setsockopt(SOL_UDP, UDP_GRO, 1)
    return udp


def limit_waiting(opened: socket.socket) -> None:
    """Give up waiting after TIMEOUT_S."""
    # The kernel's limit, since Python's costs a poll() before each call.
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack('=qq', int(TIMEOUT_S), 0))


def serve_bare(udp: socket.socket, runs: bool) -> None:
    """Answer frames by bare calls until the peer goes."""
    room, arrivals = memoryview(bytearray(65536)), Arrivals()
    while True:
        if runs:
            size, ancillary, _, address = udp.recvmsg_into((room,), GRO_SPACE)
            segment = struct.unpack('=i', ancillary[0][2])[0] if ancillary else size
        else:
            size, address = udp.recvfrom_into(room)
            segment = size
        for at in range(0, size, segment):
            number = arrivals.take(room[at:min(at + segment, size)])
            if number is not None:
                udp.sendto(answer(number), address)


def bare(runs: bool, address: tuple) -> Callable[[int], float | None]:
    """What sends a frame by bare calls and returns the seconds to its answer."""
    udp, frame = blocking_udp(runs), Frame()
    room = memoryview(bytearray(65536))
    limit_waiting(udp)

    def exchange(number: int) -> float | None:
        frame.stamp(number)
        began = time.perf_counter()
        if runs:
            udp.sendmsg(frame.datagrams, RUN, 0, address)
        else:
            for datagram in frame.datagrams:
                udp.sendto(datagram, address)
        try:
            while True:
                if runs:
                    udp.recvmsg_into((room,), GRO_SPACE)
                else:
                    udp.recvfrom_into(room)
                if NUMBER.unpack_from(room)[0] == number:
                    return time.perf_counter() - began
        except BlockingIOError:
            return None
    return exchange


# --- UdpLoop ---

class Protocol:
    """What `UdpLoop` drives: the bridge's side answers a frame, the edge's makes an event of an answer. No timers."""

    def __init__(self):
        self.to_send = []
        self.events = []
        self.arrivals = Arrivals()

    def datagrams_to_send(self, now: float) -> list:
        """What is waiting to be sent."""
        pending, self.to_send = self.to_send, []
        return pending

    def next_event(self) -> int | None:
        """The number of the next frame that is complete; None where there is none."""
        return self.events.pop() if self.events else None

    def get_timer(self) -> None:
        """Nothing happens by itself."""

    def close(self, now: float) -> None:
        """Nothing to say."""


class BridgeProtocol(Protocol):
    def receive_datagram(self, data: bytes | memoryview, address: tuple, now: float, arrived_at: float) -> None:
        """Answer each complete frame."""
        number = self.arrivals.take(data)
        if number is not None:
            self.to_send.append((answer(number), address))


class EdgeProtocol(Protocol):
    def receive_datagram(self, data: bytes | memoryview, now: float, arrived_at: float) -> None:
        """Note the answer."""
        self.events.append(NUMBER.unpack_from(data)[0])


def looped(runs: bool, address: tuple) -> Callable[[int], float | None]:
    """The round trip ends in the loop's thread, which is where the answer is handed out."""
    protocol, frame, answered = EdgeProtocol(), Frame(), threading.Semaphore(0)
    arrived = [0, 0.0]

    def on_event(number: int) -> None:
        arrived[:] = number, time.perf_counter()
        answered.release()
    loop = UdpLoop(protocol, remote=address, on_event=on_event, receive_buffer_bytes=BUFFER_BYTES, batching=runs)
    loop.start()

    def exchange(number: int) -> float | None:
        frame.stamp(number)
        began = time.perf_counter()
        loop.call(lambda now: protocol.to_send.extend(frame.datagrams))
        while answered.acquire(timeout=TIMEOUT_S):
            if arrived[0] == number:
                return arrived[1] - began
        return None
    return exchange


# --- TCP ---

def fill(connection: socket.socket, room: memoryview) -> None:
    """
    Read until `room` is full.

    :raises ConnectionError: the other side ended
    """
    at = 0
    while at < len(room):
        size = connection.recv_into(room[at:])
        if not size:
            raise ConnectionError('the connection was closed')
        at += size


def serve_tcp(listener: socket.socket) -> None:
    """Answer frames over one TCP connection."""
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    room = memoryview(bytearray(FRAME_BYTES))
    while True:
        fill(connection, room)
        connection.sendall(answer(NUMBER.unpack_from(room)[0]))


def tcp(address: tuple) -> Callable[[int], float | None]:
    """What sends a frame over TCP and returns the seconds to its answer."""
    connection, frame = socket.create_connection(address), Frame()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    room = memoryview(bytearray(ANSWER_BYTES))

    def exchange(number: int) -> float | None:
        frame.stamp(number)
        began = time.perf_counter()
        connection.sendall(frame.buffer)
        fill(connection, room)
        return time.perf_counter() - began
    return exchange


# --- the two processes ---

def serve(ways: list[str], pipe: Connection) -> None:
    """The far side: every way at once, each in a thread that sleeps unless it is its turn; tells its CPU time when asked."""
    addresses, loops = {}, []
    for way in ways:
        runs = way.endswith('runs')
        if way == 'TCP':
            opened = socket.create_server(LOOPBACK)
            addresses[way] = opened.getsockname()
            threading.Thread(target=serve_tcp, args=(opened,), daemon=True).start()
        elif way.startswith('bare'):
            opened = blocking_udp(runs)
            addresses[way] = opened.getsockname()
            threading.Thread(target=serve_bare, args=(opened, runs), daemon=True).start()
        else:
            loop = UdpLoop(BridgeProtocol(), bind=LOOPBACK, on_event=print, receive_buffer_bytes=BUFFER_BYTES, batching=runs)
            loop.start()
            loops.append(loop)
            addresses[way] = loop.local_address
    pipe.send(addresses)
    while pipe.recv():
        pipe.send(time.process_time())
    for loop in loops:
        loop.stop()


def measure(rounds: int, frames: int, seed: int = 0) -> dict:
    """
    The figures of every way that the system knows.

    :return: `ways`, each with its round trip and CPU time in µs, their ratios to REFERENCE, and frames without an answer
    """
    with open_udp_socket(socket.AF_INET, LOOPBACK, receive_buffer_bytes=1 << 16, send_buffer_bytes=1 << 16) as probe:
        try:
            choose_calls(probe, True, logging.getLogger(__name__))
            ways = list(WAYS)
        except TransportError as error:
            print(f'runs are left out: {error}', flush=True)
            ways = [way for way in WAYS if not way.endswith('runs')]
    context = multiprocessing.get_context('spawn')
    pipe, theirs = context.Pipe()
    process = context.Process(target=serve, args=(ways, theirs), daemon=True)
    process.start()
    theirs.close()
    addresses = pipe.recv()
    exchanges = {way: tcp(addresses[way]) if way == 'TCP' else
                 (bare if way.startswith('bare') else looped)(way.endswith('runs'), addresses[way]) for way in ways}

    def cpu_seconds() -> float:
        pipe.send(True)
        return pipe.recv() + time.process_time()

    trips: dict = {way: [] for way in ways}     # [round][frame] seconds
    cpu: dict = {way: [] for way in ways}       # [round] seconds a frame
    lost = dict.fromkeys(ways, 0)
    number, order = 0, random.Random(seed)
    for round_number in range(-WARM_UP, rounds):
        for way in order.sample(ways, len(ways)):
            exchange, answered = exchanges[way], []
            before = cpu_seconds()
            for _ in range(frames):
                number += 1
                seconds = exchange(number)
                if seconds is not None:
                    answered.append(seconds)
            spent = cpu_seconds() - before
            if round_number >= 0:
                trips[way].append(answered)
                cpu[way].append(spent / frames)
                lost[way] += frames - len(answered)
    pipe.send(False)
    process.join(10)
    return {'ways': {way: {
        'calls': WAYS[way], 'round_trip_us': quartiles(np.concatenate(trips[way]) * 1e6), 'cpu_us': quartiles(np.array(cpu[way]) * 1e6),
        'round_trip_ratio': quartiles(ratios([np.median(answered) for answered in trips[way]],
                                             [np.median(answered) for answered in trips[REFERENCE]])),
        'cpu_ratio': quartiles(ratios(cpu[way], cpu[REFERENCE])), 'without_answer': lost[way],
    } for way in ways}}


def ratios(values: list, references: list) -> np.ndarray:
    """Elementwise."""
    return np.array(values) / np.array(references)


def quartiles(values: np.ndarray) -> dict:
    """Median and quartiles."""
    low, median, high = np.nanpercentile(values, [25, 50, 75])
    return {'median': float(median), 'quartiles': [float(low), float(high)]}


def markdown(ways: dict) -> str:
    """One line a way."""
    lines = [f'| | round trip, µs (quartiles) | of "{REFERENCE}" | CPU a frame, µs (quartiles) | of "{REFERENCE}" |',
             '| --- | ---: | ---: | ---: | ---: |']
    for way, result in ways.items():
        cells = [f'{way}: {result["calls"]}']
        for kind in ('round_trip', 'cpu'):
            figures, ratio = result[f'{kind}_us'], result[f'{kind}_ratio']
            low, high = figures['quartiles']
            cells += [f'{figures["median"]:.0f} ({low:.0f} to {high:.0f})', f'{ratio["median"]:.2f}']
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Further options of `evitif bench transport_calls`."""
    parser.add_argument('--rounds', type=positive_int, help=f'of all ways, after {WARM_UP} to warm up (default: 200)')
    parser.add_argument('--frames', type=positive_int, default=30, help='of one way in a round (default: 30)')


def run(quick: bool, output: Path, rounds: int | None = None, frames: int = 30) -> dict:
    """The part of `make bench`."""
    rounds = rounds or (40 if quick else 200)
    return save(output, 'transport_calls', command('transport_calls', rounds=rounds), measure(rounds, frames),
                rounds=rounds, frames=frames)


def section(result: dict, images: Path) -> str:
    """Its page, in Markdown."""
    return (f'One process sends a frame of {FRAME_BYTES:,} bytes in {DATAGRAMS} datagrams to another over loopback, which answers with '
            f'{ANSWER_BYTES} bytes; {result["rounds"]} rounds of {result["frames"]} frames. `UdpLoop` runs without the protocol here.\n\n'
            + markdown(result['figures']['ways']))
