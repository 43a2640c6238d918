"""The camera node: a data set, a folder, a bag, a video file or a camera as `image` with its `camera_info`, and the known `label`."""

from __future__ import annotations

from evitif_ros.program_start import begin_program

begin_program(__name__)

import math
import time
from typing import NoReturn

from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from evitif.pictures.ros_images import fill_compressed_image, fill_image
from evitif_edge_node.camera_info import camera_info, camera_info_topic, load_calibration
from evitif_edge_node.image_sources import ImageSource, SourceImage, open_source
from evitif_edge_node.parameters import CAMERA_PARAMETERS
from evitif_msgs.msg import LabelStamped
from evitif_ros import qos
from evitif_ros.lifecycle import EXIT_FAILED, AutostartNode, run

# A subscription's own side of a match may come a little later than the publisher's. The edge node warns after its image_timeout.
SETTLE_S = 1.0
LEAST_WAIT_S, MOST_WAIT_S = 1e-3, 0.1   # between looks at whether an image of a recording is due
ACKNOWLEDGE_S = 1.0     # for reliable subscribers to take the last images before the process ends


class CameraNode(AutostartNode):
    default_name = 'camera'
    table = CAMERA_PARAMETERS
    publishes_images = True

    def __init__(self, **kwargs):
        self._source: ImageSource | None = None
        self._timer = None
        super().__init__(**kwargs)

    def publishes(self) -> tuple[str, ...]:
        return ('image', 'label', camera_info_topic(self), *([self._compressed_topic()] if self.values()['publish_compressed'] else ()))

    def configure(self) -> None:
        values = self._values = self.values()
        self._source = open_source(
            values['source'], split=values['split'], loop=values['loop'], start_index=values['start_index'],
            shuffle=values['shuffle'], seed=values['seed'], size=(values['width'], values['height']),
            significant_bits=values['significant_bits'], start_s=values['start'], duration_s=values['duration'] or math.inf,
            say=lambda sentence: self.get_logger().warning(sentence))
        self._calibration = load_calibration(values['camera_info_url'], self.get_name())
        self._said_uncalibrated = False
        self._infos = self.advertise(CameraInfo, camera_info_topic(self), qos.IMAGES, shown=True)
        self._images = self.advertise(Image, 'image', qos.IMAGES, shown=True)
        self._compressed = self.advertise(CompressedImage, self._compressed_topic(), qos.IMAGES, shown=True) \
            if values['publish_compressed'] else None
        self._labels = self.advertise(LabelStamped, 'label', qos.LABELS) if self._source.labelled else None
        self._published = 0
        self._waiting: SourceImage | None = None        # an image of a recording, until its time
        self._played_from: tuple[float, float] | None = None    # now and the recording's time, of what is played at one speed
        self._complete_since: float | None = None
        self._said_waiting = False
        self.get_logger().info(f'source: {self._source.description}')

    def activate(self) -> None:
        self._start_timer()

    def deactivate(self) -> None:
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None

    def cleanup(self) -> None:
        if self._source is not None:
            self._source.close()
            self._source = None
        self.withdraw()

    def parameters_changed(self, values: dict[str, object]) -> str | None:
        self._values.update(values)
        if 'speed' in values:
            self._played_from = None
        if 'rate' in values and self._timer is not None:
            self.deactivate()
            self._start_timer()

    def _compressed_topic(self) -> str:
        return f'{self.resolve_topic_name("image")}/compressed'  # a remapped base carries its transports

    def _start_timer(self) -> None:
        self._played_from = None
        self._timer = self.create_timer(1.0 / self._values['rate'], self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _tick(self) -> None:
        if not self._subscribers_complete():
            return
        try:
            image = None if self._published == self._values['count'] > 0 else self._waiting or self._source.next_image()
        except ValueError as error:
            self.get_logger().error(str(error))
            self._end(EXIT_FAILED)
            return
        if image is None:
            self._end(0)
            return
        if image.at_s is not None and not self._is_due(image.at_s):
            self._waiting = image
            return
        self._waiting = None
        self._publish(image)
        self._published += 1

    def _is_due(self, at_s: float) -> bool:
        """Whether an image of a recording is to be published now; else the timer comes back when it is."""
        now = time.monotonic()
        if self._played_from is None:
            self._played_from = now, at_s
        since, from_s = self._played_from
        left = since + (at_s - from_s) / self._values['speed'] - now
        self._timer.timer_period_ns = round(1e9 * min(max(left, LEAST_WAIT_S), MOST_WAIT_S))
        return left <= 0

    def _publish(self, image: SourceImage) -> None:
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._values['frame_id'])
        if image.at_s is not None and self._values['recorded_stamps']:
            header = Header(stamp=Time(nanoseconds=image.stamp_ns).to_msg(), frame_id=image.frame_id)
        if self._labels is not None and image.class_id is not None:
            self._labels.publish(LabelStamped(header=header, class_id=image.class_id, label=image.label))
        self._publish_info(header, *image.image.shape[:2])
        self._images.publish(fill_image(Image(header=header), image.image))
        if self._compressed is not None:
            self._compressed.publish(fill_compressed_image(
                CompressedImage(header=header), image.image, jpeg_quality=self._values['jpeg_quality']))

    def _publish_info(self, header: Header, height: int, width: int) -> None:
        found = self._calibration
        if found is not None and (found.width, found.height) != (width, height) and not self._said_uncalibrated:
            self._said_uncalibrated = True
            self.get_logger().warning(f'camera_info_url is of images of {found.width}x{found.height} and the images are {width}x{height}: '
                                      f'{self._infos.topic_name} says that they are not calibrated')
        self._infos.publish(camera_info(found, header, width, height))

    def _subscribers_complete(self) -> bool:
        wanted = self._values['wait_for_subscribers']
        if self._published or not wanted:
            return True
        found = self._images.get_subscription_count()
        if self._compressed is not None:
            found += self._compressed.get_subscription_count()
        now = time.monotonic()
        if found < wanted:
            self._complete_since = None
            if not self._said_waiting:
                self._said_waiting = True
                self.get_logger().info(f'waiting for {wanted} subscriptions of {self._images.topic_name}, '
                                       f'{found} so far')
            return False
        if self._complete_since is None:
            self._complete_since = now
        return now - self._complete_since >= SETTLE_S

    def _end(self, exit_code: int) -> None:
        self.deactivate()
        skipped = f', skipped {self._source.skipped} that cannot be read' if self._source.skipped else ''
        self.get_logger().info(f'done: published {self._published} images of {self._source.description}{skipped}')
        if self._values['exit_when_done'] or exit_code:
            for publisher in filter(None, (self._images, self._infos, self._compressed, self._labels)):
                publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_S))
            self.finish(exit_code)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the node; see `evitif_ros.lifecycle.run`."""
    run(CameraNode, arguments)


if __name__ == '__main__':
    main()
