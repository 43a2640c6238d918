"""A data set in memory as uint8 tensors, and augmentation of whole batches on the model's device."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Subset

from evitif.datasets import FashionMnist, ImageDataset, open_images
from evitif.image_size import size_text
from evitif.model.field_of_view import fit_of
from evitif.model.preprocess import Preprocessor
from evitif.vocabulary import Fit
from evitif.wording import few
from evitif_lab.commands.progress import Progress
from evitif_lab.trials.memory import require_memory


class Seen:
    """Pictures as a model that is trained sees them: all of the shorter side where its preprocessing crops, else as the robot does.

    :param like: a square's side in pixels, or the data_config of a model (`evitif.model.preprocess`) with its size and fit
    """

    def __init__(self, like: int | dict):
        config = {'input_size': (3, like, like), 'mean': (0.5,) * 3, 'std': (0.5,) * 3, 'interpolation': 'bicubic'} \
            if isinstance(like, int) else like
        self._preprocessor = Preprocessor({**config, 'crop_pct': 1.0})
        self.size, self.fit = self._preprocessor.image_size, fit_of(config)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] to uint8 [h, w, 3]."""
        of_a_square = self.size[0] == self.size[1] and self.fit == Fit.CROP
        return square(image, self.size[0]) if of_a_square else self._preprocessor.pixels(image)

    def __str__(self) -> str:
        return size_text(self.size)


def load_images(dataset: ImageDataset, like: int | dict, title: str = 'images') -> tuple[torch.Tensor, torch.Tensor]:
    """Return images uint8 [n, 3, h, w], as `Seen` sees them, and class ids int64 [n].

    Raises MemoryError, before the first is read, when the images would not fit.
    """
    seen = Seen(like)
    require_memory(len(dataset) * 3 * math.prod(seen.size), f'{len(dataset)} images of {seen}')
    if isinstance(dataset, FashionMnist) and seen.size == (28, 28):
        grey = torch.from_numpy(dataset.grey.copy())[:, None]
        return grey.repeat(1, 3, 1, 1), torch.from_numpy(dataset.class_ids.astype(np.int64))
    images = torch.empty(len(dataset), 3, *seen.size, dtype=torch.uint8)
    class_ids = torch.empty(len(dataset), dtype=torch.int64)
    for index in Progress(range(len(dataset)), desc=f'reading {title}', unit='image', leave=False):
        sample = dataset[index]
        images[index] = torch.from_numpy(seen(sample.image)).permute(2, 0, 1)
        class_ids[index] = sample.class_id
    return images, class_ids


def load_views(sources: list[str], like: int | dict, views: list[int] | None = None, limits: list[int] | None = None,
               seed: int = 0) -> torch.Tensor:
    """The training images of several data sets as uint8 [n, 3, h, w], as `Seen` sees them; labels are not asked for.

    :param views: for each source, how many random crops of an image to take (a quarter to the whole of its area, aspect
        3:4 to 4:3, half of them mirrored: timm's and torchvision's RandomResizedCrop); None: each image once as it is
    :param limits: for each source, how many of its images to take at most, drawn at random; None: all
    :raises ValueError: as many numbers as sources were expected
    :raises DatasetError: a source cannot be opened
    :raises MemoryError: the images do not fit, found out before the first is read
    """
    datasets, seen = open_sources(sources, views, limits), Seen(like)
    random = np.random.default_rng(seed)
    chosen = [np.sort(random.permutation(len(dataset))[:limit]) for dataset, limit in
              zip(datasets, limits or [None] * len(sources), strict=True)]
    total = sum(len(indices) * count for indices, count in zip(chosen, views or [1] * len(sources), strict=True))
    require_memory(total * 3 * math.prod(seen.size), f'{total} images of {seen}')
    if views is None:
        return torch.cat([load_images(dataset if len(indices) == len(dataset) else Subset(dataset, indices.tolist()), like,
                                      title='training images')[0]
                          for dataset, indices in zip(datasets, chosen, strict=True)])
    crops = torch.empty(total, 3, *seen.size, dtype=torch.uint8)
    at = 0
    with Progress(total=total, desc='cropping training images', unit='crop', leave=False) as bar:
        for dataset, indices, count in zip(datasets, chosen, views, strict=True):
            for index in indices:
                image = Image.fromarray(dataset[int(index)].image)
                for _ in range(count):
                    crops[at] = torch.from_numpy(random_crop(image, seen, random)).permute(2, 0, 1)
                    at += 1
                bar.update(count)
    return crops


def open_sources(sources: list[str], views: list[int] | None = None, limits: list[int] | None = None) -> list[ImageDataset]:
    """The training images of several data sets, of which none is read yet; raises as `load_views`."""
    for what, numbers in (('views', views), ('limits', limits)):
        if numbers is not None and len(numbers) != len(sources):
            raise ValueError(f'{what} are {few(numbers)}: expected one number for each of the {len(sources)} data sets')
    return [open_images(source, 'train') for source in sources]


def random_crop(image: Image.Image, seen: Seen, random: np.random.Generator, least_area: float = 0.25) -> np.ndarray:
    """A crop of `least_area` to the whole of an image, as uint8 [h, w, 3]; half of them mirrored. Its aspect is 3:4 to 4:3 of what the
    model sees, or where that is the whole picture, of the picture's."""
    area, aspect = random.uniform(least_area, 1), np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
    aspect *= seen.size[1] / seen.size[0] if seen.fit == Fit.CROP else image.width / image.height
    side = (image.width * image.height * area)**0.5
    width, height = min(image.width, side * aspect**0.5), min(image.height, side / aspect**0.5)
    left, top = random.uniform(0, image.width - width), random.uniform(0, image.height - height)
    box = left, top, left + width, top + height
    if seen.fit == Fit.PAD:
        crop = seen(np.array(image.crop((math.floor(left), math.floor(top), math.ceil(box[2]), math.ceil(box[3])))))
    else:
        crop = np.array(image.resize(seen.size[::-1], Image.Resampling.BICUBIC, box))
    return crop[:, ::-1].copy() if random.random() < 0.5 else crop


def square(image: np.ndarray, size: int) -> np.ndarray:
    """An image as uint8 [size, size, 3]: its shorter side resized, the middle of the longer one."""
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image.copy()
    scale = size / min(height, width)
    resized = Image.fromarray(image).resize((max(size, round(width * scale)), max(size, round(height * scale))),
                                            Image.Resampling.BICUBIC)
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    return np.array(resized.crop((left, top, left + size, top + size)))


class Normalise:
    """uint8 [B, 3, H, W] to float32 [B, C, H, W], (x / 255 - mean) / std, as `evitif.model.preprocess` does for one image: a model of
    other than three channels gets their mean in each."""

    def __init__(self, data_config: dict, device: torch.device | str = 'cpu'):
        self.channels = int(data_config['input_size'][0])
        self.mean = torch.tensor(data_config['mean'], device=device)[:, None, None] * 255
        self.std = torch.tensor(data_config['std'], device=device)[:, None, None] * 255

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise a batch."""
        normal = (images.float() - self.mean) / self.std
        return normal if self.channels == 3 else normal.mean(1, keepdim=True).expand(-1, self.channels, -1, -1)


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
