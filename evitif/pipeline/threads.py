"""How many threads PyTorch computes with on cores that other programs need too.

By default PyTorch takes every core, and so does the other node on the machine. So a runtime measures at start-up, with its own model,
which number of threads is fastest while a neighbour computes with as many. In a node, waiting threads sleep (`program_start` in
`evitif_ros`); threads that spin keep the core that others need.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch

GAIN = 1.25                 # twice the threads have to be this much faster, since they take cores from other programs
MEASURE_S = 0.25            # for each number of threads
FEWEST_PASSES, PASSES = 2, 7        # in that time
LONG_S = 1.0                # a pass that takes longer is the only one
_VARIABLES = ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')
_BY_PYTORCH = torch.get_num_threads()


def choose_threads(asked: int, work: Callable[[], object]) -> str:
    """Set PyTorch's threads, and return a sentence about them.

    :param asked: the number; 0: what the environment or the program set, else the number measured fastest
    :param work: what a frame takes to compute
    """
    cores = available_cores()
    set_by = next((f'{name}={os.environ[name]}' for name in _VARIABLES if os.environ.get(name)), None)
    if asked:
        torch.set_num_threads(asked)
        why = 'as set'
    elif set_by or torch.get_num_threads() != _BY_PYTORCH:
        why = f'as {set_by} says' if set_by else 'as the program set'
    elif cores == 1 or machine_is_full():
        # On a full machine more threads are faster only at the cost of other programs.
        torch.set_num_threads(1)
        why = 'the only one' if cores == 1 else capacity()
    else:
        seconds = measure(work, cores)
        torch.set_num_threads(quickest(seconds))
        why = 'measured beside a program that takes as many: ' + ', '.join(
            f'{count} in {1e3 * taken:.3g} ms' for count, taken in seconds.items())
    count = torch.get_num_threads()
    return f'PyTorch computes with {count} thread{"" if count == 1 else "s"} on {cores} core{"" if cores == 1 else "s"} ({why})'


def measure(work: Callable[[], object], cores: int) -> dict[int, float]:
    """Seconds that `work` takes with 1, 2, 4, … threads, at most `cores`, until more are not faster by GAIN."""
    counts = sorted({*(1 << bit for bit in range(cores.bit_length())), cores})
    seconds: dict[int, float] = {}
    for count in counts:
        before = min(seconds.values(), default=float('inf'))
        torch.set_num_threads(count)
        with _neighbour(count):
            seconds[count] = _median_time(work)
        if seconds[count] * GAIN > before:
            break
    return seconds


def quickest(seconds: dict[int, float]) -> int:
    """The number of threads to use: more only if they are faster by GAIN than the best of fewer."""
    best, *others = sorted(seconds)
    for count in others:
        if seconds[count] * GAIN <= seconds[best]:
            best = count
    return best


def machine_is_full() -> bool:
    """Whether more programs want to run than the machine has cores."""
    return os.getloadavg()[0] >= (os.cpu_count() or 1)


def capacity() -> str:
    """How full the machine is, in a few words with the figures."""
    cores = os.cpu_count() or 1
    return f'{"the machine is full: " if machine_is_full() else ""}load {os.getloadavg()[0]:.1f} on {cores} core{"" if cores == 1 else "s"}'


def available_cores() -> int:
    """Cores that this process may use: those it is bound to, limited by the time that its control groups grant."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return max(1, min([bound, *(round(quota + 0.25) for quota in _quotas())]))


def _quotas(root: Path = Path('/sys/fs/cgroup'), groups: Path = Path('/proc/self/cgroup')) -> list[float]:
    """The limits, in cores, of the control groups (version 2) above this process."""
    try:
        path = next(line.partition('::')[2] for line in groups.read_text().splitlines() if line.startswith('0::'))
    except (OSError, StopIteration):
        return []
    quotas, group = [], root / path.lstrip('/')
    for folder in (group, *group.parents):
        try:
            quota, period = (folder / 'cpu.max').read_text().split()
            quotas.append(int(quota) / int(period))
        except (OSError, ValueError):       # no such file; `max`: no limit
            continue
    return quotas


def _median_time(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()      # the first pass creates the threads
    if time.perf_counter() - began > LONG_S:
        return time.perf_counter() - began
    times, end = [], time.monotonic() + MEASURE_S
    while len(times) < FEWEST_PASSES or len(times) < PASSES and time.monotonic() < end:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


@contextmanager
def _neighbour(count: int):
    """Stand in for another program: compute in a thread whose parallel loops have threads of their own."""
    stop = threading.Event()

    def multiply() -> None:
        torch.set_num_threads(count)        # OpenMP keeps this number for each thread that starts parallel loops
        left, right = torch.ones(197, 192), torch.ones(192, 768)        # a layer of a ViT-Tiny
        while not stop.is_set():
            torch.mm(left, right)
    thread = threading.Thread(target=multiply, name='evitif-neighbour', daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
