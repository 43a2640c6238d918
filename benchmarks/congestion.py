"""How fast a robot sends where capacity falls, where the path gets longer, beside a TCP flow, and where a queue is short.

Edge and bridge run as they are, in simulated time, over `evitif.transport.impairment`. The sender has 6 to 40 Mbit/s to send and, where
it adapts, fits its frames to the allowed rate; answers come 5 ms after their frame is ready.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace
from multiprocessing import Pool
from pathlib import Path
from random import Random

import numpy as np

from benchmarks.link.tcp_flow import Passage, TcpFlow
from benchmarks.part import command, machine, save, sources_digest, target
from evitif.protocol.bridge.endpoint import BridgeEndpoint
from evitif.protocol.edge.connection import EdgeConnection
from evitif.protocol.events import AnswerArrived, FrameReady
from evitif.protocol.frames.interleaving import scattered_order
from evitif.protocol.frames.packetiser import TokenFrame
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.protocol.rate.congestion import TARGET_S
from evitif.protocol.wire.answer import Answer
from evitif.protocol.wire.parameters import StreamParameters
from evitif.transport.impairment import HEADER_BYTES, ImpairedChannel, Impairment
from evitif_lab.commands.options import whole
from evitif_lab.commands.progress import Progress
from evitif_lab.evaluation.partial import PartialResult
from evitif_lab.simulated_time import SimulatedTime

TITLE = 'Congestion'
QUICK = 'a few points of each kind, one seed'
PARAMETERS = StreamParameters(model='vit_tiny_patch16_224', fingerprint='ab' * 32, cut=3, quantisation='int8', image_size=(224, 224),
                              tokens=197, prefix_tokens=1, grid=(14, 14), channels=144, groups=1, row_bytes=148, classes=1000)
WHOLE = 40_000               # bytes of a whole frame on the wire, about
DELAY_S, TAIL_S, WARM_UP_S = 0.01, 0.005, 5.0
FALL, STEP, SHARE, SHORT = 'fall', 'step', 'share', 'short'
_ORDER = 1 + scattered_order(PARAMETERS.grid)
_ROWS = np.random.default_rng(0).integers(1, 256, (PARAMETERS.units, PARAMETERS.row_bytes), np.uint8)


class World:
    """One robot and one bridge behind a bottleneck that has both ends' datagrams on the way to the bridge.

    :param policed: what passes the bottleneck is not delayed by it: `queue_s` is the depth of a token bucket
    """

    def __init__(self, uplink: Impairment, seed: int, frame_rate: float, adapts: bool = True, policed: bool = False):
        self.policed, self.adapts = policed, adapts
        self.answered: list[tuple[float, float, float]] = []        # when, the frame's number, its uplink's delay
        self.departed: list[tuple[float, int]] = []
        self.up = ImpairedChannel(uplink, seed)
        self._down = ImpairedChannel(Impairment(loss=uplink.loss, delay_s=DELAY_S), seed + 1000)
        self._edge = EdgeConnection(PARAMETERS, 'robot', random=Random(seed))
        self._bridge = BridgeEndpoint(PARAMETERS, 'bridge', random=Random(seed + 1))
        self._time = SimulatedTime(self._edge, self._bridge, self._exchange)
        self.at = self._time.at
        self._edge.connect(0.0)
        self._frames(frame_rate)

    @property
    def now(self) -> float:
        """The time, seconds."""
        return self._time.now

    def rate(self, start: float, end: float) -> float:
        """What left the robot, bit/s with IP and UDP headers."""
        return 8 * sum(size for at, size in self.departed if start <= at < end) / (end - start)

    def carry(self, size: int, now: float) -> Passage | None:
        """A segment of another flow at the same bottleneck."""
        arrives = self.up.offer(bytes(size - HEADER_BYTES), now)
        return Passage(arrives[0][0] - self.up.impairment.delay_s) if arrives else None

    def run(self, seconds: float) -> None:
        """Let that time pass."""
        self._time.run(self.now + seconds)

    def _frames(self, rate: float, number: int = 0) -> None:
        sending = self._edge.uplink
        share = min(1.0, 0.9 * (sending.frame_bytes - 1_000) / (WHOLE - 1_000)) if self.adapts and sending.frame_bytes < WHOLE else 1.0
        patches = _ORDER[:max(8, round(share * len(_ORDER)))]
        self._edge.send_frame(TokenFrame(number, number, 'camera', _ROWS, sent=None if share == 1.0 else np.append(0, patches)), self.now)
        self.at((number + 1) / rate, lambda: self._frames(rate, number + 1))

    def _exchange(self) -> None:
        for data in self._edge.datagrams_to_send(self.now):
            self.departed.append((self.now, len(data) + HEADER_BYTES))
            for when, arriving in self.up.offer(data, self.now):
                when = self.now + self.up.impairment.delay_s if self.policed else when
                self.at(when, lambda arriving=arriving: self._bridge.receive_datagram(arriving, ('edge', 1), self.now))
        while (event := self._edge.next_event()) is not None:
            if isinstance(event, AnswerArrived):
                self.answered.append((self.now, event.answer.frame_id, event.uplink_s))
        while (event := self._bridge.next_event()) is not None:
            if isinstance(event, FrameReady):
                self.at(self.now + TAIL_S, lambda frame=event.frame: self._answer(frame))
        for data, _ in self._bridge.datagrams_to_send(self.now):
            for when, arriving in self._down.offer(data, self.now):
                self.at(when, lambda arriving=arriving: self._edge.receive_datagram(arriving, self.now))

    def _answer(self, frame: ReceivedFrame) -> None:
        self._bridge.send_answer(frame.session_id, Answer(
            frame_id=frame.frame_id, capture_stamp_ns=frame.capture_stamp_ns, class_ids=(0,), scores=(1.0,), strategy='split',
            recovery='none', packets_received=frame.packets_received, packets_expected=frame.packets_expected,
            bytes_received=frame.bytes_received, tokens_received=int(frame.received.sum()), tokens_expected=len(frame.received),
            received=frame.received, packet_error_rate=frame.packet_error_rate, first_arrival=frame.first_arrival, wait_s=0.0,
            recovery_s=0.0, tail_s=TAIL_S, hold_s=max(0.0, self.now - frame.first_arrival)), self.now)


def fall(before: float, after: float, queue: float, frame_rate: float, loss: float, seed: int) -> dict:
    """Capacity falls (Mbit/s): seconds until frames are answered again for good, the newest frame's age then, and the delay later."""
    link = Impairment(loss=loss, delay_s=DELAY_S, rate_bit_s=1e6 * before, queue_s=queue)
    world = World(link, seed, frame_rate)
    world.run(WARM_UP_S)
    world.up.set_impairment(replace(link, rate_bit_s=1e6 * after))
    world.run(30.0)
    since = np.array([(when - WARM_UP_S, delay) for when, _, delay in world.answered if when >= WARM_UP_S] or [(99.0, 99.0)])
    # Answered: in each second from then on at least a third of the frames have an answer.
    counts = np.histogram(since[:, 0], np.arange(0, 31))[0]
    bad = np.flatnonzero(counts < frame_rate / 3)
    late = since[since[:, 0] >= 20.0, 1]
    return {'back_s': float(bad[-1] + 1) if len(bad) else 0.0, 'delay_s': float(np.median(late)) - DELAY_S if len(late) else 99.0}


