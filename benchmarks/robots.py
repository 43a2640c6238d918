"""Many robots on one bridge: how fairly it serves them, and how much of the bare tail's throughput they get.

The robots are in one process (`robot_fleet`), the bridge in another. They send half as much again as the bridge can answer. In
turns with that the bridge's process runs its tail alone, on batches of the size that it takes, without any robot; throughput is
compared by the wall's clock and, since other programs disturb that, by the processor time of the bridge's working thread.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.part import PartError, command, machine, save, sources_digest, target
from benchmarks.robot_fleet import Fleet
from evitif.pipeline import BridgeRuntime
from evitif.recovery import Recovered
from evitif.settings import bridge_settings
from evitif_lab.commands.options import positive_int
from evitif_lab.commands.progress import Progress
from evitif_lab.evaluation.partial import PartialResult

TITLE = 'Many robots on one bridge'
QUICK = 'the last model and the most robots only, one short round'
SOURCES = ('benchmarks/robot_fleet.py', 'evitif/model', 'evitif/recovery')
FAIR_POINTS, THROUGHPUT = 2.0, 0.9
OVERLOAD = 1.5
ROBOTS = (8, 64)
MODELS = ('vit_tiny_patch16_224:6', 'artifacts/fashion_mnist:1')
DEADLINE_S = 5.0            # of an answer: what is judged is who is answered at all; how soon is in p50 and p99
FRAMES_EACH = 100           # of a robot, so that one frame is one point of its answered ratio; less where that takes too long
LONGEST_S = 90.0
MOST_RATE = 60.0            # frames/s of one robot


def _serve(model: str, cut: int, robots: int, pipe: Connection) -> None:
    """The bridge's process. A number of seconds is answered with frames/s and frames per processor second of the tail alone; 'end'
    with the frames answered, batches, and processor seconds of the worker and of the whole process since 'begin'."""
    torch.set_num_threads(1)
    weights = {} if '/' in model else {'random_seed': 0}
    bridge = BridgeRuntime(bridge_settings(model=model, cut=cut, **weights, quantisation='int8', recovery='omission', unsealed=True,
                                               bind_host='127.0.0.1', port=0, max_robots=max(64, robots)),
                           on_prediction=lambda *_: None, log=lambda *_: None)
    bridge.start()
    stream, batch = bridge._strategy.model, bridge._batch        # noqa: SLF001 - what the bridge itself runs
    tokens = torch.randn(batch, stream.parameters.tokens, stream.parameters.channels)
    rows = stream.quantiser.quantise(tokens[0].numpy())
    pipe.send((bridge.local_address, stream.parameters, rows, batch))
    clock = time.pthread_getcpuclockid(bridge._worker.ident)        # noqa: SLF001 - that thread's time
    began = None
    while (asked := pipe.recv()) != 'stop':
        counts = bridge.statistics()
        now = counts.frames_answered, counts.batches, time.clock_gettime(clock), time.process_time()
        if asked == 'begin':
            began = now
        elif asked == 'end':
            pipe.send([after - before for after, before in zip(now, began, strict=True)])
        else:
            runs, wall, processor = 0, time.monotonic(), time.thread_time()
            while time.monotonic() < wall + asked:
                stream.tail_batch(Recovered(tokens))
                runs += 1
            pipe.send((runs * batch / (time.monotonic() - wall), runs * batch / (time.thread_time() - processor)))
    bridge.stop()


def measure(model: str, cut: int, robots: int, rounds: int, seconds: float, longest: float = LONGEST_S) -> dict:
    """One model with so many robots; see the module."""
    context = multiprocessing.get_context('spawn')
    pipe, other = context.Pipe()
    process = context.Process(target=_serve, args=(model, cut, robots, other), daemon=True)
    process.start()
    fleet = None
    try:
        if not pipe.poll(120):
            raise TimeoutError(f'the bridge with {model} was not ready after 120 s')
        address, parameters, rows, batch = pipe.recv()
        fleet = Fleet(parameters, rows, address, robots, answer_deadline_s=DEADLINE_S)
        frame_bytes = fleet.frame_bytes
        turns = []
        for _ in range(rounds):
            bare_wall, bare_processor = _ask(pipe, seconds / 2)
            rate = min(MOST_RATE, OVERLOAD * bare_wall / robots)
            pipe.send('begin')
            own = time.process_time()
            sending = fleet.drive(min(max(seconds, FRAMES_EACH / rate), longest), rate)
            own = time.process_time() - own
            answered, batches, processor, whole = _ask(pipe, 'end')
            ratios = [100 * count.answered / count.sent for count in fleet.counts if count.sent]
            turns.append({'offered_hz': rate * robots, 'answered_hz': answered / sending, 'bare_hz': bare_wall,
                          'of_bare_wall': answered / sending / bare_wall,
                          'of_bare_processor': answered / max(processor, 1e-9) / bare_processor,
                          'worker_ms': 1e3 * processor / max(answered, 1), 'other_ms': 1e3 * (whole - processor) / max(answered, 1),
                          'robots_ms': 1e3 * own / max(answered, 1),
                          'mean_batch': answered / max(batches, 1),
                          'answered_percent': statistics.fmean(ratios), 'slowest_percent': min(ratios),
                          'p50_ms': 1e3 * float(np.percentile(fleet.latencies or [np.nan], 50)),
                          'p99_ms': 1e3 * float(np.percentile(fleet.latencies or [np.nan], 99))})
        pipe.send('stop')
        process.join(10)
    finally:
        if fleet is not None:
            fleet.close()
        process.kill()
    figures = {name: round(statistics.median(turn[name] for turn in turns), 3) for name in turns[0]}
    return {'model': model, 'cut': cut, 'robots': robots, 'batch': batch, 'tokens': parameters.tokens, 'channels': parameters.channels,
            'frame_bytes': frame_bytes, 'rounds': rounds, **figures}


def _ask(pipe: Connection, question: str | float) -> Any:
    pipe.send(question)
    if not pipe.poll(60):
        raise TimeoutError('the bridge did not answer for 60 s')
    return pipe.recv()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Further options of `evitif bench robots`."""
    parser.add_argument('--models', nargs='+', default=MODELS, metavar='NAME:CUT', help='model folders, or timm models with random weights')
    parser.add_argument('--robots', nargs='+', type=positive_int, default=ROBOTS, metavar='N')


