"""A robot and a bridge for as long as it takes: `evitif soak`.

Real processes, sealed, over the real link simulator, which loses 30 % of the datagrams each way. Meanwhile edge and bridge are
restarted at random (told to end, or killed), the robot's address changes, the clock that stamps the images is set by up to a day
(no process may set the system's; the link itself runs on the monotonic clock), and the link is cut for 10 s. The robot recomputes
every answer: it has to be the one to its own image with the tokens that arrived.

The last fifth of the frames passes without restarts and cuts, for the memory. What a run has reached stays in its folder, and the
same command goes on from there.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.soak_report import judge
from benchmarks.soak_sides import Soak, bridge_life, edge_life, write_model
from evitif.files import read_json, write_json
from evitif.protocol.sealing.keys import write_key_file
from evitif.transport import Impairment, LinkSimulator
from evitif_lab.commands.progress import Progress

LOSS = 0.3
SETTLE_S = 3.0          # after a cut nothing else happens, so that the recovery is the cut's
QUIET_SHARE = 0.2       # of the frames, at the end
SAMPLE_S = 0.5


@dataclass(frozen=True)
class Plan:
    """How much happens."""

    frames: int
    restarts: int = 120     # of edge or bridge
    cuts: int = 6           # of the link
    moves: int = 100        # of the robot, to another address
    cut_s: float = 10.0     # a cut's length

    def events(self, seed: int) -> list[tuple[int, str]]:
        """What happens when so many frames were submitted, ascending."""
        random = np.random.default_rng(seed)
        busy = int(self.frames * (1 - QUIET_SHARE))
        hows, sides = random.choice(('end', 'kill'), self.restarts), random.choice(('edge', 'bridge'), self.restarts)
        times = random.uniform(0.01 * busy, busy, self.restarts)
        events = [(int(at), f'{how} {side}') for at, how, side in zip(times, hows, sides, strict=True)]
        events += [(int(busy * (k + 0.5) / self.cuts), 'cut') for k in range(self.cuts)]
        events += [(int(at), 'move') for at in random.uniform(0, self.frames, self.moves)]
        return sorted(events)


QUICK = Plan(2000, restarts=8, cuts=1, moves=5, cut_s=4.0)


class Run:
    """The processes, the link between them, and what happens to them."""

    def __init__(self, soak: Soak, events: list[tuple[int, str]], state: dict, cut_s: float):
        self.soak, self.events, self.cut_s = soak, events, cut_s
        self.state = state                       # 'next' event, 'life', 'cuts', 'memory': what survives an interruption
        self.ledger = soak.ledger()
        self.context = multiprocessing.get_context('forkserver')
        self.context.set_forkserver_preload(['benchmarks.soak_sides'])      # PyTorch is imported once
        self.link = LinkSimulator(('127.0.0.1', soak.robot_port), ('127.0.0.1', soak.bridge_port), seed=soak.seed)
        self.sides: dict[str, multiprocessing.Process] = {}
        self.successors: dict[str, tuple] = {}       # built, so that a restart takes no longer than a start of the service does
        self.begun: dict[str, tuple] = {}            # whose events exist as long as they are kept here
        self.calm_until = 0.0

    def run(self) -> None:
        """Until all frames were submitted and the last edge has ended."""
        self._set_loss(LOSS)
        self.link.start()
        try:
            for side in ('bridge', 'edge'):
                self._prepare(side)
                self._start(side)
            with Progress(total=self.soak.frames, initial=self.ledger.submitted, desc='soak', unit='frame') as bar:
                while (submitted := self.ledger.submitted) < self.soak.frames or self.sides['edge'].is_alive():
                    bar.update(submitted - bar.n)
                    self._happen(submitted)
                    self._sample(submitted)
                    time.sleep(SAMPLE_S)
            self._stop('bridge', signal.SIGTERM)
        finally:
            for process in (*self.sides.values(), *(process for process, _, _ in self.successors.values())):
                if process.is_alive():
                    process.kill()
            self.link.stop()

    def _happen(self, submitted: int) -> None:
        while self.state['next'] < len(self.events) and self.events[self.state['next']][0] <= submitted < self.soak.frames:
            kind = self.events[self.state['next']][1]
            successor = self.successors.get(kind.split()[-1])
            if time.monotonic() < self.calm_until or successor is not None and not successor[2].is_set():
                return
            self.state['next'] += 1
            if kind == 'cut':
                self._set_loss(1.0)
                time.sleep(self.cut_s)
                self._set_loss(LOSS)
                self.state['cuts'].append(time.monotonic())
                self.calm_until = time.monotonic() + SETTLE_S
            elif kind == 'move':
                self.link.move_robots()
                self.state['moves'] += 1
            else:
                how, side = kind.split()
                self._stop(side, signal.SIGTERM if how == 'end' else signal.SIGKILL)
                self._start(side)
        for side, process in self.sides.items():
            if not process.is_alive() and submitted < self.soak.frames:
                raise RuntimeError(f'the {side} ended by itself with exit code {process.exitcode}')

    def _prepare(self, side: str) -> None:
        life, go, ready = self.state['life'], self.context.Event(), self.context.Event()
        self.state['life'] += 1
        arguments = (self.soak, life, go, ready) if side == 'bridge' else (self.soak, life, go, ready, life % 4 == 1)
        process = self.context.Process(target=bridge_life if side == 'bridge' else edge_life, args=arguments, daemon=True)
        process.start()
        self.successors[side] = process, go, ready

    def _start(self, side: str) -> None:
        self.sides[side], go, _ = self.begun[side] = self.successors.pop(side)
        go.set()
        if self.state['next'] < len(self.events):
            self._prepare(side)

    def _stop(self, side: str, signal_number: int) -> None:
        process = self.sides[side]
        if process.is_alive():
            os.kill(process.pid, signal_number)
        process.join(20)
        if process.is_alive():
            raise RuntimeError(f'the {side} did not end within 20 s of SIGTERM')
        self.save()

    def _set_loss(self, loss: float) -> None:
        for direction in ('uplink', 'downlink'):
            self.link.set_impairment(direction, Impairment(loss=loss, delay_s=0.002))

    def _sample(self, submitted: int) -> None:
        sizes = {side: _resident_bytes(process.pid) for side, process in self.sides.items()}
        self.state['memory'].append((submitted, sizes['edge'], sizes['bridge'], _resident_bytes(os.getpid())))

    def save(self) -> None:
        """What an interrupted run goes on from."""
        write_json(Path(self.soak.folder) / 'state.json', {'soak': asdict(self.soak), 'events': self.events, **self.state})


def _resident_bytes(pid: int) -> int:
    """0 where the system does not tell, or the process has ended."""
    try:
        return int(Path(f'/proc/{pid}/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    except (OSError, IndexError):
        return 0


def _free_ports() -> list[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        for opened in (one, other):
            opened.bind(('127.0.0.1', 0))
        return [opened.getsockname()[1] for opened in (one, other)]


def prepare(folder: Path, frames: int, restarts: int, rate: float, seed: int) -> Soak:
    """The model, the keys, an empty ledger."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    bridge_port, robot_port = _free_ports()
    soak = Soak(str(folder), frames, 3 * restarts + 200, rate, bridge_port, robot_port, seed)
    write_model(soak.model)
    keys = Path(soak.key_folder)
    keys.mkdir(mode=0o700)
    for name in ('rover', 'other'):
        write_key_file(keys / f'{name}.key')
    soak.ledger()
    return soak


