"""A folder of images: the ImageFolder layout (one folder a class) or a flat folder without labels."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from evitif.datasets.errors import DatasetError
from evitif.datasets.sample import Sample

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.ppm', '.tif', '.tiff')
_WORDNET_ID = re.compile(r'n\d{8}')
_SPLITS = {'train': ('train',), 'test': ('test', 'val', 'validation')}


class ImageFolder:
    """Images below `folder`, sorted by name; classes are the folders' names in alphabetical order.

    Where every class folder is named by a WordNet id of ImageNet-1k (n01440764), class ids are those of ImageNet's
    1,000 classes instead of the rank (`timm.data.ImageNetInfo`). Raises DatasetError for a folder that is missing,
    an empty class, or a folder without images.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise DatasetError(f'image folder {str(folder)!r} does not exist or is not a folder')
        classes = sorted(entry for entry in self.folder.iterdir() if entry.is_dir() and not entry.name.startswith('.'))
        self.items: list[tuple[Path, int, str]] = []
        if classes:
            names = [entry.name for entry in classes]
            ids = _imagenet_ids(names)
            self.class_names = tuple(names) if ids is None else _imagenet_names()
            for rank, entry in enumerate(classes):
                images = _images(entry)
                if not images:
                    raise DatasetError(f'class folder {entry} holds no image (expected one of {", ".join(EXTENSIONS)})')
                self.items += [(path, rank if ids is None else ids[rank], entry.name) for path in images]
        else:
            self.class_names = ()
            self.items = [(path, -1, '') for path in _images(self.folder)]
            if not self.items:
                raise DatasetError(f'{self.folder} holds no image (expected one of {", ".join(EXTENSIONS)}) '
                                   'and no class folder')

    @classmethod
    def at_split(cls, folder: Path | str, split: str) -> ImageFolder:
        """Open `folder/train`, `folder/test` or `folder/val` where there is one, else `folder` itself."""
        if split not in _SPLITS:
            raise DatasetError(f'split has to be one of {", ".join(_SPLITS)}, not {split!r}')
        for name in _SPLITS[split]:
            below = Path(folder).expanduser() / name
            if below.is_dir():
                return cls(below)
        return cls(folder)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        path, class_id, label = self.items[index]
        return Sample(read_rgb(path), class_id, label, str(path.relative_to(self.folder)))


def read_rgb(path: Path) -> np.ndarray:
    """Read an image file as uint8 [H, W, 3] RGB. Raises DatasetError, naming the file."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert('RGB'))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        raise DatasetError(f'{path}: cannot be read as an image: {error}') from None


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob('*') if path.suffix.lower() in EXTENSIONS and path.is_file())


def _imagenet_names() -> tuple[str, ...]:
    from evitif.model.timm_import import timm
    return tuple(timm.data.ImageNetInfo().label_names())


def _imagenet_ids(names: list[str]) -> list[int] | None:
    if not all(_WORDNET_ID.fullmatch(name) for name in names):
        return None
    rank = {name: index for index, name in enumerate(_imagenet_names())}
    return [rank[name] for name in names] if all(name in rank for name in names) else None
