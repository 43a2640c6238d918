"""The transport's part alone: int8 tokens in memory on the edge to tokens in memory on the bridge, over a link that loses nothing.

evitif's packetiser, connection and `UdpLoop` beside a bare loop that sends and receives the same bytes with the same system calls,
and beside TCP. In a round each way sends some frames, in an order drawn anew; what is compared are medians of the rounds' ratios.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.link.conditions import Condition
from benchmarks.link.namespaces import BRIDGE_ADDRESS, NamespaceLink, remove_leftovers, unavailable
from benchmarks.link.processes import Process, ProcessError
from benchmarks.link.transport_side import WAYS, protocol_cost
from benchmarks.part import PartError, command, save, target
from evitif.protocol.sealing.keys import write_key_file
from evitif_lab.commands.progress import Progress

TITLE = 'The transport\'s part'
QUICK = 'fewer rounds'
MODULE = 'benchmarks.link.transport_side'
MODELS = {'ViT-Tiny': 192, 'ViT-Base': 768}         # channels
FRAMES, INTERVAL_S = 20, 0.015                      # of one way in a round
RATE, CPU_TARGET = 30.0, 0.1                        # frames a second, share of a core
WARM_UP = 2                                         # rounds
BARE, UNPACED, UNSEALED, SEALED, TCP = WAYS
LOOPBACK = 'loopback'
LINKS = {'packets': 'each datagram and segment a packet of its own', 'runs': 'veth as it comes: runs and segments stay together',
         LOOPBACK: 'loopback, where runs and segments stay together'}


def measure(link: str, channels: int, rounds: int, cpu_frames: int, bar: Progress) -> dict:
    """
    The figures of every way on one kind of link.

    :param link: a key of LINKS
    :raises ProcessError: a side ended
    :raises LinkError: there are no namespaces
    """
    with contextlib.ExitStack() as stack:
        key_file = Path(stack.enter_context(tempfile.TemporaryDirectory()), 'robot.key')
        write_key_file(key_file)
        host, commands = '127.0.0.1', ([], [])
        if link != LOOPBACK:
            between = stack.enter_context(NamespaceLink(forwarded=False, keep_runs=link == 'runs'))
            between.set(Condition())
            host, commands = BRIDGE_ADDRESS, (between.robot_command, between.bridge_command)
        settings = {'channels': channels, 'key_file': str(key_file), 'host': host}
        receiver = Process(MODULE, commands[1], {**settings, 'side': 'receiver'})
        stack.callback(receiver.close)
        sender = Process(MODULE, commands[0], {**settings, 'side': 'sender', **receiver.ask('addresses')})
        stack.callback(sender.close)
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}         # median of each round
        order = random.Random(0)
        for number in range(-WARM_UP, rounds):
            for way in order.sample(WAYS, len(WAYS)):
                receiver.ask('take')
                sent = dict(sender.ask('send', way=way, frames=FRAMES, interval=INTERVAL_S)['handed_in'])
                arrived = receiver.ask('take')['arrived'][way]
                if number >= 0:
                    seconds[way].append(float(np.median([at - sent[frame] for frame, at in arrived if frame in sent] or [np.nan])))
                bar.update()
        return {'ways': {way: {'us': _quartiles(1e6 * np.array(seconds[way])),
                               'of_bare': _quartiles(np.array(seconds[way]) / seconds[BARE]),
                               'of_tcp': _quartiles(np.array(seconds[way]) / seconds[TCP]),
                               'of_unsealed': _quartiles(np.array(seconds[way]) / seconds[UNSEALED])} for way in WAYS},
                'cpu': {way: _cpu(sender, receiver, way, cpu_frames) for way in WAYS}}


def _cpu(sender: Process, receiver: Process, way: str, frames: int) -> dict[str, float]:
    """Shares of a core that the two sides take at RATE."""
    before = receiver.ask('take')['cpu_s']
    sent = sender.ask('send', way=way, frames=frames, interval=1 / RATE)
    return {'robot': sent['cpu_s'] / sent['wall_s'], 'bridge': (receiver.ask('take')['cpu_s'] - before) / sent['wall_s']}


def _quartiles(values: np.ndarray) -> dict:
    low, median, high = np.nanpercentile(values, [25, 50, 75])
    return {'median': float(median), 'quartiles': [float(low), float(high)]}


def targets_of(cells: dict[str, dict[str, dict]], protocol: dict[str, dict]) -> list[dict]:
    """Judged on the link where each datagram is a packet, as on a real one; without namespaces on loopback."""
    judged = []
    for model, links in cells.items():
        link = 'packets' if 'packets' in links else LOOPBACK
        ways = links[link]['ways']
        where = f'{model}, int8, {LINKS[link]}'
        own, paced = protocol[model], ways[UNSEALED]['us']['median'] - ways[UNPACED]['us']['median']
        rested, us = own['after_pause'], {name: ways[name]['us']['median'] for name in ways}
        reason = (f'of {us[UNSEALED]:.0f} µs the bare loop takes {us[BARE]:.0f} and pacing {paced:.0f}. The protocol alone, without '
                  f'sockets, packetises a frame in {own["packetise_us"]:.0f} µs and reassembles its {own["datagrams"]} datagrams in '
                  f'{own["reassemble_us"]:.0f} µs when it does nothing else. After pauses of {1000 * INTERVAL_S:g} ms, as there are '
                  f'between these frames, it takes {rested["packetise_us"]:.0f} and {rested["reassemble_us"]:.0f} µs: the processor has to '
                  'fetch interpreter and libraries into its caches again. The bare loop needs little of them')
        for way, words in ((UNSEALED, ''), (UNPACED, ', congestion control off')):
            bare, tcp = ways[way]['of_bare']['median'], ways[way]['of_tcp']['median']
            note = '' if words or bare <= 1.3 else reason
            judged += [target(f'transport\'s part beside a bare loop{words}, {where}', 'at most 1.3 times', f'{bare:.2f} times',
                              bare <= 1.3, note),
                       target(f'transport\'s part beside TCP{words}, {where}', 'at most 1 time', f'{tcp:.2f} times', tcp <= 1.0)]
        seal = ways[SEALED]['of_unsealed']['median']
        judged.append(target(f'the seal\'s part of it, {where}', 'at most 10 % more', f'{100 * (seal - 1):+.0f} %', seal <= 1.1))
    if 'ViT-Tiny' in cells:
        cpu = next(iter(cells['ViT-Tiny'].values()))['cpu'][SEALED]
        judged.append(target(f'CPU at {RATE:g} frames/s, ViT-Tiny, sealed', f'below {100 * CPU_TARGET:g} % of a core a side',
                             f'robot {100 * cpu["robot"]:.1f} %, bridge {100 * cpu["bridge"]:.1f} %', max(cpu.values()) < CPU_TARGET))
    return judged


def run(quick: bool, output: Path) -> dict:
    """
    The part of `make bench`.

    :raises PartError: a side cannot run
    """
    reason = unavailable()
    links = (LOOPBACK,) if reason else ('packets', 'runs')
    rounds, cpu_frames = (6, 45) if quick else (14, 60)
    if not reason:
        remove_leftovers()
    try:
        with Progress(total=len(MODELS) * len(links) * (rounds + WARM_UP) * len(WAYS), desc='turns', unit='turn') as bar:
            cells = {model: {link: measure(link, channels, rounds, cpu_frames, bar) for link in links}
                     for model, channels in MODELS.items()}
        protocol = {model: protocol_cost(channels) | {'after_pause': protocol_cost(channels, pause_s=INTERVAL_S)}
                    for model, channels in MODELS.items()}
    except ProcessError as error:
        raise PartError(str(error)) from None
    return save(output, 'transport', command('transport', quick), cells,
                targets_of(cells, protocol), rounds=rounds, frames=FRAMES, protocol=protocol, note=reason)


def section(result: dict, images: Path) -> str:
    """Its page, in Markdown."""
    text = ['The time that a frame of int8 tokens takes from the edge\'s memory into the bridge\'s, one way; '
            f'{result["rounds"]} rounds of {result["frames"]} frames. CPU: share of a core of the whole process at {RATE:g} frames/s.']
    if result['note']:
        text += ['', f'Over loopback, since there are no network namespaces: {result["note"]}.']
    for model, links in result['figures'].items():
        for link, cell in links.items():
            text += ['', f'{model}, {MODELS[model]} channels; {LINKS[link]}:', '',
                     '| | µs (quartiles) | of the bare loop | of TCP | CPU, robot | CPU, bridge |',
                     '| --- | ---: | ---: | ---: | ---: | ---: |']
            for way, figures in cell['ways'].items():
                low, high = figures['us']['quartiles']
                cpu = cell['cpu'][way]
                text.append(f'| {way} | {figures["us"]["median"]:.0f} ({low:.0f} to {high:.0f}) | {figures["of_bare"]["median"]:.2f} '
                            f'| {figures["of_tcp"]["median"]:.2f} | {100 * cpu["robot"]:.1f} % | {100 * cpu["bridge"]:.1f} % |')
    return '\n'.join(text)
