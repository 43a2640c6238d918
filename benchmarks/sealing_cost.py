"""What a seal costs beside a checksum: to make a datagram of 1,200 bytes ready to send, and to read one; and a handshake.

Each figure is the least of some repetitions, so that what else the machine does counts little; they take turns.
"""

from __future__ import annotations

import argparse
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import cryptography
import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from benchmarks.part import command, save
from evitif.protocol.bridge.endpoint import BridgeEndpoint
from evitif.protocol.edge.connection import EdgeConnection
from evitif.protocol.edge.frame_sender import RUN_DATAGRAMS
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.sealing.seal import BRIDGE_TO_EDGE, EDGE_TO_BRIDGE, Sealer
from evitif.protocol.wire import datagram, runs
from evitif.protocol.wire.parameters import StreamParameters
from evitif_lab.commands.options import positive_int

TITLE = 'The seal'
QUICK = 'fewer repetitions'
DATAGRAM_BYTES = 1200
DATAGRAMS = 500          # a repetition
HANDSHAKES = 20
PARAMETERS = StreamParameters(model='small', fingerprint='cd' * 32, cut=1, quantisation='int8', image_size=(28, 28), tokens=50,
                              prefix_tokens=1, grid=(7, 7), channels=16, groups=1, row_bytes=20, classes=10)


def whole(size: int) -> memoryview:
    """A datagram of tokens of so many bytes."""
    return memoryview(bytearray(datagram.HEADER.pack(datagram.MAGIC, datagram.VERSION, datagram.TOKENS, 0, 0, 0)
                                + secrets.token_bytes(size - datagram.HEADER.size)))


def timed(step: Callable[[int], object], count: int) -> float:
    """Microseconds of one of `count` steps."""
    began = time.perf_counter()
    for k in range(count):
        step(k)
    return 1e6 * (time.perf_counter() - began) / count


def checksum_made() -> float:
    """To make a datagram ready with a checksum."""
    buffer = whole(DATAGRAM_BYTES)
    return timed(lambda k: datagram.finish(buffer, 1, k), DATAGRAMS)


def checksum_read() -> float:
    """To read one with a checksum."""
    data = datagram.finish(whole(DATAGRAM_BYTES), 1, 0)
    return timed(lambda k: datagram.parse(data), DATAGRAMS)


def seal_made() -> float:
    """To make a datagram ready with a seal."""
    sealer, _ = pair()
    buffer = whole(DATAGRAM_BYTES - datagram.SEAL_BYTES)
    return timed(lambda k: sealer.finish(buffer, 1, k), DATAGRAMS)


def seal_read() -> float:
    """To read one with a seal."""
    sealer, opener = pair()
    buffer = whole(DATAGRAM_BYTES - datagram.SEAL_BYTES)
    sent = [sealer.finish(buffer, 1, k) for k in range(DATAGRAMS)]
    return timed(lambda k: opener.open(datagram.parse(sent[k])), DATAGRAMS)


def rows_of(size: int) -> np.ndarray:
    """A run of datagrams of so many bytes."""
    return np.tile(np.frombuffer(whole(size), np.uint8), (RUN_DATAGRAMS, 1))


def run_made(sealed: bool) -> float:
    """Of a datagram of a run."""
    rows = rows_of(DATAGRAM_BYTES - datagram.SEAL_BYTES * sealed)
    finish = pair()[0].finish_run if sealed else runs.finish
    return timed(lambda k: finish(rows, 1, k * RUN_DATAGRAMS), DATAGRAMS // RUN_DATAGRAMS) / RUN_DATAGRAMS


def run_read(sealed: bool) -> float:
    """Of a datagram of a run, each run made before."""
    rows, (sealer, opener) = rows_of(DATAGRAM_BYTES - datagram.SEAL_BYTES * sealed), pair()
    finish, read = (sealer.finish_run, opener.open_run) if sealed else (runs.finish, runs.open_run)
    sent = [finish(rows, 1, k * RUN_DATAGRAMS).copy() for k in range(DATAGRAMS // RUN_DATAGRAMS)]
    return timed(lambda k: read(sent[k]), len(sent)) / RUN_DATAGRAMS


def bare(cipher: type) -> float:
    """The cipher alone."""
    encrypt, nonce, header = cipher(secrets.token_bytes(32)).encrypt, bytes(12), bytes(datagram.HEADER.size)
    body = whole(DATAGRAM_BYTES - datagram.SEAL_BYTES)[datagram.HEADER.size:]
    return timed(lambda k: encrypt(nonce, body, header), DATAGRAMS)


def handshake() -> float:
    """HELLO to WELCOME, both sides together."""
    key = Key(secrets.token_bytes(32))
    bridge = BridgeEndpoint(PARAMETERS, 'bridge', keys=RobotKeys(default=key))

    def connect(k: int) -> None:
        edge = EdgeConnection(PARAMETERS, f'robot {k}', key=key)
        edge.connect(0.0)
        while not edge.connected:
            for data in edge.datagrams_to_send(0.0)[:1]:
                bridge.receive_datagram(data, ('edge', k), 0.0)
            for data, _ in bridge.datagrams_to_send(0.0)[:1]:
                edge.receive_datagram(data, 0.0)
    return timed(connect, HANDSHAKES)


def pair() -> tuple[Sealer, Sealer]:
    """Edge's and bridge's sealer of one session."""
    edge, bridge = secrets.token_bytes(32), secrets.token_bytes(32)
    return Sealer(edge, bridge, EDGE_TO_BRIDGE), Sealer(bridge, edge, BRIDGE_TO_EDGE)


FIGURES = {
    'checksum and copy': checksum_made, 'seal and copy': seal_made, 'parse with checksum': checksum_read, 'parse and open': seal_read,
    'checksum and copy, in a run': lambda: run_made(False), 'seal and copy, in a run': lambda: run_made(True),
    'checksum, in a run': lambda: run_read(False), 'open, in a run': lambda: run_read(True),
    'ChaCha20-Poly1305 alone': lambda: bare(ChaCha20Poly1305), 'AES-256-GCM alone': lambda: bare(AESGCM), 'handshake': handshake,
}


def measure(repeat: int) -> dict[str, float]:
    """The least of `repeat` repetitions of each figure, µs."""
    least = dict.fromkeys(FIGURES, float('inf'))
    for _ in range(repeat):
        for name, figure in FIGURES.items():
            least[name] = min(least[name], figure())
    return {name: round(figure, 2) for name, figure in least.items()}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Further options of `evitif bench sealing_cost`."""
    parser.add_argument('--repeat', type=positive_int, help='(default: 50)')


def run(quick: bool, output: Path, repeat: int | None = None) -> dict:
    """The part of `make bench`."""
    repeat = repeat or (10 if quick else 50)
    return save(output, 'sealing_cost', command('sealing_cost', repeat=repeat), {'microseconds': measure(repeat)},
                datagram_bytes=DATAGRAM_BYTES, cryptography=cryptography.__version__)


def section(result: dict, images: Path) -> str:
    """Its page, in Markdown."""
    lines = [f'Time for one datagram of {result["datagram_bytes"]:,} bytes; the last row is a whole handshake, both sides together.', '',
             '| | µs |', '| --- | ---: |']
    return '\n'.join(lines + [f'| {name} | {figure:.2f} |' for name, figure in result['figures']['microseconds'].items()])
