"""sensor_msgs/Image and sensor_msgs/CompressedImage to RGB arrays, and back.

Encodings are those of `sensor_msgs/image_encodings.hpp`. It does not use cv_bridge, whose Python binding does not load with
NumPy 2 (ros-perception/vision_opencv#535). `evitif.pictures` reads compressed images and scales 16-bit samples as it does for files.
Messages are duck-typed, so nothing here needs ROS.
"""

from __future__ import annotations

import array
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from evitif.pictures import MAX_PIXELS, PictureError, SignificantBits, read_samples, to_rgb

if TYPE_CHECKING:
    from sensor_msgs.msg import CompressedImage, Image


class ImageConversionError(ValueError):
    """An image message that cannot be converted; the message names its encoding, step, size and data length."""


@dataclass(frozen=True)
class _Layout:
    """A pixel in memory: bytes of a sample, samples of a pixel, and OpenCV's conversion to RGB; None: it is RGB."""

    sample_bytes: int
    samples: int
    to_rgb: int | None

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
    'rgb8': _Layout(1, 3, None),
    'bgr8': _Layout(1, 3, cv2.COLOR_BGR2RGB),
    'rgba8': _Layout(1, 4, cv2.COLOR_RGBA2RGB),
    'bgra8': _Layout(1, 4, cv2.COLOR_BGRA2RGB),
    'mono8': _Layout(1, 1, cv2.COLOR_GRAY2RGB),
    'rgb16': _Layout(2, 3, None),
    'bgr16': _Layout(2, 3, cv2.COLOR_BGR2RGB),
    'rgba16': _Layout(2, 4, cv2.COLOR_RGBA2RGB),
    'bgra16': _Layout(2, 4, cv2.COLOR_BGRA2RGB),
    'mono16': _Layout(2, 1, cv2.COLOR_GRAY2RGB),
    '8UC1': _Layout(1, 1, cv2.COLOR_GRAY2RGB),
    '8UC3': _Layout(1, 3, cv2.COLOR_BGR2RGB),   # OpenCV's own order, as cv_bridge takes it
    '8UC4': _Layout(1, 4, cv2.COLOR_BGRA2RGB),
    'yuv422': _Layout(1, 2, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': _Layout(1, 2, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': _Layout(1, 2, cv2.COLOR_YUV2RGB_YUY2),
    'yuyv': _Layout(1, 2, cv2.COLOR_YUV2RGB_YUY2),
    **{f'bayer_{pattern}8': _Layout(1, 1, code) for pattern, code in _BAYER.items()},
    **{f'bayer_{pattern}16': _Layout(2, 1, code) for pattern, code in _BAYER.items()},
}
SUPPORTED_ENCODINGS = tuple(_LAYOUTS)
_GENERIC = re.compile(r'(8|16|32|64)[USF]C\d*', re.IGNORECASE)    # OpenCV's types: a picture only where _LAYOUTS says so
_GREY = ('mono8', 'mono16', '8UC1')
_SUBSAMPLED = (cv2.COLOR_YUV2RGB_UYVY, cv2.COLOR_YUV2RGB_YUY2)


def image_to_rgb(message: Image, significant: SignificantBits | None = None) -> np.ndarray:
    """Convert a sensor_msgs/Image to uint8 [H, W, 3] RGB; rgb8 without padding is a view of the message's data.

    16-bit samples honour `is_bigendian` and are scaled to 8 bits by `significant`, which is the stream's; None: by this image's
    own values. `step` may be larger than a row. Alpha is dropped.
    Raises ImageConversionError for an unsupported encoding, a size of zero, or data that does not fit the header.
    """
    layout = _LAYOUTS.get(message.encoding)
    if layout is None:
        raise ImageConversionError(f'image encoding {message.encoding!r} is not supported; supported are '
                                   + ', '.join(SUPPORTED_ENCODINGS))
    height, width, step = message.height, message.width, message.step
    row_bytes = width * layout.pixel_bytes
    if height == 0 or width == 0 or height * width > MAX_PIXELS:      # a corrupt header must not make the node allocate without bound
        raise _mismatch(message, f'a size between 1x1 and {MAX_PIXELS} pixels')
    if step < row_bytes:
        raise _mismatch(message, f'a step of at least {row_bytes} bytes')
    # The last row's padding may be missing: some drivers send height * step bytes, some end with the last pixel.
    needed = step * (height - 1) + row_bytes
    if len(message.data) < needed:
        raise _mismatch(message, f'at least {needed} bytes of data')
    if layout.to_rgb in _SUBSAMPLED and width % 2:
        raise _mismatch(message, 'an even width, since two pixels share their colour')
    sample = np.uint8 if layout.sample_bytes == 1 else np.dtype('>u2' if message.is_bigendian else '<u2')
    rows = np.ndarray((height, width * layout.samples), sample, message.data, strides=(step, layout.sample_bytes))
    if layout.sample_bytes == 2:
        rows = (significant or SignificantBits()).to_8_bits(rows)
    pixels = rows.reshape(height, width, layout.samples)
    if layout.to_rgb is not None:
        return cv2.cvtColor(np.ascontiguousarray(pixels), layout.to_rgb)
    pixels.flags.writeable = False              # the message's own
    return pixels


