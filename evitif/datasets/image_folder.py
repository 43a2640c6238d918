"""A folder of images: the ImageFolder layout (one folder a class) or a flat folder without labels."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from evitif.datasets.class_names import ids_by_name
from evitif.datasets.errors import DatasetError
from evitif.datasets.sample import Sample

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.ppm', '.tif', '.tiff')
_WORDNET_ID = re.compile(r'n\d{8}')
_SPLITS = {'train': ('train',), 'test': ('test', 'val', 'validation')}


class ImageFolder:
    """Images below `folder`, sorted by name; classes are the folders' names in alphabetical order.

    Where every class folder is named by a WordNet id of ImageNet-1k (n01440764), class ids are those of ImageNet's
    1,000 classes instead of the rank (`timm.data.ImageNetInfo`). With `class_names`, a class's id is its folder's place
    in that list, as a model that knows those classes numbers them; with `ranked`, it is the rank whatever the names.
    Raises DatasetError for a folder that is missing, an empty class, a class that `class_names` lacks, or a folder
    without images.
    """

    def __init__(self, folder: Path | str, class_names: tuple[str, ...] | None = None, ranked: bool = False):
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise DatasetError(f'image folder {str(folder)!r} does not exist or is not a folder')
        classes = sorted(entry for entry in self.folder.iterdir() if entry.is_dir() and not entry.name.startswith('.'))
        self.items: list[tuple[Path, int, str]] = []
        if classes:
            names = [entry.name for entry in classes]
            ids = None if ranked else self._ids_among(class_names, names) if class_names else _imagenet_ids(names)
            self.class_names = tuple(names) if ids is None else tuple(class_names or _imagenet_names())
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
    def at_split(cls, folder: Path | str, split: str, **numbering) -> ImageFolder:
        """Open `folder/train`, `folder/test` or `folder/val` where there is one, else `folder` itself."""
        if split not in _SPLITS:
            raise DatasetError(f'split has to be one of {", ".join(_SPLITS)}, not {split!r}')
        for name in _SPLITS[split]:
            below = Path(folder).expanduser() / name
            if below.is_dir():
                return cls(below, **numbering)
        return cls(folder, **numbering)

    def _ids_among(self, class_names: tuple[str, ...], names: list[str]) -> list[int]:
        ids = ids_by_name(class_names)
        unknown = [name for name in names if name not in ids]
        if unknown:
            raise DatasetError(f'{self.folder}: the class folder {unknown[0]!r} is none of the model\'s {len(class_names)} '
                               f'classes ({", ".join(class_names[:3])}, …)')
        shared = [name for name in names if len(ids[name]) > 1]
        if shared:
            raise DatasetError(f'{self.folder}: the class folder {shared[0]!r} may be any of the model\'s classes '
                               f'{", ".join(map(str, ids[shared[0]]))}, which have that name: expected names that differ in the model')
        return [ids[name][0] for name in names]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        path, class_id, label = self.items[index]
        return Sample(read_rgb(path), class_id, label, str(path.relative_to(self.folder)))


def split_folder(folder: Path | str, output: Path | str, every: int) -> dict[str, int]:
    """Divide the images of `folder` into `output`/train and `output`/val, by symbolic links; return how many are in each.

    The images are taken in order of their paths, and each `every`-th judges: the same ones whenever it is done.

    :raises DatasetError: `every` is below 2, the folder holds no image, or the output exists and is not empty
    """
    folder, output = Path(folder).expanduser(), Path(output).expanduser()
    if every < 2:
        raise DatasetError(f'every is {every}: expected at least 2, so that something is left to train on')
    if not folder.is_dir() or not (images := _images(folder)):
        raise DatasetError(f'image folder {str(folder)!r} does not exist or holds no image')
    if output.exists() and any(output.iterdir()):
        raise DatasetError(f'{output} exists and is not empty: expected a new folder')
    counts = {'train': 0, 'val': 0}
    for index, path in enumerate(images):
        part = 'val' if index % every == every - 1 else 'train'
        link = output / part / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())
        counts[part] += 1
    return counts


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
