"""One side of benchmarks/images.py: a plain node that publishes images, or one that counts them.

    python -m benchmarks.image_peer publish 640 480 60 10 reliable
    python -m benchmarks.image_peer receive reliable
"""

from __future__ import annotations

import array
import os
import sys
import time
from typing import NoReturn

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

TOPIC = '/pictures'
DISCOVERY_S = 20.0      # then nobody sees anybody
SETTLE_S = 2.0          # a subscription's own side of a match may come a little later than the publisher's
LINGER_S = 2.0          # for the last images to arrive


def publish(width: int, height: int, count: int, rate: float, qos: QoSProfile) -> int:
    """Publish `count` images of random bytes, `rate` a second; 1 where no subscriber came."""
    node = rclpy.create_node('picture_publisher')
    publisher = node.create_publisher(Image, TOPIC, qos)
    until = time.monotonic() + DISCOVERY_S
    while not publisher.get_subscription_count():
        if time.monotonic() > until:
            return 1
        time.sleep(0.05)
    time.sleep(SETTLE_S)
    image = Image(width=width, height=height, step=3 * width, encoding='rgb8', data=array.array('B', os.urandom(3 * width * height)))
    began = time.monotonic()
    for number in range(count):
        image.header.stamp.sec = number
        publisher.publish(image)
        time.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))
    time.sleep(LINGER_S)
    return 0


def receive(qos: QoSProfile) -> NoReturn:
    """Count different images until SIGTERM, then print how many."""
    node = rclpy.create_node('picture_subscriber')
    seen = set()
    node.create_subscription(Image, TOPIC, lambda image: seen.add((image.header.stamp.sec, image.header.stamp.nanosec)), qos)
    print('ready', flush=True)
    try:
        while rclpy.ok():
            rclpy.spin_once(node, timeout_sec=0.5)      # the signal's own wake-up may come too early to be noticed
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    print(len(seen), flush=True)
    os._exit(0)         # the end of a participant can take longer than anybody waits


def main() -> int:
    """Publish or receive, as the arguments say; return the exit status."""
    role, *numbers, reliability = sys.argv[1:]
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy[reliability.upper()])
    rclpy.init(args=[])
    if role == 'receive':
        return receive(qos)
    width, height, count, rate = map(int, numbers)
    return publish(width, height, count, rate, qos)


if __name__ == '__main__':
    sys.exit(main())
