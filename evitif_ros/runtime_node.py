"""What edge node and bridge node have in common: each runs one half of the pipeline while it is active, and reports on it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from rclpy.clock import Clock, ClockType

from evitif.repeated_log import RepeatedLog
from evitif.vocabulary import Task
from evitif_ros.class_names_publisher import ClassNamesPublisher
from evitif_ros.diagnostics import OK, WARN, DiagnosticsPublisher, Recent, Status
from evitif_ros.lifecycle import AutostartNode
from evitif_ros.log import log_of

if TYPE_CHECKING:
    from evitif.pipeline.runtime import Runtime

REPEAT_WARNING_S = 60.0     # between two warnings that this machine is too slow
MOST_REPLACED = 0.05        # share of the images or frames that newer ones may replace: one or two do while a link begins

Half = TypeVar('Half', bound='Runtime')


class RuntimeNode(AutostartNode, Generic[Half]):
    """A node with one half of the pipeline in it, a `Runtime`."""

    name_parameter: str     # which parameter names what /diagnostics are about

    def __init__(self, **kwargs: Any):
        self._runtime: Half | None = None
        self._running = False
        self._own_timers: list = []
        self._recent = Recent()
        super().__init__(**kwargs)
        self._values = self.values()
        self._too_slow = RepeatedLog(log_of(self), REPEAT_WARNING_S)
        self._diagnostics = DiagnosticsPublisher(self, self._values[self.name_parameter])
        for name, status in self.statuses().items():
            self._diagnostics.add(name, lambda status=status: status() if self._running else Status(OK, 'the node is not active'))
        self._diagnostics.add('model', self._model_status)

    @abstractmethod
    def build_runtime(self) -> Half:
        """Build the half from the present values. Imports PyTorch, which takes seconds, only here: bad parameters are refused before."""

    @abstractmethod
    def statuses(self) -> Mapping[str, Callable[[], Status]]:
        """Return what /diagnostics show of an active node, by name, beside its model."""

    @abstractmethod
    def periodic(self) -> Iterable[tuple[float, Callable[[], None]]]:
        """Return what an active node does periodically: seconds, and what is done."""

    def model_figures(self) -> Mapping[str, object]:
        """Return further figures for the status `model`."""
        return {}

    def configure(self) -> None:
        """Load the model, and announce what is published all the time."""
        self._values = self.values()
        self._diagnostics.hardware_id = self._values[self.name_parameter]
        self._runtime = self.build_runtime()
        self._class_names = ClassNamesPublisher(self)
        self._head_names = [(head, ClassNamesPublisher(self, f'{head.name}/'))
                            for head in self._runtime.heads if head.task == Task.CLASSIFY]

    def activate(self) -> None:
        """Start the half and the timers."""
        if self._runtime is None:  # stopped by an earlier deactivation
            self._runtime = self.build_runtime()
        self._runtime.start()
        self._running = True
        self._class_names.publish(self._runtime.labels, self._runtime.description)
        for head, names in self._head_names:
            names.publish(head.labels, f'head {head.name}, {self._runtime.description}')
        self._start_timers()

    def deactivate(self) -> None:
        """Stop the timers and the half."""
        self._stop_timers()
        if self._running and self._runtime is not None:
            self._running = False
            runtime, self._runtime = self._runtime, None
            runtime.stop()

    def cleanup(self) -> None:
        """Drop the half, and withdraw the topics."""
        self._runtime = None
        self.withdraw()

    def parameters_changed(self, values: dict[str, object]) -> str | None:
        """Take over new values; another rate restarts the timers."""
        self._values.update(values)
        if 'publish_stats_rate' in values and self._own_timers:
            self._stop_timers()
            self._start_timers()

    def _start_timers(self) -> None:
        steady = Clock(clock_type=ClockType.STEADY_TIME)        # a paused simulation must not stop them
        self._own_timers = [self.create_timer(period, action, clock=steady) for period, action in self.periodic()]

    def _stop_timers(self) -> None:
        for timer in self._own_timers:
            self.destroy_timer(timer)
        self._own_timers = []

    def _model_status(self) -> Status:
        if self._runtime is None:
            return Status(OK, 'no model is loaded')
        placement = self._runtime.placement
        figures = {'model': self._values['model'], 'device asked for': self._values['device'], 'threads': self._runtime.threads}
        return Status(WARN if placement.fallback else OK, placement.sentence, {**figures, **self.model_figures()})
