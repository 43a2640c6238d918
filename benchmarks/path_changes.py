"""What a link does when its path changes under it: rate, delay, addresses, names, interfaces, the size that passes, the order of boot.

Real processes in two network namespaces: first a robot and a bridge without a model, at 30 frames a second, then the real nodes, whose
/diagnostics a plain node reads. Each change is made once the link is quiet; `back` is the time from then to the end of the last gap
between answers, `said` whether the robot's diagnostics (or log) named the trouble.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.images import default_environment
from benchmarks.link.changing_path import BRIDGE_ADDRESSES, BRIDGE_LINK_LOCAL, BRIDGE_NAME, MTU, ROBOT_ADDRESSES, ChangingPath, unavailable
from benchmarks.link.conditions import Condition
from benchmarks.link.namespaces import BRIDGE_ADDRESS, DEVICE, LinkError, NamespaceLink
from benchmarks.link.processes import Process, ProcessError
from benchmarks.part import ROOT, PartError, command, save, target
from evitif_lab.commands.progress import Progress

TITLE = 'A path that changes'
QUICK = 'one fall, and without the real nodes'
SOURCES = ('benchmarks/link',)
PORT = 7600
RATE = 30                    # frames a second of the plain peers, 33 datagrams each
GAP_S, NODES_GAP_S = 0.5, 1.0      # between answers, above which the link counts as gone
FALL_S, BACK_S = 10.0, 5.0   # targets
START_S = 60.0               # that a node's start may take
NODE = {'model': 'vit_tiny_patch16_224', 'random_seed': 1, 'image_size': 128, 'num_classes': 10, 'threads': 1, 'unsealed': True,
        'answer_deadline': 1.0}


@dataclass(frozen=True)
class Change:
    """What is changed, and what is to be seen then."""

    name: str
    make: Callable[[], None]
    watch_s: float
    target_s: float = BACK_S
    says: str = ''               # part of what the robot says meanwhile; '': nothing has to be said


def back_after(answers: list[float], changed_at: float, until: float, gap_s: float) -> float:
    """Seconds from the change to the end of the last gap of more than `gap_s` between answers; 0: there was none, inf: it lasts."""
    times = [changed_at, *sorted(at for at in answers if at > changed_at), until]
    ends = [after for before, after in itertools.pairwise(times) if after - before > gap_s]
    return 0.0 if not ends else math.inf if ends[-1] == until else ends[-1] - changed_at


def measured(change: Change, robot: Process, gap_s: float) -> dict:
    """Make the change and watch."""
    robot.ask('answers')
    changed_at = time.monotonic()
    change.make()
    time.sleep(change.watch_s)
    seen, until = robot.ask('answers'), time.monotonic()
    texts = [line[-1] for line in seen['said']]
    answers = [at for at, _ in seen['answers']]
    late = [at for at in answers if at > until - 3.0]
    return {'change': change.name, 'back_s': back_after(answers, changed_at, until, gap_s), 'target_s': change.target_s,
            'answered_at_the_end_hz': len(late) / 3.0, 'said': not change.says or any(change.says in text for text in texts),
            'texts': list(dict.fromkeys(texts))[-8:]}


@contextlib.contextmanager
def peers(path: ChangingPath | NamespaceLink, host: str, bind: str = '0.0.0.0') -> Iterator[Process]:
    """A plain robot that is answered, and its bridge."""
    module = 'benchmarks.link.plain_peers'
    bridge = Process(module, path.bridge_command, {'side': 'bridge', 'bind': (bind, PORT)})
    try:
        bridge.ask('ready')
        robot = Process(module, path.robot_command, {'side': 'robot', 'remote': (host, PORT), 'rate': RATE})
        try:
            await_answers(robot)
            yield robot
        finally:
            robot.close()
    finally:
        bridge.close()


def await_answers(robot: Process) -> None:
    """Until frames are answered. Raises ProcessError where none is."""
    until = time.monotonic() + START_S
    while len(robot.ask('answers')['answers']) < 2:
        if time.monotonic() > until:
            raise ProcessError(f'no frame was answered within {START_S:g} s')
        time.sleep(1.0)


def falls(quick: bool) -> list[tuple[float, float]]:
    """Mbit/s after the fall, and seconds of queue."""
    return [(2.0, 2.0)] if quick else [(2.0, 2.0), (2.0, 5.0), (1.0, 2.0), (1.0, 5.0)]


def plain_changes(quick: bool, bar: Progress) -> Iterator[dict]:
    """Each change with the plain peers, on a path of its own."""
    for rate, queue_s in falls(quick):
        with ChangingPath() as path:
            path.shape(100.0, 0.05)
            with peers(path, BRIDGE_ADDRESSES[0]) as robot:
                time.sleep(5.0)
                yield measured(Change(f'fall from 100 to {rate:g} Mbit/s, {queue_s:g} s of queue',
                                      lambda path=path, rate=rate, queue_s=queue_s: path.shape(rate, queue_s), 20.0, FALL_S), robot, GAP_S)
        bar.update()
    with ChangingPath() as path, peers(path, BRIDGE_NAME) as robot:
        for change in moves(path, 'is at', 'DatagramSize'):
            yield measured(change, robot, GAP_S)
            bar.update()
    with ChangingPath() as path, peers(path, f'{BRIDGE_LINK_LOCAL}%{DEVICE}', '::') as robot:
        yield measured(Change('interface made anew, link-local address', path.recreate, 8.0, says='is at'), robot, GAP_S)
        bar.update()
    with NamespaceLink(forwarded=True) as link:
        link.set(Condition(delay_ms=10))
        with peers(link, BRIDGE_ADDRESS) as robot:
            for delay_ms in (110, 10):
                yield measured(Change(f'delay to {delay_ms} ms one way', lambda ms=delay_ms: link.set(Condition(delay_ms=ms)), 8.0),
                               robot, GAP_S)
                bar.update()


def moves(path: ChangingPath, moved: str, swallowed: str) -> list[Change]:
    """Changes of addresses and sizes; `moved`, `swallowed`: what is said when the bridge was found elsewhere, and of a smaller size."""
    def rename() -> None:
        path.name(BRIDGE_ADDRESSES[1])
        path.move_bridge(BRIDGE_ADDRESSES[1])

    def recreate() -> None:
        path.name(BRIDGE_ADDRESSES[0])       # which the bridge has after that
        path.recreate()

    return [Change("the bridge's name gets another address", rename, 9.0, says=moved),
            Change("the robot's interface gets another address", lambda: path.move_robot(ROBOT_ADDRESSES[1]), 6.0),
            Change('the path swallows packets above 700 bytes', lambda: path.swallow(700), 8.0, says=swallowed),
            Change('the path takes all sizes again', lambda: path.swallow(MTU), 6.0),
            Change('interface made anew', recreate, 9.0, says=moved)]


@contextlib.contextmanager
def node(module: str, prefix: list[str], parameters: dict, domain: int, log: Path) -> Iterator[subprocess.Popen]:
    """A node's process, in the environment that ROS comes with."""
    arguments = [argument for name, value in parameters.items()
                 for argument in ('-p', f'{name}:={str(value).lower() if isinstance(value, bool) else value}')]
    with log.open('w') as file, subprocess.Popen(
            [*prefix, sys.executable, '-m', module, '--ros-args', *arguments], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT,
            env=default_environment(ROS_DOMAIN_ID=str(domain), OMP_NUM_THREADS='1')) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15.0)
            except subprocess.TimeoutExpired:
                process.kill()


