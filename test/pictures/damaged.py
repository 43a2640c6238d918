"""Pictures and what becomes of them on the way."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def photograph(height: int = 240, width: int = 320) -> np.ndarray:
    """uint8 [height, width, 3]: smooth, with edges and some noise, so that it compresses as photographs do."""
    y, x = np.mgrid[0:height, 0:width]
    random = np.random.default_rng(0)
    channels = [120 + 90 * np.sin(x / (11 + 7 * k)) * np.cos(y / (17 - 3 * k)) + 25 * ((x // 40 + y // 30) % 2) for k in range(3)]
    return (np.stack(channels, 2) + random.normal(0, 6, (height, width, 3))).clip(0, 255).astype(np.uint8)


def encoded(kind: str, image: np.ndarray | None = None, mode: str = 'RGB', **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photograph() if image is None else image).convert(mode).save(file, kind, **options)
    return file.getvalue()


def without_middle(data: bytes) -> bytes:
    return data[:len(data) // 2] + data[len(data) // 2 + 1400:]


def cut(data: bytes) -> bytes:
    return data[:len(data) * 6 // 10]


def cut_and_closed(data: bytes) -> bytes:
    return cut(data) + b'\xff\xd9'


def one_bit_wrong(data: bytes) -> bytes:
    at = len(data) * 2 // 3
    return data[:at] + bytes((data[at] ^ 4,)) + data[at + 1:]


def png_chunk(kind: bytes, body: bytes) -> bytes:
    import struct
    import zlib
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(body, zlib.crc32(kind)))
