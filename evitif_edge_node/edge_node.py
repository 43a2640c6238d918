"""The edge node: images in from a topic, tokens out to the bridge over UDP, answers in, predictions out on topics."""

from __future__ import annotations

from evitif_ros.program_start import begin_program

begin_program(__name__)

import dataclasses
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from sensor_msgs.msg import Image

from evitif.datasets.class_names import told_apart
from evitif.image_transports import TRANSPORTS
from evitif.mask_colours import overlaid
from evitif.pictures import SignificantBits
from evitif.pictures.ros_images import ImageConversionError, fill_image
from evitif.repeated_log import RepeatedLog
from evitif.vocabulary import How, LinkState, Task
from evitif_edge_node.annotation import annotate
from evitif_edge_node.camera_info import CameraInfos
from evitif_edge_node.fonts import remark_on
from evitif_edge_node.image_topics import Packets, Pictures, message_type, reader_of
from evitif_edge_node.image_watch import ImageWatch
from evitif_edge_node.parameters import EDGE_PARAMETERS, edge_runtime_settings
from evitif_msgs.msg import LinkStats, Prediction
from evitif_ros import messages, qos
from evitif_ros.diagnostics import ERROR, OK, RECENT_S, WARN, Status
from evitif_ros.head_topics import OF_CLASSES, OF_LABELS, OF_VECTORS, HeadTopics
from evitif_ros.lifecycle import run
from evitif_ros.log import log_of
from evitif_ros.place_topics import OF_PLACES, PLACE_TASKS, PlaceTopics
from evitif_ros.runtime_node import MOST_REPLACED, RuntimeNode

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:     # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

if TYPE_CHECKING:
    from evitif.pipeline import EdgeRuntime
    from evitif.pipeline.arriving_maps import PlaceAnswer
    from evitif.pipeline.prediction import Prediction as Answered


READERS_S = 0.2     # between two looks at who reads what heads say


