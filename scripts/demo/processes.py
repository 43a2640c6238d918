"""The demo's processes: each node with a log file and its memory; free ports."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class DemoError(RuntimeError):
    """Something that ends the demo, in a sentence."""


class Processes:
    """The nodes' processes, each with a log file; stopped in the reverse order of their start."""

    def __init__(self, logs: Path):
        self.logs = logs
        self.running: dict[str, subprocess.Popen] = {}
        self.memory: dict[str, list[float]] = {}      # MiB resident, about once a second
        self.killed: set[str] = set()
        self._sampled = 0.0

    def start(self, name: str, module: str, namespace: str, remap: tuple[str, ...] = (), **parameters: object) -> None:
        """Start the node of a module with remappings and parameters; those that are None are left out."""
        arguments = [f'{key}:={str(value).lower() if isinstance(value, bool) else value}'
                     for key, value in parameters.items() if value is not None]
        command = [sys.executable, '-m', module, '--ros-args', '-r', f'__ns:={namespace}',
                   *[part for rule in remap for part in ('-r', rule)],
                   *[part for argument in arguments for part in ('-p', argument)]]
        environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])}
        with open(self.logs / f'{name}.log', 'w') as log:
            self.running[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment,
                                                  cwd=Path.cwd(), start_new_session=True)

    def check(self) -> None:
        """Raise DemoError if a node has ended by itself, other than a camera that has sent all its images."""
        for name, process in self.running.items():
            if name not in self.killed and process.poll() is not None and (name != 'camera' or process.returncode):
                last = (self.logs / f'{name}.log').read_text().strip().splitlines()[-3:]
                raise DemoError(f'the {name} ended with status {process.returncode}: ' + ' | '.join(last))

    def sample_memory(self) -> None:
        """Note the nodes' resident memory, at most once a second."""
        if time.monotonic() < self._sampled + 1:
            return
        self._sampled = time.monotonic()
        for name in sorted(self.running.keys() - {'link', 'camera'} - self.killed):
            try:
                pages = int(Path(f'/proc/{self.running[name].pid}/statm').read_text().split()[1])
            except OSError:  # not Linux, or gone
                continue
            self.memory.setdefault(name, []).append(pages * os.sysconf('SC_PAGE_SIZE') / 2**20)

    def kill(self, name: str) -> None:
        """End a node before it can say goodbye."""
        self.killed.add(name)
        self.memory.pop(name, None)
        self.running[name].kill()

    def ended(self, name: str) -> bool:
        """Whether a process is over."""
        return self.running[name].poll() is not None

    def stop(self) -> list[str]:
        """End all of them; return a sentence for each that did not end as it should."""
        failed = []
        for process in reversed(self.running.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for name, process in reversed(self.running.items()):
            try:
                status = process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                failed.append(f'the {name} did not end within 10 s of SIGINT and was killed')
                continue
            if status and name not in self.killed:
                failed.append(f'the {name} ended with status {status}; see {self.logs / name}.log')
        return failed


def free_udp_ports(count: int) -> list[int]:
    """Ports on 127.0.0.1 that nobody uses at this moment."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    try:
        for entry in sockets:
            entry.bind(('127.0.0.1', 0))
        return [entry.getsockname()[1] for entry in sockets]
    finally:
        for entry in sockets:
            entry.close()
