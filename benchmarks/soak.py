"""A robot and a bridge for as long as it takes: python -m benchmarks.soak [--frames N] [--restarts N] [--quick] (make soak).

Real processes, sealed, over the real link simulator, which loses 30 % of the datagrams each way. Meanwhile edge and bridge are
restarted at random (told to end, or killed), the robot's address changes, the clock that stamps the images is set by up to a day
(no process may set the system's; the link itself runs on the monotonic clock), and the link is cut for 10 s. The robot recomputes
every answer: it has to be the one to its own image with the tokens that arrived.

The last fifth of the frames passes without restarts and cuts, for the memory. What a run has reached stays in its folder, and the
same command goes on from there. It writes soak.json, soak.md and soak.png, and exits with 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.soak_report import judge, write_report
from benchmarks.soak_sides import Soak, bridge_life, edge_life, write_model
from evitif.files import read_json, write_json
from evitif.protocol.sealing.keys import write_key_file
from evitif.transport import Impairment, LinkSimulator
from evitif_lab.commands.options import positive, positive_int, seed
from evitif_lab.commands.progress import Progress

LOSS = 0.3
CUT_S = 10.0
SETTLE_S = 3.0          # after a cut nothing else happens, so that the recovery is the cut's
QUIET_SHARE = 0.2       # of the frames, at the end
SAMPLE_S = 0.5


def plan(frames: int, restarts: int, cuts: int, moves: int, seed: int) -> list[tuple[int, str]]:
    """What happens when so many frames were submitted, ascending."""
    random = np.random.default_rng(seed)
    busy = int(frames * (1 - QUIET_SHARE))
    kinds = [f'{how} {side}' for how, side in zip(random.choice(('end', 'kill'), restarts), random.choice(('edge', 'bridge'), restarts),
                                                 strict=True)]
    events = [(int(at), kind) for at, kind in zip(random.uniform(0.01 * busy, busy, restarts), kinds, strict=True)]
    events += [(int(busy * (k + 0.5) / cuts), 'cut') for k in range(cuts)]
    events += [(int(at), 'move') for at in random.uniform(0, frames, moves)]
    return sorted(events)


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
        self._save()

    def _set_loss(self, loss: float) -> None:
        for direction in ('uplink', 'downlink'):
            self.link.set_impairment(direction, Impairment(loss=loss, delay_s=0.002))

    def _sample(self, submitted: int) -> None:
        sizes = {side: _resident_bytes(process.pid) for side, process in self.sides.items()}
        self.state['memory'].append((submitted, sizes['edge'], sizes['bridge'], _resident_bytes(os.getpid())))

    def _save(self) -> None:
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


def run(frames: int, restarts: int, cuts: int, moves: int, *, cut_s: float = CUT_S, rate: float = 60.0, seed: int = 0,
        folder: Path) -> dict:
    """Soak, and return the report; see the module."""
    events = plan(frames, restarts, cuts, moves, seed)
    state_file, state = folder / 'state.json', None
    if state_file.is_file():
        try:
            state = read_json(state_file)
        except ValueError as error:
            raise SystemExit(f'soak: {error}; remove it to begin anew') from None
        soak = Soak(**state.pop('soak'))
        if [tuple(event) for event in state.pop('events')] != events or (soak.frames, soak.rate, soak.seed) != (frames, rate, seed) \
                or soak.folder != str(folder):
            print(f'{state_file} is of another soak: starting afresh')
            state = None
        else:
            print(f'going on from frame {soak.ledger().submitted} ({state_file})')
    if state is None:
        soak = prepare(folder, frames, restarts, rate, seed)
        state = {'next': 0, 'life': 0, 'cuts': [], 'moves': 0, 'memory': [], 'seconds': 0.0}
    began, before = time.monotonic(), state['seconds']
    soaking = Run(soak, events, state, cut_s)
    try:
        soaking.run()
    finally:
        state['seconds'] = before + time.monotonic() - began
        soaking._save()
    return judge(soaking.ledger, state, events, {'frames': frames, 'restarts': restarts, 'cuts': cuts, 'moves': moves, 'cut_s': cut_s,
                                                 'rate': rate, 'seed': seed, 'loss': LOSS})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='soak', description=__doc__.splitlines()[0])
    parser.add_argument('--frames', type=positive_int, default=100_000)
    parser.add_argument('--restarts', type=positive_int, default=120)
    parser.add_argument('--cuts', type=positive_int, default=6)
    parser.add_argument('--moves', type=positive_int, default=100, help='of the robot, to another address')
    parser.add_argument('--rate', type=positive, default=60.0, help='frames/s (default: %(default)s)')
    parser.add_argument('--seed', type=seed, default=0)
    parser.add_argument('--quick', action='store_true', help='2,000 frames, 8 restarts, one cut of 4 s')
    parser.add_argument('--output', type=Path, default=Path('reports/soak'), help='default: %(default)s')
    options = parser.parse_args(arguments)
    sizes = (2000, 8, 1, 5) if options.quick else (options.frames, options.restarts, options.cuts, options.moves)
    report = run(*sizes, cut_s=4.0 if options.quick else CUT_S, rate=options.rate, seed=options.seed, folder=options.output.resolve())
    report['command'] = 'python -m benchmarks.soak ' + ' '.join(sys.argv[1:] if arguments is None else arguments)
    write_report(report, options.output)
    return int(not all(target['holds'] for target in report['targets']))


if __name__ == '__main__':
    raise SystemExit(main())
