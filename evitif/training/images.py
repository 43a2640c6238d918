"""A data set in memory as uint8 tensors, and augmentation of whole batches on the model's device."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from evitif.datasets import DatasetError, FashionMnist, ImageDataset

MEMORY_LIMIT_BYTES = 8 << 30


def load_images(dataset: ImageDataset, size: int, channels: int = 3,
                title: str = 'images') -> tuple[torch.Tensor, torch.Tensor]:
    """Return images uint8 [n, channels, size, size] (shorter side resized, centre cropped) and class ids int64 [n].

    Raises DatasetError when the images would not fit into MEMORY_LIMIT_BYTES.
    """
    needed = len(dataset) * channels * size * size
    if needed > MEMORY_LIMIT_BYTES:
        raise DatasetError(f'{len(dataset)} images of {size}x{size} need {needed / 2**30:.1f} GiB of memory; the limit '
                           f'is {MEMORY_LIMIT_BYTES / 2**30:.0f} GiB')
    if isinstance(dataset, FashionMnist) and size == 28:
        grey = torch.from_numpy(dataset.grey.copy())[:, None]
        return grey.repeat(1, channels, 1, 1), torch.from_numpy(dataset.class_ids.astype(np.int64))
    images = torch.empty(len(dataset), channels, size, size, dtype=torch.uint8)
    class_ids = torch.empty(len(dataset), dtype=torch.int64)
    for index in tqdm(range(len(dataset)), desc=f'reading {title}', unit='image', leave=False, mininterval=1):
        sample = dataset[index]
        images[index] = torch.from_numpy(_square(sample.image, size)).permute(2, 0, 1)[:channels]
        class_ids[index] = sample.class_id
    return images, class_ids


def _square(image: np.ndarray, size: int) -> np.ndarray:
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image.copy()
    scale = size / min(height, width)
    resized = Image.fromarray(image).resize((max(size, round(width * scale)), max(size, round(height * scale))),
                                            Image.Resampling.BICUBIC)
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    return np.array(resized.crop((left, top, left + size, top + size)))


class Normalise:
    """uint8 [B, C, H, W] to float32, (x / 255 - mean) / std, as timm's preprocessing does."""

    def __init__(self, data_config: dict, device: torch.device | str = 'cpu'):
        self.mean = torch.tensor(data_config['mean'], device=device)[:, None, None] * 255
        self.std = torch.tensor(data_config['std'], device=device)[:, None, None] * 255

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return (images.float() - self.mean) / self.std


def shift_and_flip(images: torch.Tensor, pixels: int, generator: torch.Generator, flip: bool = True) -> torch.Tensor:
    """Shift each image [B, C, H, W] by up to `pixels` (reflected at the border) and mirror half of them."""
    batch, _, height, width = images.shape
    padded = torch.nn.functional.pad(images.float(), [pixels] * 4, mode='reflect')
    top = torch.randint(0, 2 * pixels + 1, (batch, 1), generator=generator)
    left = torch.randint(0, 2 * pixels + 1, (batch, 1), generator=generator)
    rows = (top + torch.arange(height)).to(images.device)
    columns = left + torch.arange(width)
    if flip:
        mirrored = torch.rand(batch, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    columns = columns.to(images.device)
    index = torch.arange(batch, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def erase(images: torch.Tensor, probability: float, generator: torch.Generator) -> torch.Tensor:
    """Random erasing (Zhong et al., arXiv 1708.04896): a rectangle of a random grey value in some of the images."""
    batch, _, height, width = images.shape
    sides = torch.rand(batch, 2, generator=generator) * 0.35 + 0.1
    corner = torch.rand(batch, 2, generator=generator) * (1 - sides)
    y = torch.arange(height) / height
    x = torch.arange(width) / width
    rows = (y >= corner[:, :1]) & (y < (corner + sides)[:, :1])
    columns = (x >= corner[:, 1:]) & (x < (corner + sides)[:, 1:])
    chosen = torch.rand(batch, generator=generator) < probability
    mask = (rows[:, None, :, None] & columns[:, None, None, :] & chosen[:, None, None, None]).to(images.device)
    grey = (torch.rand(batch, 1, 1, 1, generator=generator) * 255).to(images.device)
    return torch.where(mask, grey, images)


def mixup(images: torch.Tensor, targets: torch.Tensor, alpha: float,
          generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup (Zhang et al., arXiv 1710.09412) of images [B, …] and one-hot or soft targets [B, classes]."""
    if alpha <= 0:
        return images, targets
    seed = int(torch.randint(0, 2**31, (1,), generator=generator))
    weight = float(np.random.default_rng(seed).beta(alpha, alpha))
    order = torch.randperm(len(images), generator=generator).to(images.device)
    return weight * images + (1 - weight) * images[order], weight * targets + (1 - weight) * targets[order]
