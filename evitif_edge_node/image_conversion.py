"""sensor_msgs/Image and sensor_msgs/CompressedImage to RGB arrays, and back.

Encodings are those of `sensor_msgs/image_encodings.hpp`. cv_bridge is not used: its Python binding does not load with
NumPy 2 (ros-perception/vision_opencv#535). Messages are duck-typed, so nothing here needs ROS.
"""

from __future__ import annotations

import array
from dataclasses import dataclass

import cv2
import numpy as np


class ImageConversionError(ValueError):
    """An image message that cannot be converted; the message names its encoding, step, size and data length."""


@dataclass(frozen=True)
class _Layout:
    """How a pixel lies in memory: bytes a sample, samples a pixel, and which samples are red, green and blue."""

    sample_bytes: int
    samples: int
    rgb: tuple[int, ...] = ()       # positions of red, green and blue; empty where a cv2 conversion does it
    cv2_code: int | None = None

    @property
    def pixel_bytes(self) -> int:
        return self.sample_bytes * self.samples


# OpenCV names a Bayer pattern by its second row and second column: RGGB, as ROS says, is BayerBG in OpenCV.
_BAYER = {
    'rggb': cv2.COLOR_BayerBG2RGB,
    'bggr': cv2.COLOR_BayerRG2RGB,
    'gbrg': cv2.COLOR_BayerGR2RGB,
    'grbg': cv2.COLOR_BayerGB2RGB,
}
_LAYOUTS = {
    'rgb8': _Layout(1, 3, (0, 1, 2)),
    'bgr8': _Layout(1, 3, (2, 1, 0)),
    'rgba8': _Layout(1, 4, (0, 1, 2)),
    'bgra8': _Layout(1, 4, (2, 1, 0)),
    'mono8': _Layout(1, 1, (0, 0, 0)),
    'rgb16': _Layout(2, 3, (0, 1, 2)),
    'bgr16': _Layout(2, 3, (2, 1, 0)),
    'mono16': _Layout(2, 1, (0, 0, 0)),
    '8UC1': _Layout(1, 1, (0, 0, 0)),
    '8UC3': _Layout(1, 3, (2, 1, 0)),   # OpenCV's own order, as cv_bridge takes it
    '8UC4': _Layout(1, 4, (2, 1, 0)),
    'yuv422': _Layout(1, 2, cv2_code=cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': _Layout(1, 2, cv2_code=cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': _Layout(1, 2, cv2_code=cv2.COLOR_YUV2RGB_YUY2),
    'yuyv': _Layout(1, 2, cv2_code=cv2.COLOR_YUV2RGB_YUY2),
    **{f'bayer_{pattern}8': _Layout(1, 1, cv2_code=code) for pattern, code in _BAYER.items()},
    **{f'bayer_{pattern}16': _Layout(2, 1, cv2_code=code) for pattern, code in _BAYER.items()},
}
SUPPORTED_ENCODINGS = tuple(_LAYOUTS)
_MAX_PIXELS = 1 << 28  # a corrupt header must not make the node allocate without bound


def image_to_rgb(message) -> np.ndarray:
    """Convert a sensor_msgs/Image to uint8 [H, W, 3] RGB; rgb8 without padding is a view of the message's data.

    16-bit samples are scaled to 8 bits and honour `is_bigendian`; `step` may be larger than a row. Alpha is dropped.
    Raises ImageConversionError for an unsupported encoding, a size of zero, or data that does not fit the header.
    """
    layout = _LAYOUTS.get(message.encoding)
    if layout is None:
        raise ImageConversionError(f'image encoding {message.encoding!r} is not supported; supported are '
                                   + ', '.join(SUPPORTED_ENCODINGS))
    height, width, step = message.height, message.width, message.step
    row_bytes = width * layout.pixel_bytes
    if height == 0 or width == 0 or height * width > _MAX_PIXELS:
        raise _mismatch(message, f'a size between 1x1 and {_MAX_PIXELS} pixels')
    if step < row_bytes:
        raise _mismatch(message, f'a step of at least {row_bytes} bytes')
    # The last row's padding may be missing: some drivers send height * step bytes, some end with the last pixel.
    needed = step * (height - 1) + row_bytes
    data = np.frombuffer(message.data, np.uint8)
    if data.size < needed:
        raise _mismatch(message, f'at least {needed} bytes of data')
    if layout.cv2_code in (cv2.COLOR_YUV2RGB_UYVY, cv2.COLOR_YUV2RGB_YUY2) and width % 2:
        raise _mismatch(message, 'an even width, since two pixels share their colour')
    rows = np.lib.stride_tricks.as_strided(data, (height, row_bytes), (step, 1), writeable=False)
    if layout.sample_bytes == 2:
        rows = _high_bytes(rows, message.is_bigendian)
    pixels = rows.reshape(height, width, layout.samples)
    if layout.cv2_code is not None:
        return cv2.cvtColor(np.ascontiguousarray(pixels), layout.cv2_code)
    if layout.rgb == tuple(range(layout.samples)):
        return pixels
    if layout.samples == 1:
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, list(layout.rgb)])


