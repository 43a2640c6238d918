"""From image to answer on the robot: evitif beside TCP, ROS 2 topics, and codecs with parity, over the same bad link.

The robot and the bridge are two processes in two network namespaces. Every contestant gets the same images at the same rate; in a
round each has one turn, in an order drawn anew, so that whatever else the machine does meets all alike.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.link.conditions import ANSWERED, DEADLINE_MS, MAIN, PHOTOGRAPHS, Condition
from benchmarks.link.contestants import CONTESTANTS
from benchmarks.link.end_to_end_page import section as section
from benchmarks.link.end_to_end_page import summary as summary
from benchmarks.link.namespaces import LinkError, NamespaceLink, remove_leftovers, unavailable
from benchmarks.link.processes import Process, ProcessError
from benchmarks.link.simulated import SimulatedLink
from benchmarks.part import LIBRARY, ROOT, PartError, command, machine, percentile, ratio_interval95, save, sources_digest, target
from evitif.protocol.sealing.keys import write_key_file
from evitif_lab.commands.progress import Progress
from evitif_lab.evaluation.partial import PartialResult
from evitif_lab.evaluation.suite import IMAGENET_CHECKPOINT

TITLE = 'From image to answer'
QUICK = 'fewer conditions, rounds and frames'
LOSSES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.6)
EVERYONE = tuple(CONTESTANTS)
TURN_S = 60.0               # for what a turn may take longer than its images
ENVIRONMENT = {'OMP_NUM_THREADS': '1', 'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp', 'FASTDDS_BUILTIN_TRANSPORTS': 'UDPv4',
               'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET'}


@dataclass(frozen=True)
class Group:
    """Conditions that are measured alike."""

    name: str
    conditions: tuple[Condition, ...]
    contestants: tuple[str, ...] = EVERYONE
    model: str = 'small'        # a key of MODELS
    rounds: int = 2
    frames: int = 40            # a turn
    warm_up: int = 10           # images of a turn that do not count
    rate: float = 20.0          # images a second


def groups(quick: bool) -> tuple[Group, ...]:
    """What is measured. The quick form has fewer conditions, rounds and frames."""
    lost = [Condition(loss, delay_ms=5) for loss in ((0.0, 0.05, 0.2, 0.6) if quick else LOSSES)]
    main = Group(MAIN, tuple(lost), rounds=1, frames=20, warm_up=10) if quick else Group(MAIN, tuple(lost))
    answered = Group(ANSWERED, tuple(lost), ('evitif',), rounds=1, frames=60 if quick else 400, warm_up=20)
    if quick:
        return main, answered
    return (main, answered,
            Group('delay', tuple(Condition(loss, delay_ms=delay) for delay in (0, 20, 50) for loss in (0.0, 0.2)), rounds=1),
            Group('rate', tuple(Condition(0.05, 5, rate_mbit=rate) for rate in (5, 20, 100)), rounds=1),
            Group('bursts', tuple(Condition(loss, 5, burst=8) for loss in (0.05, 0.2)), rounds=1),
            Group(PHOTOGRAPHS, tuple(Condition(loss, 5) for loss in (0.0, 0.05, 0.2)), model='large', rounds=1, frames=24, warm_up=6,
                  rate=6.0))


def models() -> dict[str, dict]:
    """The two models, with where their images come from; the large one with random weights where its own are not there."""
    checkpoint = ROOT / IMAGENET_CHECKPOINT
    weights = {'checkpoint': IMAGENET_CHECKPOINT} if checkpoint.is_file() else {'random_seed': 0}
    return {'small': {'model': {'model': 'artifacts/tiny_imagenet_50'}, 'data': 'data/tiny-imagenet-50'},
            'large': {'model': {'model': checkpoint.stem, **weights}, 'data': 'data/imagenet-photos'}}


# --- measuring ---

@contextlib.contextmanager
def session(group: Group, forwarded: bool, namespaces: bool) -> Iterator[tuple]:
    """The link, the robot and the bridge of a group; nothing of them is left behind."""
    port = 7600 if namespaces else 20_000 + os.getpid() % 20_000
    with contextlib.ExitStack() as stack:
        link = stack.enter_context(NamespaceLink(group.contestants, port, forwarded=forwarded) if namespaces
                                   else SimulatedLink(group.contestants, port))
        key_file = Path(stack.enter_context(tempfile.TemporaryDirectory()), 'robot.key')
        write_key_file(key_file)
        settings = {**models()[group.model], 'images': 100, 'rate': group.rate, 'key_file': str(key_file), 'reach': link.reach,
                    'listen': link.listen}
        environment = {**ENVIRONMENT, 'ROS_DOMAIN_ID': str(os.getpid() % 100)}
        link.set(Condition())
        sides = []
        for module, command in (('robot', link.robot_command), ('bridge', link.bridge_command)):
            process = Process(f'benchmarks.link.{module}', command, settings, environment)
            stack.callback(process.close)
            sides.append(process)
        yield link, *sides


class Measurement:
    """All turns; what an interrupted one has measured is kept beside the result."""

    def __init__(self, quick: bool, output: Path):
        self.groups, self.notes = groups(quick), []
        reason = unavailable()
        self.namespaces = not reason
        if reason:
            self.notes.append(f'No network namespaces: {reason}. So the link simulator stands in, on loopback, for the contestants that '
                              'send plain UDP; TCP and ROS 2 topics are left out.')
        self._partial = PartialResult(output / 'end_to_end.json', {'groups': [asdict(group) for group in self.groups],
                                                                   'machine': machine(), 'namespaces': self.namespaces,
                                                                   'sources': sources_digest(LIBRARY)})
        self._state = self._partial.load() or {'next': 'the first turn', 'turns': {}, 'about': {}, 'left_out': {}}

    @property
    def turns(self) -> dict[str, dict]:
        """By `group / condition / contestant`, over all rounds."""
        return self._state['turns']

    @property
    def about(self) -> dict[str, dict]:
        """What both models are, by name."""
        return self._state['about']

    @property
    def left_out(self) -> dict[str, str]:
        """Why a contestant was left out."""
        return self._state['left_out']

    def measure(self) -> None:
        """All groups, in turns; goes on where an earlier measurement ended."""
        if self.namespaces:
            remove_leftovers()
        total = sum(len(group.conditions) * group.rounds * len(group.contestants) for group in self.groups)
        with Progress(total=total, desc='turns', unit='turn') as bar:
            for group in self.groups:
                for forwarded in (False, True):
                    conditions = [condition for condition in group.conditions if condition.forwarded is forwarded]
                    wanted = [(condition, number) for condition in conditions for number in range(group.rounds)
                              if self._key(group, condition, number) not in self._state.setdefault('done', [])]
                    bar.update((len(conditions) * group.rounds - len(wanted)) * len(group.contestants))
                    if wanted:
                        self._measure(group, forwarded, wanted, bar)
        self._partial.remove()

    @staticmethod
    def _key(group: Group, condition: Condition, number: int) -> str:
        return f'{group.name} / {condition.name} / {number}'

    def _measure(self, group: Group, forwarded: bool, wanted: list[tuple[Condition, int]], bar: Progress) -> None:
        with session(group, forwarded, self.namespaces) as (link, robot, bridge):
            self.about[group.model] = robot.ask('about')
            if self.namespaces:
                self.about['datagrams_a_packet'] = {**self.about.get('datagrams_a_packet', {}), 'through the forwarder' if forwarded
                                                    else 'veth': round(link.datagrams_a_packet(), 3)}
            there = self._connect(group, link, robot, bridge)
            for condition, number in wanted:
                order = random.Random(f'{condition.name} {number}').sample(there, len(there))
                for name in order:
                    turn = self._turn(group, condition, name, link, robot, bridge)
                    self.turns.setdefault(f'{group.name} / {condition.name} / {name}', []).append(turn)
                    bar.update()
                bar.update(len(group.contestants) - len(there))
                self._state['done'].append(self._key(group, condition, number))
                self._state['next'] = f'after {self._state["done"][-1]}'
                self._partial.save(self._state)

    def _connect(self, group: Group, link: NamespaceLink | SimulatedLink, robot: Process, bridge: Process) -> list[str]:
        """The contestants that are there, once all have been connected over a link that loses nothing."""
        there = []
        for name in group.contestants:
            try:
                if name not in link.reach:
                    raise ProcessError('not over the link simulator')
                for side in (bridge, robot):
                    side.ask('connect', contestant=name, condition=asdict(Condition()))
                robot.ask('disconnect', contestant=name)
                there.append(name)
            except ProcessError as error:
                self.left_out[name] = str(error)
        return there

    def _turn(self, group: Group, condition: Condition, name: str, link: NamespaceLink | SimulatedLink, robot: Process,
              bridge: Process) -> dict:
        if CONTESTANTS[name].reconnects:
            link.set(Condition(delay_ms=condition.delay_ms, rate_mbit=condition.rate_mbit))
        for side in (bridge, robot):
            side.ask('connect', contestant=name, condition=asdict(condition))
        link.set(condition)
        before = bridge.ask('cpu')
        turn = robot.ask('turn', contestant=name, warm_up=group.warm_up, frames=group.frames,
                         timeout_s=TURN_S + (group.frames + group.warm_up) / group.rate)
        after = bridge.ask('cpu')
        robot.ask('disconnect', contestant=name)
        turn['bridge_cpu'] = (after['cpu_s'] - before['cpu_s']) / (after['wall_s'] - before['wall_s'])
        turn['robot_cpu'] = turn.pop('cpu_s') / turn.pop('wall_s')
        return {**turn, 'frames': group.frames}


# --- figures ---

def figures_of(turns: list[dict]) -> dict:
    """The figures of one contestant under one condition.

    `p50_ms` and `p99_ms` are over the images that were sent, with those that were not answered as the longest; None where the
    percentile is one of those, so that it is above `gives_up_ms`. `answered` is over all images of the stream.
    """
    latency = [value for turn in turns for value in turn['latency_ms']]
    pairs = [(a, b) for turn in turns for a, b in zip(turn['latency_ms'], turn['compute_ms'], strict=True)]
    images = sum(turn['frames'] for turn in turns)
    replaced = sum(turn['replaced'] for turn in turns)
    # A runtime tells how many images it replaced, not which: of those without an answer so many were not sent.
    without = [value for value in latency if value is None]
    sent = [value for value in latency if value is not None] + without[max(0, len(latency) + replaced - images):]
    answered = sum(value is not None for value in latency)
    hits = sum(value is not None and value <= DEADLINE_MS for value in latency)
    carried = [a - b for a, b in pairs if a is not None and b is not None]
    return {'images': images, 'replaced': replaced, 'unanswered': len(sent) - answered,
            'p50_ms': _known(percentile(sent, 0.5)), 'p99_ms': _known(percentile(sent, 0.99)),
            'gives_up_ms': 1e3 * turns[0]['gives_up_s'], 'answered': hits / images, 'answered_interval95': ratio_interval95(hits, images),
            'link_ms': _known(percentile(carried, 0.5)), 'link_p99_ms': _known(percentile(carried + [None] * (len(sent) - answered), 0.99)),
            'agreement': sum(turn['agree'] for turn in turns) / answered if answered else None,
            'robot_cpu': sum(turn['robot_cpu'] for turn in turns) / len(turns),
            'bridge_cpu': sum(turn['bridge_cpu'] for turn in turns) / len(turns)}


def _known(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None


def entries_of(measurement: Measurement) -> list[dict]:
    """One entry a group and condition, each with the figures of its contestants."""
    entries = []
    for group in measurement.groups:
        for condition in group.conditions:
            found = {name: figures_of(turns) for name in group.contestants
                     if (turns := measurement.turns.get(f'{group.name} / {condition.name} / {name}'))}
            entries.append({'group': group.name, 'model': group.model, 'rate': group.rate, 'condition': asdict(condition),
                            'name': condition.name, 'contestants': found})
    return entries


def targets_of(entries: list[dict]) -> list[dict]:
    """p99 beside TCP's, and the share answered by the deadline."""
    judged = []
    for loss, factor in ((0.2, 57), (0.05, 5)):
        for name in ('tcp-cubic', 'tcp-bbr'):
            cells = next((entry['contestants'] for entry in entries if entry['group'] == MAIN and entry['condition']['loss'] == loss
                          and entry['condition']['delay_ms'] == 5), {})
            if 'evitif' in cells and name in cells:
                judged.append(_latency_target(cells['evitif'], cells[name], loss, factor, CONTESTANTS[name].title, name == 'tcp-cubic'))
    for entry in entries:
        if entry['group'] == ANSWERED and 'evitif' in entry['contestants']:
            figures = entry['contestants']['evitif']
            low, high = figures['answered_interval95']
            judged.append(target(f'answered by {DEADLINE_MS:g} ms, {entry["name"]}', 'at least 99.9 %',
                                 f'{100 * figures["answered"]:.2f} % of {figures["images"]} (95 %: {100 * low:.2f} to {100 * high:.2f})',
                                 figures['answered'] >= 0.999))
    return judged