def run(plan: Plan, *, rate: float = 60.0, seed: int = 0, folder: Path) -> dict:
    """Soak at `rate` frames/s, or go on with what lies in `folder`; return the report."""
    events = plan.events(seed)
    soak, state = _begun(plan, events, rate, seed, folder)
    before, began = state['seconds'], time.monotonic()
    soaking = Run(soak, events, state, plan.cut_s)
    try:
        soaking.run()
    finally:
        state['seconds'] = before + time.monotonic() - began
        soaking.save()
    return judge(soaking.ledger, state, events, {**asdict(plan), 'rate': rate, 'seed': seed, 'loss': LOSS})


def _begun(plan: Plan, events: list, rate: float, seed: int, folder: Path) -> tuple[Soak, dict]:
    """The soak and its state: what an interrupted run of the same left in `folder`, else a new one."""
    state_file = folder / 'state.json'
    if state_file.is_file():
        try:
            state = read_json(state_file)
        except ValueError as error:
            raise ValueError(f'{error}; remove it to begin anew') from None
        soak, earlier = Soak(**state.pop('soak')), [tuple(event) for event in state.pop('events')]
        if (earlier, soak.frames, soak.rate, soak.seed, soak.folder) == (events, plan.frames, rate, seed, str(folder)):
            print(f'going on from frame {soak.ledger().submitted} ({state_file})')
            return soak, state
        print(f'{state_file} is of another soak: starting afresh')
    return (prepare(folder, plan.frames, plan.restarts, rate, seed),
            {'next': 0, 'life': 0, 'cuts': [], 'moves': 0, 'memory': [], 'seconds': 0.0})
