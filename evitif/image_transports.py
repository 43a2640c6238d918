"""The ways in which ROS topics carry images: by image_transport's name a suffix of the topic, and a type of message."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Transport:
    """One of image_transport's ways."""

    suffix: str         # of the topic
    kind: str           # of its messages, package/msg/Name
    package: str = ''   # of Debian, where the messages are no part of a ROS 2 base installation


TRANSPORTS = {
    'raw': Transport('', 'sensor_msgs/msg/Image'),
    'compressed': Transport('/compressed', 'sensor_msgs/msg/CompressedImage'),
    'ffmpeg': Transport('/ffmpeg', 'ffmpeg_image_transport_msgs/msg/FFMPEGPacket', 'ffmpeg-image-transport-msgs'),
    'foxglove': Transport('/foxglove', 'foxglove_msgs/msg/CompressedVideo', 'foxglove-msgs'),
}
IMAGE_TYPES = IMAGE, COMPRESSED, FFMPEG, FOXGLOVE = tuple(transport.kind for transport in TRANSPORTS.values())
VIDEO = ('ffmpeg', 'foxglove')      # transports whose messages are packets
_SUFFIX = re.compile(f'({"|".join(transport.suffix for transport in TRANSPORTS.values() if transport.suffix)})$')


def base_topic(topic: str) -> str:
    """The topic whose transport this is: '/camera/image' of '/camera/image/compressed'."""
    return _SUFFIX.sub('', topic)


def format_of(message: Any) -> str:
    """What a message of packets or of a compressed image says of its content."""
    return message.encoding if hasattr(message, 'encoding') else message.format
