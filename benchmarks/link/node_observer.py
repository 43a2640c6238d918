"""A plain node beside the robot's: it publishes images, and keeps when predictions came and what /diagnostics said of the link."""

from __future__ import annotations

import os
import threading
import time
from typing import NoReturn

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from benchmarks.link.processes import serve
from evitif.pictures.ros_images import fill_image
from evitif_msgs.msg import Prediction

RATE = 5.0


class Observer:
    """Spins in a thread of its own."""

    def __init__(self):
        rclpy.init(args=[])
        self._node = rclpy.create_node('observer')
        self._answers: list[float] = []
        self._said: list[tuple[float, int, str]] = []
        self._pictures = self._node.create_publisher(Image, 'image', qos_profile_sensor_data)
        self._image = fill_image(Image(), np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8))
        self._image.encoding = 'rgb8'
        self._node.create_timer(1 / RATE, self._publish)
        self._node.create_subscription(Prediction, 'prediction', self._on_prediction, 50)
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 50)
        executor = SingleThreadedExecutor()
        executor.add_node(self._node)
        threading.Thread(target=executor.spin, daemon=True).start()

    def _publish(self) -> None:
        self._image.header.stamp = self._node.get_clock().now().to_msg()
        self._pictures.publish(self._image)

    def _on_prediction(self, prediction: Prediction) -> None:
        if prediction.how == 'off-board':
            self._answers.append(time.monotonic())

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            if status.name.endswith(': link'):
                self._said.append((time.monotonic(), status.level[0], status.message))

    def seen(self) -> dict:
        """Since the last call."""
        answers, self._answers = self._answers, []
        said, self._said = self._said, []
        return {'answers': [(at, 0.0) for at in answers], 'said': said}


def main() -> NoReturn:
    """Observe until the one who asks is gone."""
    serve({'answers': Observer().seen})
    os._exit(0)         # the end of a participant can take longer than anybody waits


if __name__ == '__main__':
    main()
