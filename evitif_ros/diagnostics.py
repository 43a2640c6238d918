"""Status messages on /diagnostics (REP-107), one DiagnosticArray a second, named as diagnostic_updater names them."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from evitif_ros import qos
from evitif_ros.parameters import USE_FQN

OK, WARN, ERROR, STALE = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE
PERIOD_S = 1.0
RECENT_S = 5.0      # a status covers this time, so that it does not flicker while a fault comes and goes


@dataclass(frozen=True)
class Status:
    """The state of one part of a node: a level, a sentence, and figures by name."""

    level: bytes
    message: str
    values: Mapping[str, object] = field(default_factory=dict)


class DiagnosticsPublisher:
    """Asks each task for its Status once a second, in every lifecycle state. `hardware_id` names what is diagnosed.

    The node declares USE_FQN. There is no wheel of diagnostic_updater itself.
    """

    def __init__(self, node: Node, hardware_id: str):
        self._node = node
        self.hardware_id = hardware_id
        self._tasks: list[tuple[str, Callable[[], Status]]] = []
        self._publisher = node.create_publisher(
            DiagnosticArray, '/diagnostics', **qos.overridable(node, qos.PUBLISHER, '/diagnostics', qos.DIAGNOSTICS))
        # Steady: a paused simulation must not silence the diagnostics.
        self._timer = node.create_timer(PERIOD_S, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def add(self, name: str, task: Callable[[], Status]) -> None:
        """Publish what `task` returns as the status `name`."""
        self._tasks.append((name, task))

    def publish(self) -> None:
        """Publish the present status now."""
        array = DiagnosticArray()
        array.header.stamp = self._node.get_clock().now().to_msg()
        in_full = self._node.get_parameter(USE_FQN.name).value
        node = self._node.get_fully_qualified_name() if in_full else self._node.get_name()
        array.status = [self._message(f'{node}: {name}', task()) for name, task in self._tasks]
        self._publisher.publish(array)

    def _message(self, name: str, status: Status) -> DiagnosticStatus:
        return DiagnosticStatus(
            level=status.level, name=name, message=status.message, hardware_id=self.hardware_id,
            values=[KeyValue(key=key, value=_text(value)) for key, value in status.values.items()])


def _text(value: object) -> str:
    """As text; NaN means not measured yet."""
    if isinstance(value, float):
        return 'unknown' if math.isnan(value) else f'{value:.4g}'
    return str(value)


class Recent:
    """By how much counters have grown over the last RECENT_S, or since the first call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._samples: deque[tuple[float, Mapping[str, int]]] = deque()
        self.seconds = 0.0      # that the last figures cover

    def __call__(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Take the present counts; return the growth of each."""
        now = self._clock()
        if self._samples and any(counts[name] < count for name, count in self._samples[-1][1].items()):
            self._samples.clear()       # the counters began anew
        self._samples.append((now, dict(counts)))
        while len(self._samples) > 2 and now - self._samples[1][0] >= RECENT_S:
            self._samples.popleft()
        began, first = self._samples[0]
        self.seconds = now - began
        return {name: count - first[name] for name, count in counts.items()}
