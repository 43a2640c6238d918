"""The topics of a head that says something of each place: masks as nav2's semantic_segmentation_layer reads them, depth as of REP 118."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from evitif.mask_colours import coloured
from evitif.pictures.ros_images import fill_image
from evitif.vocabulary import Task
from evitif_ros import messages, qos

if TYPE_CHECKING:
    from evitif.heads.artifact import HeadDescription
    from evitif.heads.maps import PlaceMap

OF_PLACES = ('segmentation/mask', 'segmentation/confidence', 'segmentation/colored_mask', 'segmentation/label_info', 'depth/image',
             'depth/camera_info')
PLACE_TASKS = (Task.SEGMENT, Task.DEPTH)


class PlaceTopics:
    """:param advertise: makes a publisher of a type on a topic with a QoS profile

    :param prefix: before the topics, with a slash at its end
    """

    def __init__(self, about: HeadDescription, advertise: Callable[..., Any], prefix: str = ''):
        self.about = about
        self._labels = self._info = None
        if about.task == Task.SEGMENT:
            self._images = {name: advertise(Image, f'{prefix}segmentation/{name}', qos.IMAGES)
                            for name in ('mask', 'confidence', 'colored_mask')}
            if messages.LabelInfo is not None:
                self._labels = advertise(messages.LabelInfo, f'{prefix}segmentation/label_info', qos.LATCHED)
        else:
            self._images = {'image': advertise(Image, f'{prefix}depth/image', qos.IMAGES)}
            self._info = advertise(CameraInfo, f'{prefix}depth/camera_info', qos.IMAGES)

    def publishers(self) -> list:
        """All of them."""
        return [each for each in (*self._images.values(), self._labels, self._info) if each is not None]

    def read(self) -> bool:
        """Whether somebody subscribes to what is computed of each image."""
        return any(publisher.get_subscription_count() for publisher in self._images.values())

    def publish_labels(self, stamp: Any) -> None:
        """What each number in the mask means, for whoever subscribes now or later."""
        if self._labels is not None:
            self._labels.publish(messages.label_info_message(self.about.labels, stamp))

    def publish(self, result: PlaceMap, prediction: Any, header: Header, robot: str) -> None:
        """Off-board: the map as the head gives it, at its own size."""
        confidence = np.repeat(np.repeat(result.confidence, result.scale, 0), result.scale, 1)
        self.publish_map(result, result.values, confidence, header)

    def publish_map(self, result: Any, values: np.ndarray, confidence: np.ndarray, header: Header,
                    camera_info: CameraInfo | None = None) -> None:
        """Values and confidence uint8 [H, W] of a map of the kind of `result`, with an image's header, and the camera's."""
        if self.about.task == Task.DEPTH:
            self._images['image'].publish(_image(result.in_metres(values).astype('<f4'), '32FC1', header))
            if self._info is not None and camera_info is not None:
                camera_info.header = header
                self._info.publish(camera_info)
            return
        for name, publisher in self._images.items():
            if publisher.get_subscription_count():
                shown = {'mask': values, 'confidence': confidence}.get(name)
                publisher.publish(fill_image(Image(header=header), coloured(values)) if shown is None else _image(shown, 'mono8', header))


def _image(values: np.ndarray, encoding: str, header: Header) -> Image:
    """One channel [H, W] as a message."""
    data = array.array('B')         # rclpy checks every element of anything else
    data.frombytes(np.ascontiguousarray(values).view(np.uint8).data)
    return Image(header=header, height=values.shape[0], width=values.shape[1], encoding=encoding, is_bigendian=0,
                 step=values.strides[0] if values.flags.c_contiguous else values.shape[1] * values.itemsize, data=data)
