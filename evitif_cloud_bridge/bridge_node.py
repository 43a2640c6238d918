"""The bridge node: tokens in over UDP from any number of robots, answers back, predictions out on topics per robot."""

from __future__ import annotations

from evitif_ros.program_start import begin_program

begin_program(__name__)

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from evitif.bounded import BoundedDict
from evitif.protocol.events import RobotConnected, RobotLost, RobotMoved, RobotRefused, StampRefused
from evitif.protocol.wire.link_names import group_of
from evitif.transport.addresses import format_address
from evitif_cloud_bridge.parameters import BRIDGE_PARAMETERS, bridge_runtime_settings
from evitif_cloud_bridge.robot_names import topic_token
from evitif_msgs.msg import LinkStats, Prediction
from evitif_ros import messages, qos
from evitif_ros.diagnostics import ERROR, OK, RECENT_S, WARN, Status
from evitif_ros.head_topics import OF_CLASSES, OF_LABELS, OF_VECTORS, HeadTopics
from evitif_ros.lifecycle import run
from evitif_ros.log import log_of
from evitif_ros.place_topics import OF_PLACES, PLACE_TASKS, PlaceTopics
from evitif_ros.runtime_node import MOST_REPLACED, RuntimeNode

if TYPE_CHECKING:
    from rclpy.publisher import Publisher
    from rclpy.qos import QoSProfile

    from evitif.heads.artifact import HeadDescription
    from evitif.pipeline import BridgeRuntime
    from evitif.pipeline.prediction import Prediction as Answered
    from evitif.protocol.rate.statistics import LinkStatistics

HOUSEKEEPING_S = 0.5
REFUSED_SHOWN_S = 60.0      # on /diagnostics; the protocol reports a refusal once, however often the robot asks
MOST_REFUSED = 16           # refused robots remembered; names come from the network, so there must be a limit


@dataclass
class _Robot:
    """A robot's topics and the state of its link."""

    name: str
    token: str
    predictions: Publisher
    link_stats: Publisher
    classifications: Publisher | None
    heads: dict[str, HeadTopics | PlaceTopics] = field(default_factory=dict)
    peer: str = ''
    session_id: int = 0
    sessions: set[int] = field(default_factory=set)
    reason: str = ''
    lost_at: float = 0.0        # seconds, monotonic; meaningful without a session
    answered: int = 0
    last_link: LinkStatistics | None = None

    @property
    def connected(self) -> bool:
        """Whether it, or one of its devices, has a session."""
        return bool(self.sessions)

    def publishers(self) -> list[Publisher]:
        """All of its publishers."""
        own = [entry for entry in (self.predictions, self.link_stats, self.classifications) if entry is not None]
        return own + [publisher for topics in self.heads.values() for publisher in topics.publishers()]


