"""A fleet of real processes: bridges are restarted one after the other and killed, the directory is killed, robots roam meanwhile.

Bridges have no model and answer at once; `evitif bench robots` measures what the tail costs. Times on a machine that does other things
say little; the counts hold.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.fleet_robots import Robots
from benchmarks.part import ROOT, PartError, command, machine, target
from evitif.files import write_json
from evitif.protocol.sealing.keys import read_key_file, write_key_file
from evitif_lab.commands.options import positive, positive_int

TITLE = 'A fleet'
QUICK = '8 robots on two bridges, a second each'
SOURCES = ('benchmarks/fleet_side.py', 'benchmarks/fleet_robots.py', 'evitif_fleet')
PORT = 27600
READY_S = 60.0


class Fleet:
    """A directory and bridges, each a process."""

    def __init__(self, folder: str, bridges: int, port: int = PORT, tails: tuple[float, ...] = ()):
        self._folder, self.port, self._tails = folder, port, tails
        for name in ('fleet.key', 'robots.key'):
            write_key_file(f'{folder}/{name}')
        self.key = read_key_file(f'{folder}/robots.key')
        self.processes: dict[int, subprocess.Popen] = {}
        for number in range(bridges + 1):        # 0: the directory
            self.start(number, wait=False)
        for number in self.processes:
            self._await(number)

    def start(self, number: int, wait: bool = True) -> None:
        """Start the bridge of this number, or with 0 the directory."""
        arguments = [self._folder, '--port', str(self.port + number)]
        if number:
            arguments += ['--number', str(number), '--directory', str(self.port)]
            arguments += ['--tail', str(self._tails[number - 1])] if self._tails else []
        self.processes[number] = subprocess.Popen([sys.executable, '-m', 'benchmarks.fleet_side', *arguments], cwd=ROOT,
                                                  stdout=subprocess.PIPE, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
        if wait:
            self._await(number)

    def _await(self, number: int) -> None:
        process = self.processes[number]
        if process.stdout is None or 'ready' not in process.stdout.readline():
            raise PartError(f'{"the directory" if number == 0 else f"bridge {number}"} does not start: status {process.wait(READY_S)}')

    def is_ready(self, number: int) -> bool:
        """Whether a process that was started without waiting serves by now."""
        output = self.processes[number].stdout
        return output is not None and bool(select.select([output], [], [], 0)[0]) and 'ready' in output.readline()

    def signal(self, number: int, what: int) -> None:
        """Send a process a signal."""
        self.processes[number].send_signal(what)

    def end(self) -> None:
        """Kill all."""
        for process in self.processes.values():
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def bridge_of(robots: Robots, fleet: Fleet) -> dict[int, list[int]]:
    """The robots of each bridge, by number."""
    found: dict[int, list[int]] = {}
    for index, robot in enumerate(robots.robots):
        for address in robot.links.addresses[:1]:
            found.setdefault(address[1] - fleet.port, []).append(index)
    return found


def measure(count: int, bridges: int, rate: float, seconds: float, port: int = PORT) -> dict:
    """All scenarios, one after the other, with the same robots."""
    figures: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(folder, bridges, port)
        try:
            robots = Robots(count, [fleet.port], fleet.key)
            if not robots.wait(READY_S):
                raise PartError(f'{robots.connected} of {count} robots are connected after {READY_S:.0f} s')
            robots.drive(max(seconds / 2, 1.0), rate)       # bridges have told their robots of one another
            before = robots.figures()

            def note(name: str, **more: object) -> None:
                nonlocal before
                robots.drive(0.0, rate)
                end = time.monotonic() + 0.6
                while time.monotonic() < end:
                    robots.turn(time.monotonic() + 0.02)
                after = robots.figures()
                figures[name] = {'sent': after['sent'] - before['sent'], 'answered': after['answered'] - before['answered'],
                                 'expired': after['expired'] - before['expired'], 'twice': after['twice'], **more}
                before = after
            def restarted(number: int) -> None:
                while fleet.processes[number].poll() is None:
                    robots.drive(0.1, rate)
                fleet.start(number, wait=False)
                while not fleet.is_ready(number):
                    robots.drive(0.1, rate)
                robots.drive(max(seconds, 1.5), rate)        # until the directory and its peers know it
            robots.drive(seconds, rate)
            note('nothing happens', p50_ms=robots.figures()['p50_ms'], p99_ms=robots.figures()['p99_ms'])
            for number in range(1, bridges + 1):
                fleet.signal(number, signal.SIGTERM)         # it drains
                restarted(number)
            note('all bridges are restarted, one after the other')
            fleet.signal(1, signal.SIGTERM)
            for number in range(0, count, 2):
                robots.rebind(number)
            robots.drive(seconds, rate)
            restarted(1)
            note('half of the ports rebind while a bridge is drained')
            victim, concerned = max(bridge_of(robots, fleet).items(), key=lambda item: len(item[1]))
            killed = time.monotonic()
            fleet.signal(victim, signal.SIGKILL)
            robots.drive(seconds, rate)
            gaps = robots.gaps_ms(killed, concerned)
            lost = [at for robot in robots.robots for at in robot.expired if at >= killed - 0.1]
            note('a bridge is killed', robots=len(concerned), again_p50_ms=round(float(np.percentile(gaps, 50, method='nearest')), 1),
                 again_p99_ms=round(float(np.percentile(gaps, 99, method='nearest')), 1), later=sum(at > killed + 0.3 for at in lost))
            fleet.start(victim, wait=False)
            while not fleet.is_ready(victim):
                robots.drive(0.1, rate)
            fleet.signal(0, signal.SIGKILL)
            robots.drive(seconds, rate)
            note('the directory is killed')
            newcomers = Robots(2, [fleet.port], fleet.key)
            newcomers.wait(0.5)
            fleet.start(0)
            back = time.monotonic()
            newcomers.wait(READY_S)
            figures['the directory is killed']['newcomers_after_s'] = round(time.monotonic() - back, 2)
            newcomers.close()
            robots.close()
        finally:
            fleet.end()
    return figures


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `evitif bench fleet`."""
    parser.add_argument('--robots', type=positive_int, default=200, help='(default: %(default)s)')
    parser.add_argument('--bridges', type=positive_int, default=4, help='(default: %(default)s)')
    parser.add_argument('--rate', type=positive, default=10.0, help='frames/s of each (default: %(default)g)')