def node_changes(folder: Path, bar: Progress) -> Iterator[dict]:
    """The same with the real nodes, from boot on: the robot starts first, and there is no name service yet."""
    domain = 101 + os.getpid() % 100         # shared memory does not know of namespaces, so each side has one
    with ChangingPath() as path, contextlib.ExitStack() as stack:
        path.name(None)
        stack.enter_context(node('evitif_edge_node.edge_node', path.robot_command, {
            **NODE, 'robot_name': 'robot', 'bridge_host': BRIDGE_NAME, 'bridge_port': PORT, 'min_packets': 1}, domain, folder / 'edge.log'))
        observer = Process('benchmarks.link.node_observer', [*path.robot_command, 'env', '-u', '_ROS_WHEELS_BOOTSTRAP_COMPLETE'], {},
                           {'ROS_DOMAIN_ID': str(domain)})
        stack.callback(observer.close)
        until = time.monotonic() + START_S
        while not any('does not resolve' in line[-1] for line in observer.ask('answers')['said']):
            if time.monotonic() > until:
                raise ProcessError(f'the edge node did not say within {START_S:g} s that the name does not resolve')
            time.sleep(1.0)
        log = folder / 'bridge.log'
        stack.enter_context(node('evitif_cloud_bridge.bridge_node', path.bridge_command, {**NODE, 'port': PORT} | {
            'bind_host': '0.0.0.0'}, domain + 1, log))
        while 'listening on' not in log.read_text():
            if time.monotonic() > until + START_S:
                raise ProcessError(f'the bridge node did not start within {START_S:g} s: {log.read_text()[-400:]}')
            time.sleep(0.5)
        time.sleep(3.0)
        boot = Change('boot: robot, bridge, and the name service last', lambda: path.name(BRIDGE_ADDRESSES[0]), 9.0)
        yield measured(boot, observer, NODES_GAP_S)
        bar.update()
        for change in moves(path, 'again, after', 'swallows'):
            yield measured(change, observer, NODES_GAP_S)
            bar.update()


def run(quick: bool, output: Path) -> dict:
    """
    The part by itself.

    :raises PartError: there are no network namespaces here, or a process does not do what it should
    """
    if reason := unavailable():
        raise PartError(reason)
    count = len(falls(quick)) + 8 + (0 if quick else 6)
    try:
        with Progress(total=count, desc='changes', unit='change') as bar, tempfile.TemporaryDirectory() as folder:
            plain = list(plain_changes(quick, bar))
            nodes = [] if quick else list(node_changes(Path(folder), bar))
    except (LinkError, ProcessError) as error:
        raise PartError(str(error)) from None
    return save(output, 'path_changes', command('path_changes', quick), {'plain': plain, 'nodes': nodes}, targets_of(plain, nodes))


def targets_of(plain: list[dict], nodes: list[dict]) -> list[dict]:
    """Each change with what was measured."""
    return [target(f'{who}: {row["change"]}', f'back within {row["target_s"]:g} s, said',
                   f'{row["back_s"]:.1f} s' + ('' if row['said'] else ', not said'), row['back_s'] <= row['target_s'] and row['said'])
            for who, rows in (('plain peers', plain), ('nodes', nodes)) for row in rows]


def section(result: dict, images: Path) -> str:
    """Its page, in Markdown."""
    text = ['| change | plain peers | nodes |', '| --- | ---: | ---: |']
    of = {(who, row['change']): row for who in ('plain', 'nodes') for row in result['figures'][who]}
    for name in dict.fromkeys(name for _, name in of):
        cells = [of.get((who, name)) for who in ('plain', 'nodes')]
        text.append(f'| {name} | ' + ' | '.join('' if row is None else f'{row["back_s"]:.1f} s' for row in cells) + ' |')
    return '\n'.join(text)
