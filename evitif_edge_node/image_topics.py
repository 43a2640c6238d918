"""The topics that images come on: by `image_transport` a suffix, a type of message, and how one becomes pixels."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from std_msgs.msg import Header

from evitif.image_transports import TRANSPORTS, VIDEO, format_of
from evitif.pictures import PictureError, SignificantBits
from evitif.pictures.ros_images import ImageConversionError, compressed_image_to_rgb, image_to_rgb
from evitif.pictures.video_decoder import VideoDecoder, codec_of
from evitif_ros import qos

Decoded = list[tuple[np.ndarray, Header]]       # uint8 [H, W, 3] RGB, and the header of the message that it came in
# Of video no packet may be left out, so some wait.
PACKETS = qos.with_depth(qos.NEWEST_IMAGE, 30)


def message_type(transport: str) -> type:
    """The class of the messages. Raises ValueError, saying what to install, where there is none."""
    found = TRANSPORTS[transport]
    package, _, name = found.kind.split('/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), name)
    except ImportError:
        raise ValueError(f'image_transport {transport} needs the messages {package}, which are not installed: '
                         f'apt install ros-$ROS_DISTRO-{found.package}') from None


class Pictures:
    """The messages of a raw or compressed topic, each a picture."""

    profile = qos.NEWEST_IMAGE
    waiting = ''

    def __init__(self, convert: Callable[..., np.ndarray]):
        self._convert = convert

    def pixels(self, message: Any, significant: SignificantBits) -> Decoded:
        """Raises ImageConversionError for a message that is no picture."""
        return [(self._convert(message, significant), message.header)]

    def lost(self) -> None:
        """A message did not arrive; the next one is a picture of its own."""


class Packets:
    """The messages of a video topic. `waiting` is a sentence while a key frame is waited for. Raises PictureError without PyAV."""

    profile = PACKETS

    def __init__(self) -> None:
        self._decoder: VideoDecoder[Header] | None = None
        self.waiting = ''
        VideoDecoder('h264')        # finds out whether PyAV is there

    def pixels(self, message: Any, significant: SignificantBits) -> Decoded:
        """The pictures that a packet completes. Raises ImageConversionError for one that is damaged or of another codec."""
        header = message.header if hasattr(message, 'header') else Header(stamp=message.timestamp, frame_id=message.frame_id)
        try:
            codec = codec_of(format_of(message))
            if self._decoder is None or self._decoder.codec != codec:
                self._decoder = VideoDecoder(codec)
            before = self._decoder.waiting
            found = self._decoder.decode(bytes(message.data), header, getattr(message, 'pts', None))
        except PictureError as error:
            raise ImageConversionError(str(error)) from None
        self.waiting = f'waiting for a key frame, {self._decoder.waiting} packets so far' if self._decoder.waiting > before else ''
        return found

    def lost(self) -> None:
        """A packet did not arrive: what follows waits for a key frame."""
        if self._decoder is not None:
            self._decoder.lost()


def reader_of(transport: str) -> Pictures | Packets:
    """How the messages of a topic become pixels. Raises PictureError where PyAV is needed and is not there."""
    if transport in VIDEO:
        return Packets()
    return Pictures(image_to_rgb if transport == 'raw' else compressed_image_to_rgb)


def describe(message: Any) -> str:
    """What a message is, for the diagnostics."""
    if hasattr(message, 'step'):
        return f'{message.encoding}, {message.width}x{message.height}'
    return f'{format_of(message) or "compressed"}, {len(message.data)} bytes'
