"""JPEG by libjpeg-turbo, whose warnings are refusals.

libjpeg decodes damaged data as far as it can and warns. OpenCV and Pillow drop the warning and return a picture that lacks bytes in the
middle, or ends in what was in memory. simplejpeg raises, and is no slower than `cv2.imdecode`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from evitif.pictures.errors import PictureError

SIGNATURE = b'\xff\xd8\xff'
_NEXT_MARKER = re.compile(rb'\xff[\x01-\xcf\xd8-\xfe]')      # in entropy-coded data, where FF 00 is a byte and FF D0..D7 a restart
_STANDALONE = {0x01, *range(0xd0, 0xd9)}
_SOS, _EOI, _APP1 = 0xda, 0xd9, 0xe1
_FRAMES = {0xc0, 0xc1, 0xc2, 0xc3, 0xc5, 0xc6, 0xc7, 0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf}
_PROGRESSIVE = {0xc2, 0xc6, 0xca, 0xce}
_NOT_SENT = 255


@dataclass
class Structure:
    """What the markers of a JPEG say, as far as it matters here."""

    has_app1: bool = False                  # Exif or XMP: the orientation may be there
    progressive: bool = False
    low_bits: dict[int, list[int]] = field(default_factory=dict)     # by component: for each of 64 coefficients, the bits still missing

    @property
    def complete(self) -> bool:
        """Whether the scans hold all of every component. A progressive JPEG that ends early decodes without a warning, at low quality."""
        wanted = 64 if self.progressive else 1
        return all(not any(bits[:wanted]) for bits in self.low_bits.values())


def size(data: memoryview) -> tuple[int, int]:
    """(height, width) of a JPEG. Raises PictureError where the header cannot be read."""
    library = _library()
    try:
        height, width = library.decode_jpeg_header(data)[:2]
    except ValueError as error:
        raise PictureError(f'the JPEG is damaged: {error}') from None
    return int(height), int(width)


def decode(data: memoryview) -> tuple[np.ndarray, Structure]:
    """A JPEG as uint8 [H, W, 3] RGB, not turned, and its structure. Raises PictureError where the decoder warns."""
    library = _library()
    try:
        image = library.decode_jpeg(data, 'RGB')
    except ValueError as error:
        raise PictureError(f'the JPEG is damaged: {error}') from None
    structure = structure_of(data)
    if not structure.complete:
        raise PictureError('the JPEG is damaged: it ends before its last scan')
    return image, structure


def structure_of(data: memoryview) -> Structure:
    """Walk the markers (ITU-T T.81, annex B) of a JPEG that the decoder accepted."""
    structure, at = Structure(), 2
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xff or marker == _EOI:
            break
        if marker == 0xff or marker in _STANDALONE:
            at += 1 if marker == 0xff else 2
            continue
        body = data[at + 4:at + 2 + int.from_bytes(data[at + 2:at + 4], 'big')]
        at += 4 + len(body)
        if marker == _APP1:
            structure.has_app1 = True
        elif marker in _FRAMES:
            structure.progressive = marker in _PROGRESSIVE
            structure.low_bits = {body[6 + 3 * index]: [_NOT_SENT] * 64 for index in range(body[5])}
        elif marker == _SOS:
            _note_scan(structure, body)
            if not structure.progressive and structure.complete:     # one scan has it all, as nearly always
                break
            found = _NEXT_MARKER.search(data, at)
            at = found.start() if found else len(data)
    return structure


def _note_scan(structure: Structure, body: memoryview) -> None:
    count = body[0]
    first, last, approximation = body[1 + 2 * count:4 + 2 * count]
    for component in body[1:1 + 2 * count:2]:
        if component in structure.low_bits:
            structure.low_bits[component][first:last + 1] = [approximation & 15] * (last + 1 - first)


def _library():
    try:
        import simplejpeg
    except ImportError:
        raise PictureError('JPEG images need simplejpeg, which is not installed: `python3 -m pip install simplejpeg`') from None
    return simplejpeg