class BridgeNode(RuntimeNode['BridgeRuntime']):
    """The off-board half of the pipeline as a lifecycle node; see docs/nodes.md."""

    default_name = 'bridge_node'
    table = BRIDGE_PARAMETERS
    name_parameter = 'bridge_name'

    def __init__(self, **kwargs: Any):
        self._robots: dict[str, _Robot] = {}
        self._robots_lock = threading.RLock()  # the runtime's threads add robots, the executor's removes them
        self._refused: BoundedDict[str, tuple[str, float]] = BoundedDict(MOST_REFUSED)
        super().__init__(**kwargs)

    def publishes(self) -> tuple[str, ...]:
        return ('*/prediction', '*/classification', '*/link_stats', 'labels', 'label_info', 'vision_info', '/diagnostics',
                *(f'*/{topic}' for topic in (*OF_CLASSES, *OF_VECTORS, *OF_PLACES)), *OF_LABELS)

    # Transitions.

    def build_runtime(self) -> BridgeRuntime:
        from evitif.pipeline import BridgeRuntime
        return BridgeRuntime(bridge_runtime_settings(self._values), on_prediction=self._on_prediction,
                             on_event=self._on_event, log=log_of(self), heads_read=self._heads_read)

    def deactivate(self) -> None:
        super().deactivate()
        for robot in list(self._robots.values()):
            self._remove(robot)

    def periodic(self) -> Iterable[tuple[float, Callable[[], None]]]:
        return [(1.0 / self._values['publish_stats_rate'], self._publish_stats), (HOUSEKEEPING_S, self._remove_gone_robots)]

    def _heads_read(self, name: str) -> list[str]:
        """The heads whose topics of a robot somebody subscribes to. In the runtime's worker thread."""
        with self._robots_lock:
            robot = self._robots.get(name)
            return [] if robot is None else [head for head, topics in robot.heads.items() if topics.read()]

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
        elif isinstance(event, RobotMoved):
            with self._robots_lock:
                for name in self._names(event) & self._robots.keys():
                    self._robots[name].peer = format_address(event.address)
        elif isinstance(event, RobotLost):
            with self._robots_lock:
                for robot in [self._robots[name] for name in self._names(event) if name in self._robots]:
                    robot.sessions.discard(event.session_id)
                    robot.reason, robot.lost_at = event.reason, time.monotonic()
        elif isinstance(event, RobotRefused):
            self._remember_refusal(event.robot, f'{event.robot} at {format_address(event.address)}: {event.reason}')
        elif isinstance(event, StampRefused):
            self._remember_refusal(f'frames of {event.robot}, {event.device}', f'frames of {event.robot}, {event.reason}')

    def _remember_refusal(self, whose: str, text: str) -> None:
        """Keep a refusal for /diagnostics."""
        with self._robots_lock:
            self._refused[whose] = text, time.monotonic()

    @staticmethod
    def _names(event: RobotConnected | RobotMoved | RobotLost) -> set[str]:
        """The names that a session has topics under: a device has its own link, and its robot the predictions of all devices."""
        return {event.robot, group_of(event.robot, event.device)}

    def _robot(self, name: str) -> _Robot:
        """The robot's topics, created when it first appears. Call it with the lock."""
        robot = self._robots.get(name)
        if robot is None:
            self._make_room()
            token = topic_token(name, {other.token for other in self._robots.values()})
            robot = self._robots[name] = _Robot(
                name, token, self._advertise(Prediction, f'{token}/prediction'), self._advertise(LinkStats, f'{token}/link_stats'),
                None if messages.Classification is None else self._advertise(messages.Classification, f'{token}/classification'),
                {head.name: self._head_topics(head, f'{token}/') for head in self._runtime.heads})
            self.get_logger().info(f'publishing robot {name} on {robot.predictions.topic_name}')
        return robot

    def _head_topics(self, head: HeadDescription, prefix: str) -> HeadTopics | PlaceTopics:
        if head.task not in PLACE_TASKS:
            return HeadTopics(head, self._advertise, prefix)
        topics = PlaceTopics(head, self._advertise, prefix)
        topics.publish_labels(self.get_clock().now().to_msg())
        return topics

    def _advertise(self, kind: type, topic: str, profile: QoSProfile = qos.RESULTS) -> Publisher:
        return self.create_publisher(kind, topic, **qos.overridable(self, qos.PUBLISHER, topic, profile))

    def _make_room(self) -> None:
        """At most twice `max_robots` keep their topics; those gone longest lose theirs first."""
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

    def _on_prediction(self, name: str, prediction: Answered) -> None:
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
            for head, result in prediction.heads.items():
                robot.heads[head].publish(result, prediction, header, name)

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

    # Diagnostics of an active node.

    def statuses(self) -> Mapping[str, Callable[[], Status]]:
        return {'robots': self._robot_status, 'frames': self._frame_status}

    def model_figures(self) -> Mapping[str, object]:
        return {'recovery': self._runtime.statistics().recovery} if self._running else {}

    def _robot_status(self) -> Status:
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
        now = self._runtime.statistics()
        counts = {'ready': now.frames_ready, 'answered': now.frames_answered, 'replaced': now.frames_replaced, 'failed': now.frames_failed,
                  'left out': sum(now.heads_left_out.values())}
        recent = self._recent(counts)
        values = {**counts, **{f'left out: head {head}': count for head, count in now.heads_left_out.items()},
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
        if recent['left out']:
            return Status(WARN, f'what these heads say had no room on the way to the robot in the last {RECENT_S:.0f} s: '
                                f'{", ".join(now.heads_left_out)}; {recent["answered"]} frames answered', values)
        return Status(OK, f'{recent["answered"]} frames answered in the last {RECENT_S:.0f} s', values)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the node; see `evitif_ros.lifecycle.run`."""
    run(BridgeNode, arguments)


if __name__ == '__main__':
    main()