def compressed_image_to_rgb(message) -> np.ndarray:
    """Decode a sensor_msgs/CompressedImage (JPEG, PNG and what else OpenCV reads) to uint8 [H, W, 3] RGB.

    Raises ImageConversionError, naming the format and the data length, where the data is not an image.
    """
    if 'compressedDepth' in message.format:
        raise ImageConversionError(f'compressed image format {message.format!r} is a depth image, not a picture')
    data = np.frombuffer(message.data, np.uint8)
    try:
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:
        raise ImageConversionError(f'compressed image of format {message.format!r} ({data.size} bytes) cannot be '
                                   f'decoded: {error}') from None
    if decoded is None:
        raise ImageConversionError(f'compressed image of format {message.format!r} ({data.size} bytes) cannot be '
                                   'decoded: expected a complete JPEG or PNG file')
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def fill_image(message, rgb: np.ndarray):
    """Fill a sensor_msgs/Image with uint8 [H, W, 3] RGB as rgb8 and return it. The header is left alone."""
    _check_rgb(rgb)
    message.height, message.width = rgb.shape[:2]
    message.encoding, message.step, message.is_bigendian = 'rgb8', 3 * rgb.shape[1], 0
    # rclpy checks every element of what it is given, unless it is an array.array already: 5 ms against 0.4 at 720p.
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(rgb).data)
    message.data = data
    return message


def fill_compressed_image(message, rgb: np.ndarray, format: str = 'jpeg', jpeg_quality: int = 95):
    """Fill a sensor_msgs/CompressedImage with uint8 [H, W, 3] RGB as `jpeg` or `png` and return it."""
    _check_rgb(rgb)
    if format not in ('jpeg', 'png'):
        raise ImageConversionError(f'compressed image format has to be jpeg or png, not {format!r}')
    options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality] if format == 'jpeg' else []
    _, encoded = cv2.imencode(f'.{format}', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    message.format = format
    data = array.array('B')
    data.frombytes(encoded.data)
    message.data = data
    return message


def _check_rgb(rgb: np.ndarray) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ImageConversionError(f'expected uint8 [H, W, 3], got {rgb.dtype} {list(rgb.shape)}')


def _high_bytes(rows: np.ndarray, is_bigendian: int) -> np.ndarray:
    """Scale 16-bit samples to 8 bits: their more significant bytes."""
    return rows[:, 0::2] if is_bigendian else rows[:, 1::2]


def _mismatch(message, expected: str) -> ImageConversionError:
    return ImageConversionError(f'image of encoding {message.encoding}, step {message.step}, width {message.width}, '
                                f'height {message.height} with {len(message.data)} bytes of data: expected {expected}')
