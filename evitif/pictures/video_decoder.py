"""H.264, H.265 and other video packets to pixels, by PyAV (FFmpeg). PyAV is an optional extra: its wheels carry GPL libraries.

One packet is one picture, without B-frames, as `ffmpeg_image_transport_msgs/FFMPEGPacket` and `foxglove_msgs/CompressedVideo` have it.
"""

from __future__ import annotations

import re
from types import ModuleType
from typing import Generic, TypeVar

import numpy as np

from evitif.bounded import BoundedDict
from evitif.pictures.errors import PictureError

T = TypeVar('T')
_CODECS = {'h264': 'h264', 'x264': 'h264', 'avc': 'h264', 'hevc': 'hevc', 'h265': 'hevc', 'x265': 'hevc', 'av1': 'av1', 'vp9': 'vp9',
           'vp8': 'vp8', 'mjpeg': 'mjpeg'}
_WAITING = 64               # packets whose picture has not come out of the decoder
_START = re.compile(b'\x00\x00\x01')
INSTALL = 'video packets are read by PyAV, whose wheels carry GPL libraries: `pip install -r requirements/video.txt` installs it'


def codec_of(format: str) -> str:
    """FFmpeg's name of the codec that `format` or `encoding` of a message names: 'h264', 'libx264', 'h264;yuv420p;bgr8', 'hevc_nvenc', …

    Raises PictureError for one that is none of these.
    """
    name = format.split(';')[0].strip().lower()
    for known, codec in _CODECS.items():
        if known in name:
            return codec
    raise PictureError(f'video format {format!r} is not known: expected one of {", ".join(sorted(set(_CODECS.values())))}')


def is_key(data: bytes, codec: str) -> bool:
    """Whether a packet in Annex B format has a picture that needs no other: IDR (H.264, 7.4.1.2.4) or IRAP (H.265, 7.4.2.2).

    True for other codecs.
    """
    if codec not in ('h264', 'hevc'):
        return True
    for match in _START.finditer(data):
        if match.end() >= len(data):
            return False
        kind = data[match.end()] & 31 if codec == 'h264' else data[match.end()] >> 1 & 63
        if kind == 5 if codec == 'h264' else 16 <= kind <= 21:
            return True
        if 1 <= kind <= 4 if codec == 'h264' else kind < 16:
            return False
    return False


class VideoDecoder(Generic[T]):
    """Decodes the packets of one stream. `waiting` counts those that came before a key frame, or after one was damaged or missing.

    Raises PictureError where PyAV is not installed.
    """

    def __init__(self, codec: str):
        self._av = _pyav()
        self.codec = codec
        self.waiting = 0
        self._started, self._number = False, 0
        self._last: int | None = None       # presentation time of the last packet
        self._counted = False               # presentation times are numbers, one after the other
        self._tags: BoundedDict[int, T] = BoundedDict(_WAITING)
        self._context = self._new()

    def _new(self):  # noqa: ANN202  (PyAV is optional)
        context = self._av.CodecContext.create(self.codec, 'r')
        context.thread_count = 1            # threads would hold pictures back
        context.flags |= 1 << 19            # AV_CODEC_FLAG_LOW_DELAY
        return context

    def lost(self) -> None:
        """A packet is missing: FFmpeg would decode the next ones to something like a picture, so they wait for a key frame."""
        self._started = False

    def decode(self, data: bytes, tag: T, pts: int | None = None) -> list[tuple[np.ndarray, T]]:
        """The pictures that are now known, uint8 [H, W, 3] RGB, each with the tag of its packet. None before the first key frame.

        Raises PictureError for a packet that is damaged; those after it wait for a key frame.

        :param pts: the packet's presentation time, where the stream has one: where it counts packets, a gap tells of a lost one
        """
        if pts is not None:
            if self._last is not None and pts == self._last + 1:
                self._counted = True
            elif self._counted and not is_key(data, self.codec):
                self.lost()
            self._last = pts
        if not self._started and not is_key(data, self.codec):
            self.waiting += 1
            return []
        self._number += 1
        packet = self._av.Packet(data)
        packet.pts = packet.dts = self._number
        self._tags[self._number] = tag
        try:
            pictures = self._pictures(self._context.decode(packet))
        except self._av.error.FFmpegError as error:
            self._context, self._started = self._new(), False
            self._tags.clear()
            raise PictureError(f'a video packet of {len(data)} bytes cannot be decoded: {error.strerror or error}') from None
        self._started = True
        return pictures

    def flush(self) -> list[tuple[np.ndarray, T]]:
        """The pictures that the decoder still holds, at the end of a stream."""
        try:
            return self._pictures(self._context.decode(None))
        except self._av.error.FFmpegError:
            return []

    def _pictures(self, frames) -> list[tuple[np.ndarray, T]]:  # noqa: ANN001
        found = []
        for frame in frames:
            tag = self._tags.pop(frame.pts, None)
            if tag is not None:
                found.append((frame.to_ndarray(format='rgb24'), tag))
        return found


def _pyav() -> ModuleType:
    try:
        import av
        import av.error
    except ImportError:
        raise PictureError(INSTALL) from None
    av.logging.set_level(None)
    return av
