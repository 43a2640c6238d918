"""A process that does what lines of JSON tell it to: the robot and the bridge, each in its own network namespace.

The one who starts it holds a `Process` and asks; it ends when it is closed or when that one is gone. In the process, `serve` hands
each question to a function of that name and writes what it returns.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
END_S = 10.0


class ProcessError(Exception):
    """A process ended, took too long, or says what went wrong."""


class Process:
    """
    A running process.

    :param module: what `python -m` runs, which calls `serve`
    :param command: goes before, such as what enters a namespace
    :param settings: its only argument, as JSON
    """

    def __init__(self, module: str, command: list[str], settings: Mapping, environment: Mapping[str, str] | None = None):
        self.name = module.rpartition('.')[2]
        # In a session of its own an interruption at the terminal reaches the one who asks, and this one by him.
        self._process = subprocess.Popen([*command, sys.executable, '-m', module, json.dumps(settings)], cwd=ROOT, stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, env={**os.environ, **(environment or {})}, start_new_session=True)
        self._unread = b''
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)

    def ask(self, command: str, timeout_s: float = 60.0, **arguments) -> dict:
        """
        What the process answers to a command.

        :raises ProcessError: it ended, does not answer in time, or could not do it
        """
        try:
            self._process.stdin.write(json.dumps({'command': command, **arguments}).encode() + b'\n')
            self._process.stdin.flush()
        except OSError:
            raise ProcessError(f'the {self.name} process has ended') from None
        until = time.monotonic() + timeout_s
        while b'\n' not in self._unread:
            if not self._selector.select(max(0.0, until - time.monotonic())):
                raise ProcessError(f'the {self.name} process did not answer {command!r} within {timeout_s:g} s')
            data = os.read(self._process.stdout.fileno(), 1 << 20)
            if not data:
                raise ProcessError(f'the {self.name} process ended at {command!r}')
            self._unread += data
        line, _, self._unread = self._unread.partition(b'\n')
        answer = json.loads(line)
        if 'error' in answer:
            raise ProcessError(f'{self.name}: {answer["error"]}')
        return answer

    def close(self) -> None:
        """End it. May be called again."""
        if self._process.poll() is None:
            try:
                self._process.stdin.close()
                self._process.wait(END_S)
            except (OSError, subprocess.TimeoutExpired):
                self._process.kill()
                self._process.wait()
        self._process.stdout.close()
        self._selector.close()


def serve(commands: Mapping[str, Callable[..., dict | None]]) -> None:
    """Answer until the one who asks is gone. What a command raises is told, and ends nothing."""
    answers = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(2, 1)       # what libraries print is no answer
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = commands[asked.pop('command')](**asked) or {}
        except Exception as error:      # noqa: BLE001 - whatever it is, the one who asks has to hear of it
            answer = {'error': f'{type(error).__name__}: {error}'}
        answers.write(json.dumps(answer) + '\n')
