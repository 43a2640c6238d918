"""ROS 2 image topics over Fast DDS to the whole model, and a topic with the result back.

Its environment (`ENVIRONMENT`) keeps to UDP: both namespaces are on one machine, whose shared memory would carry the images.
"""

from __future__ import annotations

import threading
import time

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from benchmarks.link.conditions import Condition
from benchmarks.link.contestants.context import Context, NewestImage, OnAnswer, OnReplaced
from benchmarks.link.images import decode, encode

CONNECT_S = 15.0
DEPTH = 5           # of rmw_qos_profile_sensor_data
_node: Node | None = None
_lock = threading.Lock()


def shared_node() -> Node:
    """The process's node, spinning in a thread of its own."""
    global _node
    with _lock:
        if _node is None:
            rclpy.init(args=[])
            _node = Node('link_benchmark', enable_rosout=False, start_parameter_services=False)
            executor = SingleThreadedExecutor()
            executor.add_node(_node)
            threading.Thread(target=executor.spin, daemon=True).start()
    return _node


def _topics(options: dict) -> tuple[type, str, str, QoSProfile]:
    name = options['name'].replace('-', '_')
    reliability = ReliabilityPolicy.RELIABLE if options['reliable'] else ReliabilityPolicy.BEST_EFFORT
    profile = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=DEPTH, reliability=reliability, durability=DurabilityPolicy.VOLATILE)
    return CompressedImage if options['compressed'] else Image, f'{name}/image', f'{name}/result', profile


class Robot:
    gives_up_s = 3.0

    def __init__(self, context: Context, options: dict, on_answer: OnAnswer, on_replaced: OnReplaced):
        self._options, self._on_answer = options, on_answer
        kind, images, results, profile = _topics(options)
        node = shared_node()
        self._publisher = node.create_publisher(kind, images, profile)
        self._subscription = node.create_subscription(Header, results, self._receive, profile)
        self._compute: dict[int, float] = {}
        self._images = NewestImage(self._send, on_replaced)
        self.submit = self._images.submit

    def connect(self, condition: Condition) -> None:
        """:raises TimeoutError: the other node is not found"""
        until = time.monotonic() + CONNECT_S
        while not (self._publisher.get_subscription_count() and self._subscription.get_publisher_count()):
            if condition.loss:
                break       # a link that loses may have parted them again: their images get no answer
            if time.monotonic() > until:
                raise TimeoutError(f'DDS found no peer within {CONNECT_S:g} s')
            time.sleep(0.05)
        self._compute.clear()

    def disconnect(self) -> None:
        """Leave the topics."""
        self._images.discard()

    def _send(self, number: int, image: np.ndarray) -> None:
        began = time.monotonic()
        header = Header(frame_id=str(number))
        if self._options['compressed']:
            message = CompressedImage(header=header, format='jpeg', data=encode(image, 'JPEG', self._options['quality']))
        else:
            height, width = image.shape[:2]
            message = Image(header=header, height=height, width=width, encoding='rgb8', step=3 * width, data=image.tobytes())
        self._compute[number] = time.monotonic() - began
        self._publisher.publish(message)

    def _receive(self, result: Header) -> None:
        number, class_id, compute = result.frame_id.split()
        self._on_answer(int(number), int(class_id), self._compute.pop(int(number), 0.0) + float(compute))


class Bridge:
    def __init__(self, context: Context, options: dict):
        self._context = context
        kind, images, results, profile = _topics(options)
        node = shared_node()
        self._publisher = node.create_publisher(Header, results, profile)
        self._subscription = node.create_subscription(kind, images, self._answer, profile)

    def connect(self, condition: Condition) -> None:
        """Subscribe to the images and advertise the answers."""
        self._context.stream        # noqa: B018 - loaded before the first image comes

    def _answer(self, message: Image | CompressedImage) -> None:
        began = time.monotonic()
        if isinstance(message, CompressedImage):
            image = decode(bytes(message.data))
        else:
            image = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        class_id = self._context.whole(image)
        self._publisher.publish(Header(frame_id=f'{message.header.frame_id} {class_id} {time.monotonic() - began:.6f}'))