def run(quick: bool, output: Path, robots: int = 200, bridges: int = 4, rate: float = 10.0) -> dict:
    """Measure, and write fleet.json."""
    if quick:
        robots, bridges = min(robots, 8), min(bridges, 2)
    cells = measure(robots, bridges, rate, 1.0 if quick else 5.0)
    restarted, killed, gone = (cells[name] for name in ('all bridges are restarted, one after the other', 'a bridge is killed',
                                                        'the directory is killed'))
    roamed = cells['half of the ports rebind while a bridge is drained']
    targets = [
        target('Bridges restarted under load', '0 frames expired, none answered twice', f'{restarted["expired"]} of {restarted["sent"]}',
               restarted['expired'] == 0 == restarted['twice']),
        target('A bridge killed', 'answered again within 300 ms (p99)', f'{killed["again_p99_ms"]} ms', killed['again_p99_ms'] <= 300),
        target('Ports rebind while a bridge is drained', 'frames in flight at the rebinding only',
               f'{roamed["expired"]} of {roamed["sent"]}', roamed['expired'] <= robots // 2),
        target('The directory killed', 'connected robots notice nothing; new ones within 5 s of its return',
               f'{gone["expired"]} expired; {gone["newcomers_after_s"]} s', gone['expired'] == 0 and gone['newcomers_after_s'] <= 5)]
    result = {'command': command('fleet', robots=robots, bridges=bridges, rate=f'{rate:g}', quick=quick), 'machine': machine(),
              'robots': robots, 'bridges': bridges, 'rate': rate, 'targets': targets, 'figures': cells}
    write_json(output / 'fleet.json', result)
    return result


def section(result: dict, _images: Path) -> str:
    """The page, in Markdown."""
    lines = [f'# {result["robots"]} robots on {result["bridges"]} bridges', '', f'Measured by `{result["command"]}`.', '',
             '| | sent | answered | expired | answered twice | |', '| --- | ---: | ---: | ---: | ---: | --- |']
    for name, cell in result['figures'].items():
        rest = ', '.join(f'{key} {value}' for key, value in cell.items() if key not in ('sent', 'answered', 'expired', 'twice'))
        lines.append(f'| {name} | {cell["sent"]} | {cell["answered"]} | {cell["expired"]} | {cell["twice"]} | {rest} |')
    return '\n'.join([*lines, ''])
