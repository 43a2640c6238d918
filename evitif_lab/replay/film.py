"""The annotated pictures as a film: H.264 by PyAV where it is, else what OpenCV and JPEG can do."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

KEY_EVERY = 30          # pictures
_CRF = '23'


class H264:
    """Packets of a stream in Annex B, one a picture without B-frames, as foxglove_msgs/CompressedVideo wants them."""

    def __init__(self, av: Any, height: int, width: int):
        context = av.CodecContext.create('libx264', 'w')
        context.height, context.width, context.pix_fmt = height, width, 'yuv420p'
        context.time_base, context.framerate = Fraction(1, 30), Fraction(30)
        context.options = {'preset': 'veryfast', 'tune': 'zerolatency', 'crf': _CRF, 'x264-params': f'keyint={KEY_EVERY}:repeat-headers=1'}
        self._av, self._context = av, context

    def encode(self, picture: np.ndarray) -> bytes:
        """The packet of a picture, uint8 [H, W, 3] RGB with even sides."""
        return b''.join(bytes(packet) for packet in self._context.encode(self._av.VideoFrame.from_ndarray(picture, format='rgb24')))


class Mp4:
    """An MP4 file, each picture with its time."""

    def __init__(self, av: Any, path: Path, height: int, width: int):
        self._av = av
        self._container = av.open(str(path), 'w')
        self._stream = self._container.add_stream('libx264', rate=30)
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, 'yuv420p'
        self._stream.options = {'preset': 'veryfast', 'crf': _CRF}
        self._stream.codec_context.time_base = Fraction(1, 1000)
        self._last = -1

    def add(self, picture: np.ndarray, at_s: float) -> None:
        """Add a picture, `at_s` seconds after the beginning."""
        frame = self._av.VideoFrame.from_ndarray(picture, format='rgb24')
        self._last = max(self._last + 1, round(1000 * at_s))
        frame.pts, frame.time_base = self._last, Fraction(1, 1000)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write the rest."""
        self._container.mux(self._stream.encode(None))
        self._container.close()


class OpenCvFilm:
    """The same without PyAV: MPEG-4 part 2, at a steady rate."""

    def __init__(self, path: Path, height: int, width: int, rate_hz: float):
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), rate_hz, (width, height))

    def add(self, picture: np.ndarray, at_s: float) -> None:
        """Add a picture."""
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Write the rest."""
        self._writer.release()


def pyav() -> Any:
    """The module `av`; None where it is not installed."""
    try:
        import av
        return av
    except ImportError:
        return None


def even(picture: np.ndarray) -> np.ndarray:
    """The picture without its last row or column where there is an odd number of them: 4:2:0 has none of those."""
    return np.ascontiguousarray(picture[:picture.shape[0] // 2 * 2, :picture.shape[1] // 2 * 2])
