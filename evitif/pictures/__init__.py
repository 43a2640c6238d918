"""Encoded images to pixels: the one way in which image files and compressed image messages are read.

A file and a message with the same bytes give the same pixels: turned as EXIF says, 16-bit samples brought to 8 bits by the same
rule, and a damaged image refused whatever its decoder could still make of it.
"""

from evitif.pictures.errors import PictureError
from evitif.pictures.reading import KINDS, MAX_PIXELS, read_samples
from evitif.pictures.significant_bits import SignificantBits, to_rgb

__all__ = ['KINDS', 'MAX_PIXELS', 'PictureError', 'SignificantBits', 'read_samples', 'to_rgb']
