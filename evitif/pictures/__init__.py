"""Encoded images to pixels, the same for image files and compressed image messages.

A file and a message with the same bytes give the same pixels: turned as EXIF says, with 16-bit samples reduced to 8 bits by the same rule.
A damaged image is refused, even if its decoder could still show part of it.
"""

from evitif.pictures.errors import PictureError
from evitif.pictures.reading import KINDS, MAX_PIXELS, read_samples
from evitif.pictures.significant_bits import SignificantBits, to_rgb

__all__ = ['KINDS', 'MAX_PIXELS', 'PictureError', 'SignificantBits', 'read_samples', 'to_rgb']