def step(seconds: float, rate: float, loss: float, seed: int) -> dict:
    """The path's delay steps: share of the rate before that is used from five seconds after it on; `rate` in Mbit/s, 0: no bottleneck."""
    first = max(DELAY_S, DELAY_S - seconds)
    link = Impairment(loss=loss, delay_s=first, rate_bit_s=1e6 * rate, queue_s=0.3)
    world = World(link, seed, 20.0)
    world.run(15.0)
    world.up.set_impairment(replace(link, delay_s=first + seconds))
    world.run(15.0)
    return {'kept': world.rate(20.0, 30.0) / world.rate(5.0, 15.0)}


def share(kind: str, rate: float, queue: float, round_trip: float, seed: int) -> dict:
    """Beside one TCP flow: own rate over its, and how much of the bottleneck (Mbit/s) both use."""
    link = Impairment(delay_s=round_trip / 2, rate_bit_s=1e6 * rate, queue_s=queue)
    world = World(link, seed, 20.0 if rate < 15 else 60.0)
    world.run(WARM_UP_S + 0.1 * seed)
    flow = TcpFlow(lambda: world.now, world.at, world.carry, round_trip, 'reno' if kind == 'reno' else 'cubic')
    world.run(15.0)
    start = world.now
    world.run(40.0)
    own, other = world.rate(start, world.now), flow.rate(start, world.now)
    return {'ratio': own / max(other, 1.0), 'used': (own + other) / (1e6 * rate)}


def short(rate: float, queue: float, policed: bool, loss: float, adapts: bool, seed: int) -> dict:
    """A short queue or a policer (Mbit/s): offered over capacity."""
    world = World(Impairment(loss=loss, delay_s=DELAY_S, rate_bit_s=1e6 * rate, queue_s=queue), seed, 30.0, adapts, policed)
    world.run(15.0)
    start = world.now
    world.run(25.0)
    return {'offered': world.rate(start, world.now) / (1e6 * rate)}


def jobs(quick: bool, seeds: int, every: int = 1) -> list[tuple[str, tuple]]:
    """Kind and arguments of every run, or of every `every`-th."""
    falls = itertools.product((100.0, 30.0, 8.0), (2.0, 1.0, 0.5), (0.05, 0.5, 2.0, 5.0), (10.0, 20.0, 30.0), (0.0, 0.1, 0.3), range(seeds))
    steps = itertools.product((0.01, 0.03, 0.1, 0.15, 0.3, -0.01, -0.1, -0.3), (0.0, 3.0, 8.0), (0.0, 0.1, 0.3), range(seeds))
    shares = itertools.product(('reno', 'cubic'), (3.0, 8.0, 20.0), (0.02, 0.05, 0.1, 0.2, 0.3), (0.01, 0.04, 0.08), range(seeds))
    shorts = itertools.product((2.0, 5.0), (0.02, 0.03), (False, True), (0.0, 0.1, 0.3), (True, False), range(seeds))
    runs = [(kind, arguments) for kind, group in ((SHARE, shares), (SHORT, shorts), (STEP, steps), (FALL, falls)) for arguments in group]
    return runs[::61 if quick else every]