def compressed_image_to_rgb(message: CompressedImage, significant: SignificantBits | None = None) -> np.ndarray:
    """Decode a sensor_msgs/CompressedImage (JPEG, PNG and the other kinds of `evitif.pictures`) to uint8 [H, W, 3] RGB.

    Its `format` is read as image_transport's compressed_image_transport writes it: `<encoding>; <codec> compressed <target>`, or the
    codec alone. The colours are those of the JPEG or PNG itself, whatever order of channels the target names: that is how
    OpenCV had them in memory. 16-bit samples are scaled by `significant` as those of raw images are.
    Raises ImageConversionError, naming the format, where it is no picture or lost what makes it one before it was compressed,
    and, with the data length, where the data is damaged.
    """
    encoding, lossy, target = _parse_format(message.format)
    reason = _refusal_of_format(message.format, encoding, lossy, target)
    if reason:
        raise ImageConversionError(f'compressed image format {message.format!r} {reason}')
    try:
        samples = read_samples(message.data)
    except PictureError as error:
        raise ImageConversionError(f'compressed image of format {message.format!r} ({len(message.data)} bytes) cannot be '
                                   f'decoded: {error}') from None
    significant = significant or SignificantBits()
    if samples.dtype == np.uint8 and encoding in _LAYOUTS and _LAYOUTS[encoding].sample_bytes == 2:
        significant.judge_reduced(samples)
    if encoding.startswith('bayer_') and not target:
        mosaic = samples[:, :, 0] if samples.ndim == 3 else samples
        if mosaic.dtype != np.uint8:
            mosaic = significant.to_8_bits(mosaic)
        return cv2.cvtColor(np.ascontiguousarray(mosaic), _LAYOUTS[encoding].to_rgb)
    return to_rgb(samples, significant)


def _parse_format(format: str) -> tuple[str, bool, str]:
    """The encoding before compression ('' if unknown), whether the codec is lossy, and the encoding that was compressed."""
    encoding, separator, compression = format.partition(';')
    if not separator and not _GENERIC.fullmatch(encoding.strip()):
        encoding, compression = '', format          # the codec alone
    words = compression.split()
    target = words[words.index('compressed') + 1:] if 'compressed' in words else []
    return encoding.strip(), bool(words) and words[0].lower() in ('jpeg', 'jpg'), target[0] if target else ''


def _refusal_of_format(format: str, encoding: str, lossy: bool, target: str) -> str:
    """Why images of this format cannot be pictures; empty where they can."""
    layout = _LAYOUTS.get(encoding)
    if 'compresseddepth' in format.lower():
        return 'is a depth image, not a picture'
    if _GENERIC.fullmatch(encoding) and layout is None:
        return f'is a depth image or other data: a picture has an encoding such as rgb8 or mono8, not {encoding}'
    if encoding.startswith('bayer_') and not target and (lossy or layout is None):
        return 'is a mosaic of colours that JPEG has blurred: let the driver publish rgb8, or compress with png'
    subsampled = layout is not None and layout.to_rgb in _SUBSAMPLED
    if (target.startswith('mono') and encoding not in _GREY) or (subsampled and not target):
        return f'has lost its colours before it was compressed: let the driver publish rgb8 instead of {encoding}'
    if layout is not None and layout.sample_bytes == 2 and lossy and not target:
        return 'has values above 255 cut off, since JPEG has 8 bits: compress with png, or let the driver publish 8 bits'
    return ''


def fill_image(message: Image, rgb: np.ndarray) -> Image:
    """Fill a sensor_msgs/Image with uint8 [H, W, 3] RGB as rgb8 and return it. The header stays as it is."""
    _check_rgb(rgb)
    message.height, message.width = rgb.shape[:2]
    message.encoding, message.step, message.is_bigendian = 'rgb8', 3 * rgb.shape[1], 0
    # rclpy checks every element of what it is given, unless it is an array.array already: 5 ms against 0.4 at 720p.
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(rgb).data)
    message.data = data
    return message


def fill_compressed_image(message: CompressedImage, rgb: np.ndarray, format: str = 'jpeg', jpeg_quality: int = 95) -> CompressedImage:
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


def _mismatch(message: Image, expected: str) -> ImageConversionError:
    return ImageConversionError(f'image of encoding {message.encoding}, step {message.step}, width {message.width}, '
                                f'height {message.height} with {len(message.data)} bytes of data: expected {expected}')
