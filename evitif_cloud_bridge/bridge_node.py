"""The bridge node: tokens in over UDP from any number of robots, answers back, predictions out on topics per robot."""

from __future__ import annotations

from evitif_ros.program_start import begin_program

begin_program(__name__)

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from rclpy.clock import Clock, ClockType

from evitif.protocol.events import RobotConnected, RobotLost, RobotRefused, StampRefused
from evitif.protocol.wire.link_names import group_of
from evitif.repeated_log import RepeatedLog
from evitif.transport.addresses import format_address
from evitif_cloud_bridge.parameters import BRIDGE_PARAMETERS, bridge_runtime_settings
from evitif_cloud_bridge.robot_names import topic_token
from evitif_msgs.msg import LinkStats, Prediction
from evitif_ros import messages, qos
from evitif_ros.class_names_publisher import ClassNamesPublisher
from evitif_ros.diagnostics import ERROR, OK, RECENT_S, WARN, DiagnosticsPublisher, Recent, Status
from evitif_ros.lifecycle import AutostartNode, run
from evitif_ros.log import log_of

if TYPE_CHECKING:
    from evitif.pipeline import BridgeRuntime

HOUSEKEEPING_S = 0.5
REFUSED_SHOWN_S = 60.0      # on /diagnostics; the protocol tells of a refusal once, however often the robot asks
REPEAT_WARNING_S = 60.0     # between log messages about a tail that is too slow
MOST_REPLACED = 0.05        # share of the frames that may be
MOST_REFUSED = 16           # refused robots remembered; names come from the network, so there must be a limit


@dataclass
class _Robot:
    """A robot's topics and the state of its link."""

    name: str
    token: str
    predictions: object
    link_stats: object
    classifications: object | None
    peer: str = ''
    session_id: int = 0
    sessions: set[int] = field(default_factory=set)
    reason: str = ''
    lost_at: float = 0.0        # seconds, monotonic; meaningful without a session
    answered: int = 0
    last_link: object | None = None

    @property
    def connected(self) -> bool:
        return bool(self.sessions)

    def publishers(self) -> list:
        return [entry for entry in (self.predictions, self.link_stats, self.classifications) if entry is not None]