def _latency_target(ours: dict, theirs: dict, loss: float, factor: float, title: str, judged: bool) -> dict:
    name = f'p99 from image to answer, {100 * loss:g} % loss, 5 ms, beside {title}'
    p99, other = ours['p99_ms'], theirs['p99_ms']
    expected = f'at least {factor} times lower' if judged else 'none: shown beside'
    if p99 is None:
        return target(name, expected, f'evitif above {ours["gives_up_ms"]:g} ms', False if judged else None)
    longer = theirs['gives_up_ms'] if other is None else other
    ratio = longer / p99
    note = ''
    if judged and ratio < factor and ours['link_p99_ms'] is not None:
        theirs_alone = theirs['gives_up_ms'] if theirs['link_p99_ms'] is None else theirs['link_p99_ms']
        alone = theirs_alone / ours['link_p99_ms']
        note = ('computing and waiting for a CPU are in both figures. The link\'s part alone (there, back and waiting for packets) has '
                f'a p50 of {ours["link_ms"]:.0f} ms and a p99 of {ours["link_p99_ms"]:.0f} ms with evitif, of which the delay is 10 ms, '
                f'and a p99 of {theirs_alone:.0f} ms over TCP: {alone:.0f} times')
    measured = f'{">" if other is None else ""}{ratio:.0f} times ({">" if other is None else ""}{longer:.0f} ms, evitif {p99:.0f} ms)'
    return target(name, expected, measured, ratio >= factor if judged else None, note)


def run(quick: bool, output: Path) -> dict:
    """
    Measure everything, or go on where that was interrupted.

    :raises PartError: nothing could be measured
    """
    measurement = Measurement(quick, output)
    try:
        measurement.measure()
    except (LinkError, ProcessError) as error:
        raise PartError(str(error)) from None
    entries = entries_of(measurement)
    if not any(entry['contestants'] for entry in entries):
        raise PartError('; '.join(f'{name}: {reason}' for name, reason in measurement.left_out.items()))
    return save(output, 'end_to_end', command('end_to_end', quick),
                {'conditions': entries, 'about': measurement.about, 'deadline_ms': DEADLINE_MS}, targets_of(entries),
                notes=measurement.notes, left_out=measurement.left_out, namespaces=measurement.namespaces)