class EdgeNode(RuntimeNode['EdgeRuntime']):
    """The robot's half of the pipeline as a lifecycle node; see docs/nodes.md."""

    default_name = 'edge_node'
    table = EDGE_PARAMETERS
    publishes_images = True
    name_parameter = 'robot_name'

    def __init__(self, **kwargs: Any):
        self._watch: ImageWatch | None = None
        self._significant = SignificantBits()
        self._subscription = self._annotator = self._camera_infos = None
        self._shown: Answered | None = None      # the last that is drawn once its mask has come
        self._reader: Pictures | Packets = reader_of('raw')
        super().__init__(**kwargs)
        self._repeated = RepeatedLog(log_of(self))

    def publishes(self) -> tuple[str, ...]:
        return ('prediction', 'classification', 'link_stats', 'labels', 'label_info', 'vision_info', '~/annotated_image', '/diagnostics',
                *OF_CLASSES, *OF_VECTORS, *OF_LABELS, *OF_PLACES)

    def subscribes(self) -> tuple[str, ...]:
        return (self._image_topic(),)

    # Transitions.

    def build_runtime(self) -> EdgeRuntime:
        from evitif.pipeline import EdgeRuntime
        return EdgeRuntime(edge_runtime_settings(self._values), on_prediction=self._on_prediction, log=log_of(self), on_map=self._on_map)

    def configure(self) -> None:
        transport = self.values()['image_transport']
        self._image_type, self._reader = message_type(transport), reader_of(transport)
        super().configure()
        self._predictions = self.advertise(Prediction, 'prediction', qos.RESULTS)
        self._link_stats = self.advertise(LinkStats, 'link_stats', qos.RESULTS)
        self._labels_shown = told_apart(self._runtime.labels)
        self._classifications = None if messages.Classification is None else \
            self.advertise(messages.Classification, 'classification', qos.RESULTS)
        self._annotated = self.advertise(Image, '~/annotated_image', qos.IMAGES, shown=True)
        self._heads = {head.name: HeadTopics(head, lambda kind, topic: self.advertise(kind, topic, qos.RESULTS))
                       for head in self._runtime.heads if head.task not in PLACE_TASKS}
        self._places = {head.name: PlaceTopics(head, self.advertise) for head in self._runtime.heads if head.task in PLACE_TASKS}
        self._shows_masks = any(each.about.task == Task.SEGMENT for each in self._places.values())
        self._camera_infos = CameraInfos(self) if any(each.about.task == Task.DEPTH for each in self._places.values()) else None

    def activate(self) -> None:
        super().activate()
        self._annotator = _Annotator(self._publish_annotated, self._runtime.labels, self.get_logger().warning)
        for places in self._places.values():
            places.publish_labels(self.get_clock().now().to_msg())
        self._significant = SignificantBits(self._values['significant_bits'], lambda text: self.get_logger().info(f'images: {text}'))
        self._subscribe()

    def deactivate(self) -> None:
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = self._watch = None
        super().deactivate()
        if self._annotator is not None:
            self._annotator.stop()
            self._annotator = None

    def periodic(self) -> Iterable[tuple[float, Callable[[], None]]]:
        return [(1.0 / self._values['publish_stats_rate'], self._publish_stats),
                *([(READERS_S, self._look_for_readers)] if self._heads or self._places else [])]

    def _image_topic(self) -> str:
        # As image_transport has it, a remapped base carries its transports.
        return self.resolve_topic_name('image') + TRANSPORTS[self.values()['image_transport']].suffix

    def _subscribe(self) -> None:
        topic, transport = self._image_topic(), self._values['image_transport']
        self._subscription = self.create_subscription(
            self._image_type, topic, self._on_image, event_callbacks=SubscriptionEventCallbacks(message_lost=self._on_lost),
            **qos.overridable(self, qos.SUBSCRIPTION, topic, self._reader.profile, shown=True))
        self._watch = ImageWatch(self, self._subscription, transport)

    # Images in.

    def _on_lost(self, event: Any) -> None:
        self._reader.lost()
        if self._watch is not None:
            self._watch.lost(event)

    def _on_image(self, message: Any) -> None:
        if not self._running:
            return
        self._watch.image(message)
        try:
            images = self._reader.pixels(message, self._significant)
        except ImageConversionError as error:
            self._watch.refused(str(error))
            self._repeated(logging.ERROR, str(error), 'image')
            return
        self._watch.waiting(self._reader.waiting)
        for image, header in images:
            self._runtime.submit(image, header.stamp.sec * 1_000_000_000 + header.stamp.nanosec, header.frame_id, header)

    # Predictions out, in the runtime's threads.

    def _on_prediction(self, prediction: Answered) -> None:
        if not self.context.ok():
            return
        header = prediction.context
        self._predictions.publish(messages.prediction_message(prediction, header, self._values['robot_name']))
        if self._classifications is not None:
            self._classifications.publish(messages.classification_message(prediction, header))
        for name, result in prediction.heads.items():
            self._heads[name].publish(result, prediction, header, self._values['robot_name'])
        annotator = self._annotator
        if annotator is not None and self._annotated.get_subscription_count():
            waits = self._shows_masks and prediction.how == How.OFF_BOARD
            before, self._shown = self._shown, prediction if waits else None
            if not waits:
                annotator.draw_later(prediction)
            elif before is not None:        # its mask has not come
                annotator.draw_later(before)

    def _on_map(self, answer: PlaceAnswer) -> None:
        if not self.context.ok():
            return
        (values, confidence), header = answer.at_image(), answer.frame.context
        topics, infos = self._places[answer.head.name], self._camera_infos
        topics.publish_map(answer.result, values, confidence, header, infos.of(values.shape) if infos else None)
        shown, annotator = self._shown, self._annotator
        if topics.about.task == Task.SEGMENT and annotator is not None and shown is not None and shown.frame_id == answer.frame.frame_id:
            self._shown = None
            annotator.draw_later(dataclasses.replace(shown, image=overlaid(shown.image, values, confidence)))

    def _publish_annotated(self, prediction: Answered) -> None:
        if self.context.ok() and self._annotated.get_subscription_count():
            labels = [self._labels_shown[class_id] if class_id >= 0 else label
                      for class_id, label in zip(prediction.class_ids, prediction.labels, strict=True)]
            drawn = annotate(prediction.image, dataclasses.replace(prediction, labels=labels), self._values['annotated_height'])
            self._annotated.publish(fill_image(Image(header=prediction.context), drawn))

    def _look_for_readers(self) -> None:
        """What a head says that nobody reads is neither computed nor sent."""
        shown = bool(self._annotated.get_subscription_count())
        self._runtime.read_heads([name for name, topics in (*self._heads.items(), *self._places.items())
                                  if topics.read() or shown and topics.about.task == Task.SEGMENT])

    def _publish_stats(self) -> None:
        self._link_stats.publish(messages.edge_link_message(
            self._runtime.statistics(), self._values['robot_name'], self._peer(), self.get_clock().now().to_msg()))

    # Diagnostics of an active node.

    def statuses(self) -> Mapping[str, Callable[[], Status]]:
        return {'images': self._image_status, 'link': self._link_status, 'frames': self._frame_status}

    def _peer(self) -> str:
        return f'{self._values["bridge_host"]}:{self._values["bridge_port"]}'

    def _image_status(self) -> Status:
        return self._watch.status(self._values['image_timeout'], self._significant)

    def _link_status(self) -> Status:
        statistics = self._runtime.statistics()
        link = statistics.link
        values = {'bridge': self._peer(), 'state': statistics.state,
                  'uplink packet error rate': link.remote_packet_error_rate,
                  'downlink packet error rate': link.packet_error_rate, 'round trip (s)': link.round_trip_s,
                  'sending': statistics.uplink.state, 'allowed rate (Mbit/s)': statistics.uplink.allowed_bit_s / 1e6,
                  'used rate (Mbit/s)': statistics.uplink.used_bit_s / 1e6, 'queueing delay (s)': statistics.uplink.queueing_delay_s,
                  'datagram size (bytes)': statistics.uplink.datagram_bytes,
                  **({'ECN': statistics.ecn} if statistics.ecn else {}),
                  'quantisation': statistics.quantisation, 'patch copies': statistics.patch_copies,
                  'share of the patches sent': statistics.share_sent,
                  'datagrams sent': link.datagrams_sent, 'datagrams received': link.datagrams_received,
                  **{f'dropped: {kind}': count for kind, count in link.dropped.items()}}
        if statistics.state == LinkState.CONNECTED:
            again = f' again, after {statistics.last_loss}' if statistics.since_loss_s < RECENT_S else ''
            if statistics.path:
                return Status(WARN, f'connected to {self._peer()}{again}, but {statistics.path}', values)
            return Status(OK, f'connected to {self._peer()}{again}', values)
        if statistics.state == LinkState.REFUSED:
            return Status(ERROR, f'refused by the bridge at {self._peer()}: {statistics.reason}', values)
        if statistics.state == LinkState.LOST:
            return Status(ERROR, f'link to {self._peer()} lost: {statistics.reason}', values)
        why = f': {statistics.reason}' if statistics.reason else ''
        return Status(WARN, f'no answer from a bridge at {self._peer()} yet{why}', values)

    def _frame_status(self) -> Status:
        statistics = self._runtime.statistics()
        counts = {name.removeprefix('frames_'): count for name, count in vars(statistics).items() if name.startswith('frames_')}
        recent = self._recent(counts)
        values = {name.replace('_', ' '): count for name, count in counts.items()}
        wrong = [f'{recent[name]} {name}' for name in ('expired', 'unsent', 'failed') if recent[name]]
        if recent['replaced'] > MOST_REPLACED * recent['received']:
            from evitif.pipeline.threads import capacity
            wrong.append(f'{recent["replaced"]} of {recent["received"]} images replaced by newer ones, since each takes longer than the '
                         f'time between two ({capacity()})')
            self._too_slow(logging.WARNING, f'in the last {RECENT_S:.0f} s {wrong[-1]}; a lower rate of the camera or max_rate, or fewer '
                                            'programs beside this one, would help', 'replaced')
        if statistics.stamps:
            return Status(ERROR, statistics.stamps, values)
        if wrong:
            return Status(WARN, f'in the last {RECENT_S:.0f} s: {", ".join(wrong)}, {recent["answered"]} answered', values)
        return Status(OK, f'{recent["answered"]} frames answered in the last {RECENT_S:.0f} s', values)


class _Annotator:
    """Draws the newest prediction in a thread of its own, so that drawing never delays an answer."""

    def __init__(self, draw: Callable[[Answered], None], labels: tuple[str, ...], warn: Callable[[str], object]):
        from evitif.pipeline.slot import LatestSlots
        self._draw, self._labels, self._warn, self._slots = draw, labels, warn, LatestSlots()
        self._thread = threading.Thread(target=self._work, name='evitif-annotate', daemon=True)
        self._thread.start()

    def draw_later(self, prediction: Answered) -> None:
        """Draw it next, in the place of one that waits."""
        self._slots.put('prediction', prediction)

    def stop(self) -> None:
        """End the thread."""
        self._slots.close()
        self._thread.join()

    def _work(self) -> None:
        said = False
        while (prediction := self._slots.take()) is not None:
            self._draw(prediction)
            if not said and (remark := remark_on(self._labels)):
                self._warn(remark)
            said = True


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the node; see `evitif_ros.lifecycle.run`."""
    run(EdgeNode, arguments)


if __name__ == '__main__':
    main()
