"""The image stream that every contestant gets: images of a data set where it is there, else noise with the spectrum of photographs."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from evitif.datasets import DatasetError, open_images


def image_stream(data: str | None, size: tuple[int, int], count: int) -> tuple[list[np.ndarray], str]:
    """
    Images uint8 [h, w, 3] and a sentence about what they are.

    :param data: a folder of images, or None
    :param size: height and width; each image is cropped to the middle of that shape and scaled
    """
    if data is not None and Path(data).exists():
        try:
            dataset = open_images(data, 'test')
            chosen = np.random.default_rng(0).permutation(len(dataset))[:count]
            return [_fit(dataset[int(index)].image, size) for index in chosen], f'{len(chosen)} images of {data}'
        except DatasetError:
            pass
    return [natural_noise(size, seed) for seed in range(count)], f'{count} images of noise with the spectrum of photographs'


def natural_noise(size: tuple[int, int], seed: int) -> np.ndarray:
    """uint8 [h, w, 3]: an amplitude spectrum of 1/f, as natural images have (Field, JOSA A 1987), grey on the whole."""
    height, width = size
    generator = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    luminance, colour = (np.fft.irfft2(np.fft.rfft2(generator.standard_normal((channels, height, width))) / frequency, size)
                         for channels in (1, 3))
    image = luminance / luminance.std() + 0.3 * colour / colour.std()
    return np.clip(128 + 45 * image, 0, 255).astype(np.uint8).transpose(1, 2, 0)


def encode(image: np.ndarray, codec: str, quality: int) -> bytes:
    """
    uint8 [h, w, 3] as a file.

    :param codec: JPEG or WEBP
    :param quality: 1 to 100
    """
    file = io.BytesIO()
    options = {'optimize': True} if codec == 'JPEG' else {'method': 4}
    Image.fromarray(image).save(file, codec, quality=quality, **options)
    return file.getvalue()


def decode(data: bytes) -> np.ndarray:
    """A file of `encode` as uint8 [h, w, 3]."""
    return np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))


def _fit(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = image.shape[:2]
    scale = min(height / size[0], width / size[1])
    h, w = round(size[0] * scale), round(size[1] * scale)
    top, left = (height - h) // 2, (width - w) // 2
    cropped = Image.fromarray(image[top:top + h, left:left + w])
    return np.asarray(cropped.resize((size[1], size[0]), Image.Resampling.BICUBIC))
