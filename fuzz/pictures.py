"""Compressed images of any bytes and any format: a picture of 8 bits, or a refusal in one line."""

from __future__ import annotations

import io
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
from PIL import Image

from evitif.pictures.ros_images import ImageConversionError, compressed_image_to_rgb

_FORMATS = ('jpeg', 'rgb8; jpeg compressed bgr8', 'mono16; png compressed ', 'bayer_rggb16; png compressed ', '16UC1; png compressed ')
_PIXELS = 1 << 16           # so that an input takes no second


def decode_picture(data: bytes) -> None:
    """The first byte chooses the format; from 128 on, the bytes before the first zero are it."""
    choice, content = data[:1] or b'\0', data[1:]
    format = _FORMATS[choice[0] % len(_FORMATS)]
    if choice[0] >= 128:
        text, _, content = content.partition(b'\0')
        format = text.decode('utf-8', 'replace')
    with patch('evitif.pictures.reading.MAX_PIXELS', _PIXELS):
        try:
            image = compressed_image_to_rgb(SimpleNamespace(format=format, data=content))
        except ImageConversionError as error:
            assert str(error) and repr(format) in str(error) and 'object at 0x' not in str(error)
            return
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and 0 < image.size <= 3 * _PIXELS


def genuine() -> list[bytes]:
    """A small picture of each kind."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8))
    sixteen = Image.fromarray(np.arange(20, dtype=np.uint16).reshape(4, 5))
    inputs = []
    for image, kinds in ((picture, ('PNG', 'WEBP', 'TIFF', 'BMP', 'PPM', 'GIF')), (picture.convert('L'), ('JPEG',)),
                         (sixteen, ('PNG', 'TIFF'))):
        for kind in kinds:
            file = io.BytesIO()
            image.save(file, kind, optimize=True)
            inputs.append(b'\0' + file.getvalue())
    return [*inputs, b'\0P5 2 1 4095\n' + bytes(4), b'\x802FC1; png compressed \0' + inputs[1]]


TARGETS = {'pictures': decode_picture}
