"""What a class id means: the topic `labels`, and for vision_msgs' classifications `label_info` and `vision_info`."""

from __future__ import annotations

from evitif_msgs.msg import ClassLabels
from evitif_ros import messages, qos
from evitif_ros.lifecycle import AutostartNode


class ClassNamesPublisher:
    """Latched topics of a lifecycle node. vision_msgs/ObjectHypothesis refers to VisionInfo for what an id means, which names LabelInfo.

    :param prefix: before the topics, with a slash at its end
    """

    def __init__(self, node: AutostartNode, prefix: str = ''):
        self._node = node
        self._labels = node.advertise(ClassLabels, f'{prefix}labels', qos.LATCHED)
        self._label_info, self._vision_info = (
            None if kind is None else node.advertise(kind, f'{prefix}{topic}', qos.LATCHED)
            for kind, topic in ((messages.LabelInfo, 'label_info'), (messages.VisionInfo, 'vision_info')))

    def publish(self, labels: tuple[str, ...], method: str) -> None:
        """Publish the name of each class, and what answers: `method`."""
        stamp = self._node.get_clock().now().to_msg()
        self._labels.publish(messages.labels_message(labels, stamp))
        location = self._labels.topic_name
        if self._label_info is not None and len(labels) <= messages.MOST_LABELS:
            location = self._label_info.topic_name
            self._label_info.publish(messages.label_info_message(labels, stamp))
        elif self._label_info is not None:
            self._node.get_logger().warning(
                f'{self._label_info.topic_name} stays empty: it has room for {messages.MOST_LABELS} classes, and the model has '
                f'{len(labels)}; {location} has them all')
        if self._vision_info is not None:
            self._vision_info.publish(messages.vision_info_message(method, location, stamp))