class BridgeNode(AutostartNode):
    default_name = 'bridge_node'
    table = BRIDGE_PARAMETERS

    def __init__(self, **kwargs):
        self._runtime: BridgeRuntime | None = None
        self._running = False
        self._timers_owned = []
        self._robots: dict[str, _Robot] = {}
        self._robots_lock = threading.RLock()  # the runtime's threads add robots, the executor's removes them
        self._refused: dict[str, tuple[str, float]] = {}
        self._recent = Recent()
        super().__init__(**kwargs)
        self._values = self.values()
        self._too_slow = RepeatedLog(log_of(self), REPEAT_WARNING_S)
        self._diagnostics = DiagnosticsPublisher(self, self._values['bridge_name'])
        for name, task in (('robots', self._robot_status), ('frames', self._frame_status),
                           ('model', self._model_status)):
            self._diagnostics.add(name, task)

    def publishes(self) -> tuple[str, ...]:
        return ('*/prediction', '*/classification', '*/link_stats', 'labels', 'label_info', 'vision_info', '/diagnostics')

    # Transitions.

    def configure(self) -> None:
        self._values = self.values()
        self._diagnostics.hardware_id = self._values['bridge_name']
        self._runtime = self._build_runtime()
        self._class_names = ClassNamesPublisher(self)

    def activate(self) -> None:
        if self._runtime is None:  # stopped by an earlier deactivation
            self._runtime = self._build_runtime()
        self._runtime.start()
        self._running = True
        self._class_names.publish(self._runtime.labels, self._runtime.description)
        self._start_timers()

    def deactivate(self) -> None:
        self._stop_timers()
        if self._running:
            self._running = False
            runtime, self._runtime = self._runtime, None
            runtime.stop()
        for robot in list(self._robots.values()):
            self._remove(robot)

    def cleanup(self) -> None:
        self._runtime = None
        self.withdraw()

    def parameters_changed(self, values: dict[str, object]) -> str | None:
        self._values.update(values)
        if 'publish_stats_rate' in values and self._running:
            self._stop_timers()
            self._start_timers()

    def _build_runtime(self) -> BridgeRuntime:
        from evitif.pipeline import BridgeRuntime  # imports PyTorch, seconds; a bad parameter is refused before
        return BridgeRuntime(bridge_runtime_settings(self._values), on_prediction=self._on_prediction,
                             on_event=self._on_event, log=log_of(self))

    def _start_timers(self) -> None:
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timers_owned = [
            self.create_timer(1.0 / self._values['publish_stats_rate'], self._publish_stats, clock=steady),
            self.create_timer(HOUSEKEEPING_S, self._remove_gone_robots, clock=steady)]

    def _stop_timers(self) -> None:
        for timer in self._timers_owned:
            self.destroy_timer(timer)
        self._timers_owned = []

    # Robots and their topics.

    def _on_event(self, event: object) -> None:
        if not self.context.ok():
            return
        if isinstance(event, RobotConnected):
            with self._robots_lock:
                for name in self._names(event):
                    robot = self._robot(name)
                    robot.sessions.add(event.session_id)
                    robot.session_id, robot.peer, robot.reason = event.session_id, format_address(event.address), ''
                self._refused.pop(event.robot, None)
        elif isinstance(event, RobotLost):
            with self._robots_lock:
                for robot in [self._robots[name] for name in self._names(event) if name in self._robots]:
                    robot.sessions.discard(event.session_id)
                    robot.reason, robot.lost_at = event.reason, time.monotonic()
        elif isinstance(event, RobotRefused):
            self._note_refusal(event.robot, f'{event.robot} at {format_address(event.address)}: {event.reason}')
        elif isinstance(event, StampRefused):
            self._note_refusal(f'frames of {event.robot}, {event.device}', f'frames of {event.robot}, {event.reason}')

    def _note_refusal(self, whose: str, text: str) -> None:
        """Keep it for /diagnostics."""
        with self._robots_lock:
            self._refused.pop(whose, None)
            self._refused[whose] = text, time.monotonic()
            while len(self._refused) > MOST_REFUSED:
                self._refused.pop(next(iter(self._refused)))

    @staticmethod
    def _names(event: RobotConnected | RobotLost) -> set[str]:
        """Under which names a session is shown: a device has its own link, and its robot's predictions are those of all devices."""
        return {event.robot, group_of(event.robot, event.device)}

    def _robot(self, name: str) -> _Robot:
        """The robot's topics, created when it is seen first. To be called with the lock."""
        robot = self._robots.get(name)
        if robot is None:
            self._make_room()
            token = topic_token(name, {other.token for other in self._robots.values()})
            robot = self._robots[name] = _Robot(
                name, token, self._advertise(Prediction, f'{token}/prediction'), self._advertise(LinkStats, f'{token}/link_stats'),
                None if messages.Classification is None else self._advertise(messages.Classification, f'{token}/classification'))
            self.get_logger().info(f'publishing robot {name} on {robot.predictions.topic_name}')
        return robot

    def _advertise(self, kind, topic: str):
        return self.create_publisher(kind, topic, **qos.overridable(self, qos.PUBLISHER, topic, qos.RESULTS))

    def _make_room(self) -> None:
        """Twice as many robots as are served at once keep their topics; then those gone longest lose theirs."""
        gone = [robot for robot in self._robots.values() if not robot.connected]
        gone.sort(key=lambda robot: robot.lost_at)
        excess = len(self._robots) + 1 - 2 * self._values['max_robots']
        for robot in gone[:max(excess, 0)]:
            self._remove(robot)

    def _remove_gone_robots(self) -> None:
        now = time.monotonic()
        with self._robots_lock:
            for robot in list(self._robots.values()):
                if not robot.connected and now - robot.lost_at >= self._values['keep_topics']:
                    self._remove(robot)
            for name in [name for name, (_, at) in self._refused.items() if now - at >= REFUSED_SHOWN_S]:
                del self._refused[name]

    def _remove(self, robot: _Robot) -> None:
        with self._robots_lock:
            self._robots.pop(robot.name, None)
            for publisher in robot.publishers():
                self.destroy_publisher(publisher)

    # Messages out.

    def _on_prediction(self, name: str, prediction) -> None:
        """In the runtime's worker thread."""
        if not self.context.ok():
            return
        header = messages.source_header(prediction)
        with self._robots_lock:
            robot = self._robot(name)
            robot.answered += 1
            robot.predictions.publish(messages.prediction_message(prediction, header, name))
            if robot.classifications is not None:
                robot.classifications.publish(messages.classification_message(prediction, header))

    def _publish_stats(self) -> None:
        statistics = self._runtime.statistics()
        stamp = self.get_clock().now().to_msg()
        with self._robots_lock:
            for robot in self._robots.values():
                robot.last_link = statistics.links.get(robot.name, robot.last_link)  # a lost robot's counters stay where they were
                session_id = robot.session_id if robot.connected else 0
                robot.link_stats.publish(messages.bridge_link_message(
                    robot.last_link, robot.connected, robot.name, robot.peer, session_id, robot.reason,
                    statistics.device, robot.answered, stamp))

    # Diagnostics, in every state.

    def _robot_status(self) -> Status:
        if not self._running:
            return Status(OK, 'the node is not active')
        with self._robots_lock:
            refused = [text for text, _ in self._refused.values()]
            lost = [robot for robot in self._robots.values() if not robot.connected]
            values = {robot.name: f'connected from {robot.peer}' if robot.connected else f'gone: {robot.reason}'
                      for robot in self._robots.values()}
        connected = len(values) - len(lost)
        if refused:
            return Status(ERROR, 'refused ' + '; '.join(refused), values)
        text = f'{connected} robot{"" if connected == 1 else "s"} connected'
        if lost:
            return Status(WARN, text + '; gone: ' + ', '.join(robot.name for robot in lost), values)
        return Status(OK, text, values)

    def _frame_status(self) -> Status:
        if not self._running:
            return Status(OK, 'the node is not active')
        now = self._runtime.statistics()
        recent = self._recent({'ready': now.frames_ready, 'answered': now.frames_answered, 'replaced': now.frames_replaced,
                               'failed': now.frames_failed})
        values = {'ready': now.frames_ready, 'answered': now.frames_answered, 'replaced': now.frames_replaced,
                  'failed': now.frames_failed,
                  **{f'of devices: {kind}': count for kind, count in now.joined.items()},
                  **{f'datagrams dropped: {kind}': count for kind, count in now.dropped.items()}}
        if recent['failed']:
            return Status(ERROR, f'{recent["failed"]} frames failed in the last {RECENT_S:.0f} s, {recent["answered"]} answered', values)
        if recent['replaced'] > MOST_REPLACED * recent['ready']:
            from evitif.pipeline.threads import capacity
            text = (f'{recent["replaced"]} of {recent["ready"]} frames replaced by newer ones in the last {RECENT_S:.0f} s: the tail is '
                    f'too slow ({capacity()})')
            self._too_slow(logging.WARNING, text, 'replaced')
            return Status(WARN, f'{text}; {recent["answered"]} answered', values)
        return Status(OK, f'{recent["answered"]} frames answered in the last {RECENT_S:.0f} s', values)

    def _model_status(self) -> Status:
        if self._runtime is None:
            return Status(OK, 'no model is loaded')
        asked, placement = self._values['device'], self._runtime.placement
        values = {'model': self._values['model'], 'device asked for': asked, 'threads': self._runtime.threads}
        if self._running:
            values['recovery'] = self._runtime.statistics().recovery
        return Status(WARN if placement.fallback else OK, placement.sentence, values)


def main(arguments: list[str] | None = None) -> NoReturn:
    run(BridgeNode, arguments)


if __name__ == '__main__':
    main()
