"""How a launch ends if something is wrong: with a sentence and a non-zero exit code, and with nothing left running.

If an action raises, launch forgets the processes that it has started, and they go on as orphans. If an event handler raises, launch
shuts everything down and ends with exit code 1. So an error is made into an event here.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterable

from launch import Action, Event, EventHandler, LaunchContext
from launch.actions import EmitEvent, OpaqueFunction, RegisterEventHandler, TimerAction
from launch.event_handlers import OnProcessExit, OnProcessIO, OnShutdown
from launch.events.process import ProcessExited, ProcessIO

from evitif_ros.lifecycle import EXIT_BAD_PARAMETER

# A node says this about a wrong value or a missing file (lifecycle.py). For what may pass, like a port in use, it cannot `activate`.
_NOT_CONFIGURED = 'cannot configure: '
_KEPT_BYTES = 4000
_LAST_OUTPUT_S = 0.3    # launch may hear of a process's end before its last output


class _Failure(Event):
    name = 'evitif.failure'


def end_launch(sentence: str) -> list[Action]:
    """Shut down everything, whoever started it; `ros2 launch` then ends with this sentence and exit code 1."""
    failure = _Failure()
    return [RegisterEventHandler(EventHandler(matcher=lambda event: event is failure, entities=OpaqueFunction(function=_raise(sentence)))),
            EmitEvent(event=failure)]


def checked(function: Callable[[LaunchContext], Iterable[Action]]) -> OpaqueFunction:
    """Run the actions that `function` returns. If it raises ValueError, none runs, and the launch ends with the sentence."""
    def guarded(context: LaunchContext) -> list[Action]:
        try:
            return list(function(context))
        except ValueError as error:
            if context.asyncio_loop is None:    # no launch service that would handle the event
                raise
            return end_launch(str(error))
    return OpaqueFunction(function=guarded)


def with_ending(node: Action, name: str, respawn: bool) -> list[Action]:
    """Run a node, and let the launch fail if it fails.

    A node that gives up (a positive exit code) ends the launch. With `respawn` it starts again instead, unless its configuration is wrong,
    which no restart repairs. After a crash (a signal) the other nodes go on; if there are none, the launch's exit code is not 0.
    """
    heard = bytearray()

    def hear(event: ProcessIO) -> None:
        heard.extend(event.text)
        del heard[:-_KEPT_BYTES]

    def ended(event: ProcessExited, context: LaunchContext) -> list[Action] | None:
        code = event.returncode
        if code == 0 or context.is_shutdown:
            return None
        if code > 0:
            return [TimerAction(period=_LAST_OUTPUT_S, actions=[OpaqueFunction(function=lambda context: judge(code))])]
        if respawn:
            return None
        # If nothing else runs, launch would end with exit code 0.
        sentence = f'{name} was ended by {_signal_name(-code)}'
        return [RegisterEventHandler(OnShutdown(
            on_shutdown=lambda event, context: end_launch(sentence) if event.reason == 'idle' else None))]

    def judge(code: int) -> list[Action] | None:
        output = heard.decode(errors='replace')
        heard.clear()
        if respawn and code != EXIT_BAD_PARAMETER and _NOT_CONFIGURED not in output:
            return None
        return end_launch(f'{name} ended with exit code {code}: {_last_error(output)}')
    return [RegisterEventHandler(OnProcessIO(target_action=node, on_stderr=hear)),
            RegisterEventHandler(OnProcessExit(target_action=node, on_exit=ended)), node]


def _raise(sentence: str) -> Callable[[LaunchContext], None]:
    def fail(context: LaunchContext) -> None:
        raise RuntimeError(sentence)
    return fail


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f'signal {number}'


def _last_error(output: str) -> str:
    """The last error that a node logged, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r'\[(ERROR|FATAL)\]', line)]
    last = (errors or lines or ['see its log'])[-1]
    return re.sub(r'^(\[[^\]]*\] )*(\[[^\]]*\]: )?', '', last)
