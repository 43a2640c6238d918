"""A flood of foreign datagrams at the bridge's port: what it does to a robot's latency and to the bridge's memory.

The bridge, the robot and the sender of the flood are processes of their own. The flood is noise, tokens of unknown sessions with and
without a seal, and HELLOs with another key, in equal parts, from ever other ports. Rounds with and without it take turns.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from benchmarks.part import PartError, command, save, target
from benchmarks.robot_fleet import Fleet
from benchmarks.soak_sides import write_model
from evitif.pipeline import BridgeRuntime
from evitif.protocol.sealing.keys import read_key_file, write_key_file
from evitif.protocol.sealing.seal import sealed_header, sign
from evitif.protocol.wire import datagram
from evitif.protocol.wire.handshake import Hello
from evitif.protocol.wire.parameters import StreamParameters
from evitif.settings import bridge_settings
from evitif_lab.commands.options import positive_int
from evitif_lab.commands.progress import Progress

TITLE = 'A flood of foreign datagrams'
QUICK = 'fewer and shorter rounds'
SOURCES = ('benchmarks/robot_fleet.py', 'benchmarks/soak_sides.py')
RATE = 20_000               # foreign datagrams a second
LATENCY, GROWTH = 2.0, 0.02
ANSWERED_POINTS = 1.0       # that the answered ratio may lose: latencies of the few that are answered would say nothing
DEADLINE_S = 0.5            # what a frame without an answer counts as
FRAMES_HZ = 30.0
PORTS = 64                  # that the flood comes from
_TICK_S = 0.005


def foreign(parameters: StreamParameters) -> list[bytes]:
    """Datagrams that no bridge takes, of the kinds that cost it most."""
    random = Random(0)
    hello = Hello('robot 0', 5, parameters).to_bytes()
    return [random.randbytes(600), datagram.build(datagram.TOKENS, random.getrandbits(64), 1, random.randbytes(600)),
            sealed_header(datagram.TOKENS, random.getrandbits(64), 1) + random.randbytes(600),
            sign(bytes(32), datagram.HELLO, 0, 0, bytes(48) + hello)]


def _serve(folder: str, pipe: Connection) -> None:
    torch.set_num_threads(1)
    bridge = BridgeRuntime(bridge_settings(model=f'{folder}/model', cut=1, quantisation='int8', recovery='omission',
                                               bind_host='127.0.0.1', port=0, key_file=f'{folder}/robot.key'),
                           on_prediction=lambda *_: None, log=lambda *_: None)
    bridge.start()
    stream = bridge._strategy.model     # noqa: SLF001 - what the bridge itself runs
    rows = stream.quantiser.quantise(np.random.default_rng(0).standard_normal((stream.parameters.tokens, stream.parameters.channels)))
    pipe.send((bridge.local_address, stream.parameters, rows))
    while pipe.recv() != 'stop':
        udp = bridge._loop.statistics()      # noqa: SLF001 - what the kernel dropped, too
        pipe.send({'memory': int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE'),
                   'received': udp.received, 'dropped by the kernel': udp.kernel_dropped, 'processor_s': time.process_time()})
    bridge.stop()


def _flood(address: tuple[str, int], datagrams: list[bytes], rate: int, pipe: Connection) -> None:
    """Seconds in, datagrams a second out, until 'stop'."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(PORTS)]
    while (seconds := pipe.recv()) != 'stop':
        began = time.monotonic()
        sent = 0
        while (passed := time.monotonic() - began) < seconds:
            while sent < passed * rate:
                try:
                    sockets[sent % PORTS].sendto(datagrams[sent // PORTS % len(datagrams)], address)
                except OSError:
                    pass
                sent += 1
            time.sleep(_TICK_S)
        pipe.send(sent / (time.monotonic() - began))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Further options of `evitif bench flood`."""
    parser.add_argument('--rate', type=positive_int, default=RATE, help='foreign datagrams a second (default: %(default)s)')


def run(quick: bool, output: Path, rate: int = RATE) -> dict:
    """
    The part of `make bench`.

    :raises PartError: a process of it does not answer
    """
    try:
        rows = _rounds(*((2, 3.0) if quick else (8, 8.0)), rate)
    except TimeoutError as error:
        raise PartError(str(error)) from None
    calm, flooded = rows[0::2], rows[1::2]
    figures = {name: {key: round(statistics.median(row[key] for row in group), 3) for key in rows[0]}
               for name, group in (('calm', calm), ('flooded', flooded))}
    return save(output, 'flood', command('flood', quick, rate=rate), {**figures, 'turns': rows},
                targets_of(rows, figures, rate), rounds=len(calm), rate=rate)


def _rounds(rounds: int, seconds: float, rate: int) -> list[dict]:
    """One entry a turn, without and with the flood in turns."""
    context = multiprocessing.get_context('spawn')
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_model(f'{folder}/model')
        write_key_file(f'{folder}/robot.key')
        (bridge_pipe, theirs), (flood_pipe, floods) = context.Pipe(), context.Pipe()
        bridge = context.Process(target=_serve, args=(folder, theirs), daemon=True)
        bridge.start()
        flood = fleet = None
        try:
            address, parameters, frame = _heard(bridge_pipe, 120)
            flood = context.Process(target=_flood, args=(address, foreign(parameters), rate, floods), daemon=True)
            flood.start()
            fleet = Fleet(parameters, frame, address, 1, key=read_key_file(f'{folder}/robot.key'), answer_deadline_s=DEADLINE_S)
            fleet.drive(1.0, FRAMES_HZ)
            for _ in Progress(range(rounds), desc='flood'):
                for flooded in (False, True):
                    before = _told(bridge_pipe, 'tell')
                    if flooded:
                        flood_pipe.send(seconds + 1.0)
                        time.sleep(0.3)
                    took = fleet.drive(seconds, FRAMES_HZ)
                    reached = _heard(flood_pipe, 60) if flooded else 0.0
                    after = _told(bridge_pipe, 'tell')
                    count = fleet.counts[0]
                    latencies = 1e3 * np.array([*fleet.latencies, *[DEADLINE_S] * (count.sent - count.answered)])
                    rows.append({'flood_hz': reached, 'p50_ms': float(np.percentile(latencies, 50)),
                                 'p99_ms': float(np.percentile(latencies, 99)), 'memory': after['memory'],
                                 'answered_percent': 100 * count.answered / max(1, count.sent),
                                 **{name: (after[name] or 0) - (before[name] or 0) for name in ('received', 'dropped by the kernel')},
                                 'bridge_processor_share': (after['processor_s'] - before['processor_s']) / took})
            for pipe in (bridge_pipe, flood_pipe):
                pipe.send('stop')
            bridge.join(10)
        finally:
            if fleet is not None:
                fleet.close()
            for process in (bridge, flood):
                if process is not None:
                    process.kill()
    return rows


def targets_of(rows: list[dict], figures: dict, rate: int) -> list[dict]:
    """The latency's ratio is the median of the rounds' own: what else the machine does meets both turns of a round alike."""
    ratio = statistics.median(with_it['p99_ms'] / without['p99_ms'] for without, with_it in zip(rows[0::2], rows[1::2], strict=True))
    growth = rows[-1]['memory'] / rows[1]['memory'] - 1
    calm, flooded = figures['calm'], figures['flooded']
    reached, lost = flooded['flood_hz'], calm['answered_percent'] - flooded['answered_percent']
    note = (f'the flood sent {reached:.0f} datagrams a second; the bridge answered {flooded["answered_percent"]:.1f} % of the frames, '
            f'without the flood {calm["answered_percent"]:.1f} %, and used {flooded["bridge_processor_share"]:.2f} of a core')
    return [target(f'p99 of the latency under {rate:,} foreign datagrams a second', f'at most {LATENCY:g} times',
                   f'{ratio:.2f} times', ratio <= LATENCY and reached >= 0.9 * rate and lost <= ANSWERED_POINTS, note),
            target('memory of the bridge under the flood', f'at most {100 * GROWTH:g} % more at its end', f'{100 * growth:+.1f} %',
                   growth <= GROWTH)]


def section(result: dict, images: Path) -> str:
    """Its page, in Markdown."""
    lines = [f'One robot sends {FRAMES_HZ:g} sealed frames a second, {result["rounds"]} rounds with the flood and without, in turns. '
             f'The flood comes from {PORTS} ports: noise, tokens of unknown sessions (sealed and not), and HELLOs with another key. '
             'The figures are medians.', '',
             '| | p50, ms | p99, ms | answered | datagrams a second | lost by the kernel | bridge, of a core |',
             '| --- | ---: | ---: | ---: | ---: | ---: | ---: |']
    for title, name in (('without', 'calm'), ('with the flood', 'flooded')):
        row = result['figures'][name]
        lines.append(f'| {title} | {row["p50_ms"]:.1f} | {row["p99_ms"]:.1f} | {row["answered_percent"]:.1f} % | {row["flood_hz"]:,.0f} '
                     f'| {row["dropped by the kernel"]:,.0f} | {row["bridge_processor_share"]:.2f} |')
    return '\n'.join(lines)


def _heard(pipe: Connection, patience_s: float) -> Any:
    if not pipe.poll(patience_s):
        raise TimeoutError(f'a process of the benchmark did not answer for {patience_s:.0f} s')
    return pipe.recv()


def _told(pipe: Connection, question: str) -> Any:
    pipe.send(question)
    return _heard(pipe, 30)
