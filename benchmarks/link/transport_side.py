"""One side of the transport's part: frames of int8 tokens, from memory to memory, in every way beside the others.

The sender stamps nothing: both sides note when a frame was handed in, or was whole, on the one clock of the machine.
"""

from __future__ import annotations

import itertools
import json
import logging
import socket
import struct
import sys
import threading
import time

import numpy as np

from benchmarks.link.processes import serve
from evitif.protocol.bridge.endpoint import BridgeEndpoint
from evitif.protocol.edge.config import EdgeConfig
from evitif.protocol.edge.connection import EdgeConnection
from evitif.protocol.events import Connected, FrameReady
from evitif.protocol.frames.packetiser import Packetiser, TokenFrame
from evitif.protocol.sealing.keys import Key, RobotKeys, read_key_file
from evitif.protocol.wire.parameters import StreamParameters
from evitif.transport import UdpLoop
from evitif.transport.addresses import open_udp_socket
from evitif.transport.batching import LARGEST_DATAGRAM, SOL_UDP, UDP_SEGMENT, RunReceiver, choose_calls
from evitif.transport.batching import runs as batching_runs

WAYS = ('bare loop', 'evitif, unsealed, unpaced', 'evitif, unsealed', 'evitif, sealed', 'TCP')
EVITIF = tuple(way for way in WAYS if way.startswith('evitif'))
NUMBER = struct.Struct('=I')
BUFFER_BYTES = 4 << 20
CONNECT_S = 10.0


def parameters_of(channels: int) -> StreamParameters:
    """Of a ViT at 224 × 224 with patches of 16, int8."""
    return StreamParameters(model=f'vit-{channels}', fingerprint='cd' * 32, cut=6, quantisation='int8', image_size=(224, 224), tokens=197,
                            prefix_tokens=1, grid=(14, 14), channels=channels, groups=1, row_bytes=channels + 4, classes=1000)


def frame_of(parameters: StreamParameters, number: int = 0) -> TokenFrame:
    """A frame of random int8 rows."""
    rows = np.random.default_rng(0).integers(0, 256, (parameters.units, parameters.row_bytes), np.uint8)
    return TokenFrame(number, 0, 'camera', rows)


def protocol_cost(channels: int, frames: int = 60, pause_s: float = 0.0) -> dict[str, float]:
    """What of it is the protocol's own work, unsealed and unpaced, without sockets and threads: µs a frame to packetise it and to take its
    datagrams in the runs that they leave in, medians, and how many datagrams these are.

    :param pause_s: before each of the two, after which a processor has to fetch again what it runs
    """
    parameters, seconds = parameters_of(channels), {'packetise': [], 'reassemble': []}
    edge = EdgeConnection(parameters, 'robot', EdgeConfig(congestion_control=False))
    bridge, address, now = BridgeEndpoint(parameters, 'bridge'), ('robot', 1), 0.0
    edge.connect(now)
    while not edge.connected:
        for data in edge.datagrams_to_send(now):
            bridge.receive_datagram(data, address, now)
        for data, _ in bridge.datagrams_to_send(now):
            edge.receive_datagram(data, now)
    edge.datagrams_to_send(now)
    for number in range(frames):
        now += 0.03
        frame, runs = frame_of(parameters, number), []
        time.sleep(pause_s)
        began = time.perf_counter()
        edge.send_frame(frame, now)
        while (run := edge.run_to_send(now)) is not None:
            if not isinstance(run, bytes):      # a PING
                runs.append(run)
        seconds['packetise'].append(time.perf_counter() - began)
        time.sleep(pause_s)
        began = time.perf_counter()
        for run in runs:
            bridge.receive_run(run, address, now)
        while bridge.next_event() is not None:
            pass
        seconds['reassemble'].append(time.perf_counter() - began)
        bridge.datagrams_to_send(now)
    return {f'{name}_us': 1e6 * float(np.median(values)) for name, values in seconds.items()} | {'datagrams': sum(map(len, runs))}


def _udp(address: tuple) -> socket.socket:
    udp = open_udp_socket(socket.AF_INET, address, receive_buffer_bytes=BUFFER_BYTES, send_buffer_bytes=BUFFER_BYTES)
    udp.setblocking(True)
    return udp


