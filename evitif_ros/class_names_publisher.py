"""What a class id means: the topics `labels`, and beside vision_msgs' classifications `label_info` and `vision_info`."""

from __future__ import annotations

from evitif_msgs.msg import ClassLabels
from evitif_ros import messages, qos


class ClassNamesPublisher:
    """Latched topics of a lifecycle node. vision_msgs/ObjectHypothesis refers to VisionInfo for what an id means, which names LabelInfo."""

    def __init__(self, node):
        self._node = node
        self._labels = node.create_lifecycle_publisher(ClassLabels, 'labels', qos.LATCHED)
        self._infos = []
        if messages.Classification is not None:
            self._infos = [node.create_lifecycle_publisher(kind, topic, qos.LATCHED) for kind, topic in
                           ((messages.LabelInfo, 'label_info'), (messages.VisionInfo, 'vision_info'))]

    def publish(self, labels: tuple[str, ...], method: str) -> None:
        """Publish the name of each class, and what answers: `method`."""
        stamp = self._node.get_clock().now().to_msg()
        self._labels.publish(messages.labels_message(labels, stamp))
        if not self._infos:
            return
        label_info, vision_info = self._infos
        if len(labels) > messages.MOST_LABELS:
            self._node.get_logger().warning(f'{label_info.topic_name} is empty: it can name {messages.MOST_LABELS} classes, and the model '
                                            f'has {len(labels)}; {self._labels.topic_name} has them all')
            return
        label_info.publish(messages.label_info_message(labels, stamp))
        vision_info.publish(messages.vision_info_message(method, label_info.topic_name, stamp))

    def destroy(self) -> None:
        for publisher in (self._labels, *self._infos):
            self._node.destroy_lifecycle_publisher(publisher)
        self._infos = []
