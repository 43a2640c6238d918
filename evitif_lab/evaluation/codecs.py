"""JPEG and WebP of the whole image: what a robot would send otherwise."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

OPTIONS = {'JPEG': {'optimize': True}, 'WebP': {'method': 6}}
LOSSLESS = 'lossless'       # WebP's highest quality


def through(image: np.ndarray, codec: str, quality: int | str) -> tuple[np.ndarray, int]:
    """An image uint8 [H, W, 3] as it comes out of the codec (a key of OPTIONS) at a quality of 0 to 100, or LOSSLESS, and the
    bytes that it took."""
    file = io.BytesIO()
    how = {'lossless': True} if quality == LOSSLESS else {'quality': quality}
    Image.fromarray(image).save(file, codec, **how, **OPTIONS[codec])
    size = file.tell()
    with Image.open(file) as decoded:
        return np.asarray(decoded.convert('RGB')), size


def mosaics_through(image: np.ndarray, patches: np.ndarray, patch_size: tuple[int, int], count: int, codec: str,
                    quality: int) -> tuple[np.ndarray, list[int]]:
    """Patches of an image as `count` mosaics that are each decoded alone: every count-th patch in one strip.

    :param image: uint8 [H, W, 3], H and W multiples of `patch_size` (height, width)
    :param patches: int64 [k], those to send, row by row
    :return: the image with what was sent, 0 elsewhere, and the bytes of each mosaic
    """
    height, width = patch_size
    columns = image.shape[1] // width
    found, sizes = np.zeros_like(image), []
    for first in range(min(count, len(patches))):
        part = patches[first::count]
        side = int(np.ceil(len(part)**0.5))
        mosaic = np.zeros((-(-len(part) // side) * height, side * width, 3), np.uint8)
        places = [(slice(k // side * height, (k // side + 1) * height), slice(k % side * width, (k % side + 1) * width))
                  for k in range(len(part))]
        sources = [(slice(patch // columns * height, (patch // columns + 1) * height),
                    slice(patch % columns * width, (patch % columns + 1) * width)) for patch in part]
        for place, source in zip(places, sources, strict=True):
            mosaic[place] = image[source]
        if len(part) < mosaic.shape[0] * mosaic.shape[1] // (height * width):       # the rest repeats the last one: cheap to code
            for k in range(len(part), mosaic.shape[0] // height * side):
                mosaic[k // side * height:(k // side + 1) * height, k % side * width:(k % side + 1) * width] = image[sources[-1]]
        decoded, size = through(mosaic, codec, quality)
        sizes.append(size)
        for place, source in zip(places, sources, strict=True):
            found[source] = decoded[place]
    return found, sizes
