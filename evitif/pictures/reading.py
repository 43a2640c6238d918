"""The bytes of an image file or of a compressed image message to samples.

The bytes say what kind it is, never a name. JPEG: see jpeg.py. PNG: checked chunk by chunk, then decoded by OpenCV, which keeps 16 bits in
every layout; Pillow does not. All others: Pillow.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import warnings
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from PIL import Image

from evitif.pictures import jpeg
from evitif.pictures.errors import PictureError

MAX_PIXELS = 178_956_970        # Pillow's own limit: more is taken for an attack on the memory
KINDS = ('JPEG', 'PNG', 'WebP', 'TIFF', 'BMP', 'PPM', 'GIF', 'AVIF')
_PILLOW_FORMATS = ('WEBP', 'TIFF', 'BMP', 'DIB', 'PPM', 'GIF', 'AVIF')
_PNG = b'\x89PNG\r\n\x1a\n'
_PNG_TEXT = (b'Raw profile type exif', b'Raw profile type APP1', b'XML:com.adobe.xmp')     # where programs hide an orientation
_WIDE_PPM = re.compile(rb'P([56])(?:\s+(?:#[^\n]*\n\s*)*)(\d{1,6})\s+(?:#[^\n]*\n\s*)*(\d{1,6})\s+(?:#[^\n]*\n\s*)*(\d{3,5})\s')
Image.init()                    # fills Image.OPEN
logging.getLogger('PIL').addHandler(logging.NullHandler())      # the refusal repeats what it says of a damaged TIFF
_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC = 0x0112, 258, 262
_WHITE_IS_ZERO = 0


def read_samples(data: bytes | memoryview | array) -> np.ndarray:
    """Decode the picture in `data`, upright as its EXIF orientation says; of several frames the first.

    Returns RGB uint8 [H, W, 3], or, of more than 8 bits, the file's own samples: uint16 or uint32, [H, W] or RGB [H, W, 3]. Alpha is
    dropped. Floats from 0 to 1 become 8 bits.
    Raises PictureError where the data is damaged, too large, or no picture that can be read.
    """
    data = memoryview(data).cast('B')
    try:
        samples, orientation = _decode(data)
    except PictureError:
        raise
    except MemoryError:
        raise PictureError('it does not fit into memory') from None
    except Exception as error:                      # decoders raise many kinds for bytes that they do not expect
        raise PictureError(_reason(error)) from None
    if 0 in samples.shape:
        raise PictureError('it has no pixels')
    return upright(samples, orientation)


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror [H, W, ...] as the EXIF orientation 1 to 8 says (CIPA DC-008, table 6); any other leaves it."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)


def _decode(data: memoryview) -> tuple[np.ndarray, int]:
    start = bytes(data[:8])
    if start.startswith(jpeg.SIGNATURE):
        _check_size(*jpeg.size(data))
        image, structure = jpeg.decode(data)
        return image, _orientation(data, 'JPEG') if structure.has_app1 else 1
    if start == _PNG:
        bits, may_be_turned = _check_png(data)
        return _decode_by_opencv(data, bits > 8), _orientation(data, 'PNG') if may_be_turned else 1
    if (header := _WIDE_PPM.match(data[:1000])) and int(header[4]) > 255:
        return _decode_wide_ppm(data, header), 1
    return _decode_by_pillow(data)


def _check_png(data: memoryview) -> tuple[int, bool]:
    """Check every chunk's CRC and that none is missing; return the bits of a sample, and whether an orientation may be in it."""
    at, kind, bits, may_be_turned = len(_PNG), b'', 8, False
    while kind != b'IEND':
        if at + 12 > len(data):
            raise PictureError('the PNG is damaged: it ends before its last chunk')
        length, kind = struct.unpack('>I4s', data[at:at + 8])
        body, at = data[at + 8:at + 8 + length], at + 12 + length
        if at > len(data):
            raise PictureError('the PNG is damaged: it ends before its last chunk')
        if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(data[at - 4:at], 'big'):
            raise PictureError(f'the PNG is damaged: the checksum of a chunk {kind.decode("latin-1")} is wrong')
        if kind == b'IHDR':
            width, height, bits = struct.unpack('>IIB', body[:9])
            _check_size(height, width)
        may_be_turned = may_be_turned or kind == b'eXIf' or (kind in (b'tEXt', b'zTXt', b'iTXt') and bytes(body[:24]).startswith(_PNG_TEXT))
    return bits, may_be_turned