class Receiver:
    """Takes what comes, in a thread for each way, and notes when each frame was whole."""

    def __init__(self, settings: dict):
        self.parameters = parameters_of(settings['channels'])
        host = settings['host']
        self._arrived: dict[str, list[tuple[int, float]]] = {way: [] for way in WAYS}
        bare = _udp((host, 0))
        tcp = socket.create_server((host, 0))
        self.addresses = {'bare loop': bare.getsockname(), 'TCP': tcp.getsockname()}
        for target, opened in ((self._bare, bare), (self._tcp, tcp)):
            threading.Thread(target=target, args=(opened,), daemon=True).start()
        for way in EVITIF:
            keys = RobotKeys(default=read_key_file(settings['key_file'])) if way.endswith(', sealed') else None
            loop = UdpLoop(BridgeEndpoint(self.parameters, 'bridge', keys=keys), bind=(host, 0), on_event=self._noting(way))
            loop.start()
            self.addresses[way] = loop.local_address

    def _noting(self, way: str):
        arrived = self._arrived[way]

        def on_event(event: object) -> None:
            if isinstance(event, FrameReady):
                arrived.append((event.frame.frame_id, time.monotonic()))
        return on_event

    def _bare(self, udp: socket.socket) -> None:
        """One `recvmsg` for what the kernel has put together: as quick here as `recvmmsg` and what it takes to call it."""
        _, receiver = choose_calls(udp, None, logging.getLogger(__name__))
        room, arrived = memoryview(bytearray(LARGEST_DATAGRAM)), self._arrived['bare loop']
        expected = sum(map(len, Packetiser(self.parameters).packetise(frame_of(self.parameters))))
        number, total = -1, 0
        while True:
            size, _, _ = receiver.receive(room)
            first, = NUMBER.unpack_from(room)
            if first != number:
                number, total = first, 0
            total += size
            if total == expected:
                arrived.append((number, time.monotonic()))

    def _tcp(self, listener: socket.socket) -> None:
        opened, _ = listener.accept()
        arrived = self._arrived['TCP']
        room = memoryview(bytearray(self.parameters.units * self.parameters.row_bytes))
        while True:
            at = 0
            while at < len(room):
                size = opened.recv_into(room[at:])
                if not size:
                    return
                at += size
            arrived.append((NUMBER.unpack_from(room)[0], time.monotonic()))

    def take(self) -> dict:
        """What has arrived since it was last asked, by way."""
        taken = {way: list(entries) for way, entries in self._arrived.items()}
        for entries in self._arrived.values():
            entries.clear()
        return {'arrived': taken, 'cpu_s': time.process_time()}


class Sender:
    """Sends frames in one way at a time, and notes when each was handed in."""

    def __init__(self, settings: dict):
        self.parameters = parameters_of(settings['channels'])
        addresses = {way: tuple(address) for way, address in settings['addresses'].items()}
        frame = frame_of(self.parameters)
        self._numbers = itertools.count(1)
        self._ways = {'bare loop': self._bare(frame, addresses['bare loop']), 'TCP': self._tcp(frame, addresses['TCP'])}
        for way in EVITIF:
            key = read_key_file(settings['key_file']) if way.endswith(', sealed') else None
            self._ways[way] = self._evitif(frame, addresses[way], key, not way.endswith(', unpaced'))

    def _bare(self, frame: TokenFrame, address: tuple):
        udp = _udp(('0.0.0.0', 0))
        in_runs = isinstance(choose_calls(udp, None, logging.getLogger(__name__))[1], RunReceiver)
        datagrams = [memoryview(bytearray(data)) for data in Packetiser(self.parameters).packetise(frame)]
        runs = [(run, [(SOL_UDP, UDP_SEGMENT, struct.pack('=H', len(run[0])))]) if in_runs else ([data], [])
                for run in batching_runs(datagrams) for data in (run[:1] if in_runs else run)]

        def send(number: int) -> None:
            for datagram in datagrams:
                NUMBER.pack_into(datagram, 0, number)
            for run, ancillary in runs:
                udp.sendmsg(run, ancillary, 0, address)
        return send

    def _tcp(self, frame: TokenFrame, address: tuple):
        opened = socket.create_connection(address, CONNECT_S)
        opened.settimeout(None)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = memoryview(bytearray(frame.rows.tobytes()))

        def send(number: int) -> None:
            NUMBER.pack_into(data, 0, number)
            opened.sendall(data)
        return send

    def _evitif(self, frame: TokenFrame, address: tuple, key: Key | None, paced: bool):
        connected = threading.Event()
        connection = EdgeConnection(self.parameters, 'robot', EdgeConfig(congestion_control=paced), key=key)
        loop = UdpLoop(connection, remote=address, on_event=lambda event: connected.set() if isinstance(event, Connected) else None)
        loop.start()
        loop.call(connection.connect)
        if not connected.wait(CONNECT_S):
            raise TimeoutError(f'evitif did not connect within {CONNECT_S:g} s')

        def send(number: int) -> None:
            numbered = TokenFrame(number, 0, frame.source_frame, frame.rows)
            loop.call(lambda now: connection.send_frame(numbered, now))
        return send

    def send(self, way: str, frames: int, interval: float) -> dict:
        """Send so many frames, one each `interval` seconds; when each was handed in, and the CPU time of it all."""
        send, handed_in = self._ways[way], []
        cpu, wall = time.process_time(), time.monotonic()
        due = time.monotonic()
        for number in itertools.islice(self._numbers, frames):
            time.sleep(max(0.0, due - time.monotonic()))
            due += interval
            handed_in.append((number, time.monotonic()))
            send(number)
        time.sleep(interval)
        return {'handed_in': handed_in, 'cpu_s': time.process_time() - cpu, 'wall_s': time.monotonic() - wall}


def main() -> int:
    """Do what the measuring process asks for."""
    settings = json.loads(sys.argv[1])
    if settings['side'] == 'receiver':
        receiver = Receiver(settings)
        serve({'addresses': lambda: {'addresses': receiver.addresses}, 'take': receiver.take})
    else:
        sender = Sender(settings)
        serve({'send': sender.send})
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