def run(quick: bool, output: Path, models: Sequence[str] = MODELS, robots: Sequence[int] = ROBOTS) -> dict:
    """
    The part of `make bench`; goes on after the last model and number of robots that was measured.

    :raises PartError: a bridge does not answer
    """
    rounds, seconds, longest = (1, 3.0, 20.0) if quick else (2, 8.0, LONGEST_S)
    if quick:
        models, robots = models[-1:], robots[-1:]
    cells = [(*model.rsplit(':', 1), count) for model in models for count in robots]
    partial = PartialResult(output / 'robots.json', {'cells': cells, 'rounds': rounds, 'machine': machine(), 'sources': sources_digest(
        ('evitif/transport', 'evitif/protocol', 'evitif/pipeline', *SOURCES))})
    state = partial.load() or {'next': 'the first', 'results': []}
    try:
        for model, cut, count in Progress(cells[len(state['results']):], desc='robots'):
            state['results'].append(measure(model, int(cut), count, rounds, seconds, longest))
            state['next'] = f'after {model} with {count}'
            partial.save(state)
    except (TimeoutError, EOFError) as error:
        raise PartError(f'{model} with {count} robots: {error or "its process has ended"}') from None
    partial.remove()
    return save(output, 'robots', command('robots', quick), {'cells': state['results']},
                targets_of(state['results']), threads=1, torch=torch.__version__, overload=OVERLOAD, rounds=rounds)


def targets_of(cells: list[dict]) -> list[dict]:
    """Fairness with several robots, throughput with many."""
    judged = []
    for cell in cells:
        where = f'{cell["model"]} at cut {cell["cut"]}, {cell["robots"]} robots'
        if cell['robots'] > 1:
            behind = cell['answered_percent'] - cell['slowest_percent']
            judged.append(target(f'fairness: {where}', f'the slowest at most {FAIR_POINTS:g} points below the mean', f'{behind:.1f} points',
                                 behind <= FAIR_POINTS))
        if cell['robots'] >= 64:
            share = cell['of_bare_wall']
            judged.append(target(f'throughput: {where}', f'at least {100 * THROUGHPUT:g} % of the bare tail', f'{100 * share:.0f} %',
                                 share >= THROUGHPUT,
                                 f'{100 * cell["of_bare_processor"]:.0f} % by processor time of the working thread. An answered frame '
                                 f'takes {cell["worker_ms"]:.1f} ms of that thread and {cell["other_ms"]:.1f} ms of the receiving one, '
                                 f'which receives all frames; the robots\' process takes {cell["robots_ms"]:.1f} ms on the same cores'))
    return judged


def section(result: dict, images: Path) -> str:
    """Its page, in Markdown."""
    columns = {'model': ('model', ''), 'cut': ('cut', ''), 'robots': ('robots', ''), 'batch': ('batch', ''),
               'bare_hz': ('tail alone, frames/s', '.0f'), 'answered_hz': ('answered, frames/s', '.0f'),
               'of_bare_wall': ('of the tail alone', '.2f'), 'of_bare_processor': ('by processor time', '.2f'),
               'answered_percent': ('answered, %', '.1f'), 'slowest_percent': ('the slowest robot, %', '.1f'),
               'p50_ms': ('p50, ms', '.0f'), 'p99_ms': ('p99, ms', '.0f')}
    head = [title for title, _ in columns.values()]
    rows = [[format(cell[name], form) for name, (_, form) in columns.items()] for cell in result['figures']['cells']]
    return '\n'.join([
        f'The robots send {result["overload"]:g} times what the bridge can answer, from one process on the same machine; '
        f'{result["rounds"]} rounds, in turns with the tail alone at the same batch size, {result["threads"]} thread of PyTorch.', '',
        f'| {" | ".join(head)} |', '| --- |' + ' ---: |' * (len(head) - 1), *(f'| {" | ".join(row)} |' for row in rows)])


def summary(result: dict) -> str:
    """How many frames a bridge answers, and how evenly."""
    lines = [f'The robots together send {result["overload"]:g} times the frames that the bridge can answer. *The slowest robot*: the share '
             'of its frames that the worst served robot gets answers to.', '',
             '| model | robots | answered, frames/s | share of the tail alone | answered | the slowest robot |',
             '| --- | ---: | ---: | ---: | ---: | ---: |']
    lines += [f'| {cell["model"]}, cut {cell["cut"]} | {cell["robots"]} | {cell["answered_hz"]:.0f} | {100 * cell["of_bare_wall"]:.0f} % | '
              f'{cell["answered_percent"]:.1f} % | {cell["slowest_percent"]:.1f} % |' for cell in result['figures']['cells']]
    return '\n'.join(lines)