def _decode_by_opencv(data: memoryview, wide: bool) -> np.ndarray:
    flags = cv2.IMREAD_UNCHANGED if wide else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if decoded is None:
        raise PictureError('it is damaged: the decoder refuses it')
    if decoded.ndim == 2:
        return decoded
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB if decoded.shape[2] == 3 else cv2.COLOR_BGRA2RGB)


def _decode_by_pillow(data: memoryview) -> tuple[np.ndarray, int]:
    with _opened(data, _PILLOW_FORMATS) as image:
        _check_size(image.height, image.width)
        tags = getattr(image, 'tag_v2', {})
        orientation = 1 if image.format == 'TIFF' else image.getexif().get(_ORIENTATION, 1)     # Pillow turns a TIFF when it loads it
        image.load()
        if image.mode.startswith(('I', 'F')):
            if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
                raise PictureError('its samples have more than 8 bits and 0 is white: expected 0 to be black')
            return _wide_grey(np.asarray(image)), orientation
        if max(tags.get(_BITS_PER_SAMPLE, (8,))) > 8 and image.mode in ('RGB', 'RGBA', 'RGBX', 'LA'):
            return _decode_by_opencv(data, wide=True), 1        # it turns a TIFF too
        if image.mode == 'P':                                   # a palette may carry transparency, which is dropped as everywhere
            image = image.convert('RGBA')
        return np.asarray(image.convert('RGB')), orientation


def _wide_grey(samples: np.ndarray) -> np.ndarray:
    lowest, highest = samples.min(), samples.max()
    if samples.dtype.kind == 'f':
        if not (lowest >= 0 and highest <= 1):                  # NaN is refused as well
            raise PictureError(f'its samples are floats from {lowest:.6g} to {highest:.6g}: expected 0 (black) to 1 (white)')
        return np.repeat((samples * 255 + 0.5).astype(np.uint8)[:, :, None], 3, axis=2)
    if lowest < 0:
        raise PictureError(f'its samples begin at {lowest}: expected none below 0')
    return samples.astype(np.uint16 if highest < 1 << 16 else np.uint32)


def _decode_wide_ppm(data: memoryview, header: re.Match) -> np.ndarray:
    """A binary PGM or PPM of 16 bits (netpbm's pgm(5), ppm(5)); a range that it declares is brought to all 16 bits."""
    channels, width, height, highest = 3 if header[1] == b'6' else 1, int(header[2]), int(header[3]), int(header[4])
    _check_size(height, width)
    if len(data) - header.end() < 2 * width * height * channels:
        raise PictureError('it is damaged: it ends before its last row')
    samples = np.frombuffer(data, '>u2', width * height * channels, header.end()).astype(np.uint16)
    if highest < 65535:
        samples = (np.minimum(samples, highest).astype(np.uint32) * 65535 // highest).astype(np.uint16)
    return samples.reshape((height, width, 3) if channels == 3 else (height, width))


def _orientation(data: memoryview, kind: str) -> int:
    """The EXIF orientation as Pillow finds it; 1 where there is none or it cannot be read."""
    try:
        with _opened(data, (kind,)) as image:
            return image.getexif().get(_ORIENTATION, 1)
    except Exception:               # damage there leaves the picture as it is
        return 1


@contextmanager
def _opened(data: memoryview, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')         # about what is refused here, or does not matter
        with Image.open(io.BytesIO(data), formats=[name for name in formats if name in Image.OPEN]) as image:
            yield image


def _check_size(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise PictureError(f'it has {width}x{height} pixels: expected at most {MAX_PIXELS} in all')


def _reason(error: Exception) -> str:
    text = str(error).split('<_io.BytesIO')[0].strip()
    if not text or text == 'cannot identify image file':
        return f'it is none of {", ".join(KINDS)}, or its beginning is damaged'
    return text.splitlines()[0]
