"""What the demo hears on the robot's topics."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import rclpy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from evitif_msgs.msg import LabelStamped, LinkStats, Prediction
from evitif_ros import qos

NAMESPACE = '/demo'
ROBOT = 'robot'      # the edge node's default


@dataclass
class Monitor:
    """What came in on the robot's topics, by the source image's stamp in nanoseconds.

    `edges` are the namespaces of the edge nodes below the demo's: one without a name, or one for each device of a partition. If an image
    has several predictions, the first counts that is no fallback.
    """

    edges: tuple[str, ...]
    class_id_of: Callable[[str, int], int]   # a label and its number in the data set to the model's class
    head: str = ''               # whose predictions count; empty: the model's own
    truth: dict[int, int] = field(default_factory=dict)        # the model's class of each labelled image; -1 unknown
    predictions: dict[int, Prediction] = field(default_factory=dict)
    delays: dict[int, float] = field(default_factory=dict)     # stamp to arrival here, seconds, as `ros2 topic delay`
    pictures: dict[int, Image] = field(default_factory=dict)
    film: deque[tuple[int, Image]] = field(default_factory=lambda: deque(maxlen=30))       # the last pictures, with their stamps
    links: dict[str, LinkStats] = field(default_factory=dict)  # by edge
    bridge: LinkStats | None = None      # the bridge's of the robot; of a partition, of the device that it published last
    last: float = 0.0
    killed: str = ''             # the edge that the demo killed half-way, and the newest image's stamp then
    killed_at: float = math.inf

    def __post_init__(self) -> None:
        self.node = rclpy.create_node('demo_monitor', namespace=NAMESPACE)
        time.sleep(0.7)
        taken = [name for name, space in self.node.get_node_names_and_namespaces()
                 if space.startswith(NAMESPACE) and name != 'demo_monitor']
        if taken:
            self.node.destroy_node()
            raise SystemExit(f'demo: {", ".join(taken)} already run in {NAMESPACE}: another demo? Wait for it to end, '
                             'or set ROS_DOMAIN_ID to another number')
        self.node.create_subscription(LabelStamped, 'label', self._on_label, qos.LABELS)
        for edge in self.edges:
            below = f'{edge}/' if edge else ''
            spoken = f'{below}{self.head}/prediction' if self.head else f'{below}prediction'
            self.node.create_subscription(Prediction, spoken, self._on_prediction, qos.RESULTS)
            self.node.create_subscription(LinkStats, f'{below}link_stats', lambda message, edge=edge: self.links.update({edge: message}),
                                          qos.RESULTS)
        self.node.create_subscription(LinkStats, f'{ROBOT}/link_stats', self._on_bridge, qos.RESULTS)
        self.node.create_subscription(Image, self.picture_topic, self._on_picture, qos.IMAGES)

    @property
    def picture_topic(self) -> str:
        """The annotated image of the first edge."""
        return f'{self.edges[0]}/edge_node/annotated_image' if self.edges[0] else 'edge_node/annotated_image'

    @property
    def link(self) -> LinkStats | None:
        """What the first edge last said about its link; None before it does."""
        return self.links.get(self.edges[0])

    @property
    def connected(self) -> bool:
        """Whether every edge is connected."""
        return len(self.links) == len(self.edges) and all(link.connected for link in self.links.values())

    def _on_label(self, message: LabelStamped) -> None:
        self.truth[nanoseconds(message.header)] = self.class_id_of(message.label, message.class_id)

    def _on_prediction(self, message: Prediction) -> None:
        stamp = nanoseconds(message.header)
        if stamp in self.predictions and (self.predictions[stamp].how != 'fallback' or message.how == 'fallback'):
            return
        self.predictions[stamp] = message
        self.delays[stamp] = self.node.get_clock().now().nanoseconds / 1e9 - stamp / 1e9
        self.last = time.monotonic()

    def _on_bridge(self, message: LinkStats) -> None:
        self.bridge = message

    def _on_picture(self, message: Image) -> None:
        self.pictures[nanoseconds(message.header)] = message
        self.film.append((nanoseconds(message.header), message))
        if len(self.pictures) > 40:  # a spread over the run, in bounded memory
            for stamp in list(self.pictures)[1::2]:
                del self.pictures[stamp]

    def spin(self, seconds: float) -> None:
        """Take one message, or wait this long for it."""
        rclpy.spin_once(self.node, timeout_sec=seconds)

    def spin_for(self, seconds: float) -> None:
        """Take messages for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.spin(left)


def nanoseconds(header: Header) -> int:
    """A header's stamp."""
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