def measure(job: tuple[str, tuple]) -> dict:
    """One run."""
    kind, arguments = job
    return {FALL: fall, STEP: step, SHARE: share, SHORT: short}[kind](*arguments)


def add_options(parser: argparse.ArgumentParser) -> None:
    """How many seeds, which part, and on how many processes."""
    parser.add_argument('--seeds', type=whole(1), default=1, help='of each point (default: %(default)s)')
    parser.add_argument('--every', type=whole(1), default=1,
                        help='of the runs, only every so many; a prime number draws evenly (default: %(default)s)')
    parser.add_argument('--processes', type=whole(1), default=1, help='that measure at once (default: %(default)s)')


def run(quick: bool, output: Path, seeds: int = 1, every: int = 1, processes: int = 1) -> dict:
    """The whole sweep; goes on where it was interrupted."""
    todo = jobs(quick, seeds, every)
    partial = PartialResult(output / 'congestion.json', {'jobs': len(todo), 'every': every, 'machine': machine(), 'sources': sources_digest(
        ('evitif/protocol', 'benchmarks/congestion.py', 'evitif_lab/simulated_time.py', 'benchmarks/link/tcp_flow.py'))})
    state = partial.load() or {'next': 0, 'runs': []}
    with Pool(processes) as pool, Progress(total=len(todo), desc='runs', unit='run') as bar:
        bar.update(state['next'])
        for result in pool.imap(measure, todo[state['next']:]):
            state['runs'].append(result)
            state['next'] += 1
            bar.update()
            if state['next'] % 20 == 0:
                partial.save(state)
    cells = [{'kind': kind, 'arguments': list(arguments), **result}
             for (kind, arguments), result in zip(todo, state['runs'], strict=True)]
    partial.remove()
    options = {'seeds': seeds} | ({'every': every} if every > 1 else {})
    return save(output, 'congestion', command('congestion', quick, **options), {'cells': cells}, targets_of(cells))


def good(cell: dict) -> bool:
    """Whether a run reached its target."""
    if cell['kind'] == FALL:
        return cell['back_s'] <= 10.0 and cell['delay_s'] <= 2 * TARGET_S + 12e-3 / cell['arguments'][1]      # a datagram takes its time
    if cell['kind'] == STEP:
        return cell['kept'] >= 0.8
    return 0.5 <= cell['ratio'] <= 2.0 if cell['kind'] == SHARE else cell['offered'] <= 1.25


def worst_of(kind: str, cells: list[dict]) -> str:
    """The extremes in words."""
    def ends(key: str, factor: float = 1.0) -> str:
        values = [factor * cell[key] for cell in cells]
        return f'{min(values):.2f} to {max(values):.2f}'
    return {FALL: lambda: f'back after {ends("back_s")} s, queueing {ends("delay_s", 1e3)} ms', STEP: lambda: f'{ends("kept")} of the rate',
            SHARE: lambda: f'{ends("ratio")} of its rate', SHORT: lambda: f'{ends("offered")} of the capacity'}[kind]()


def targets_of(cells: list[dict]) -> list[dict]:
    """What each kind asks for, and what was measured."""
    asked = {SHARE: ('beside one TCP flow', '0.5 to 2 of its rate'), SHORT: ('short queue or policer', 'at most 1.25 of the capacity'),
             STEP: ('delay steps', 'at least 0.8 of the rate before'),
             FALL: ('capacity falls into a queue', 'back within 10 s, queueing at most 50 ms and a datagram')}
    judged = []
    for kind, (name, expected) in asked.items():
        of = [cell for cell in cells if cell['kind'] == kind]
        if of:
            held = sum(good(cell) for cell in of)
            judged.append(target(name, expected, f'{held} of {len(of)} runs; {worst_of(kind, of)}', held == len(of)))
    return judged


def section(result: dict, images: Path) -> str:
    """Its page, in Markdown."""
    cells = result['figures']['cells']
    text = ['| | target | measured |', '| --- | --- | --- |']
    text += [f'| {entry["name"]} | {entry["target"]} | {entry["measured"]} |' for entry in result['targets']]
    missed = [cell for cell in cells if not good(cell)]
    if missed:
        text += ['', 'The runs that missed their target:', '', '| kind | arguments | measured |', '| --- | --- | --- |']
        text += [f'| {cell["kind"]} | {", ".join(map(str, cell["arguments"]))} | '
                 + ', '.join(f'{key} {value:.2f}' for key, value in cell.items() if key not in ('kind', 'arguments')) + ' |'
                 for cell in missed]
    return '\n'.join(text)
