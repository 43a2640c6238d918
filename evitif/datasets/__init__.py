"""Images with known labels: Fashion-MNIST and folders in the ImageFolder layout."""

from collections.abc import Callable
from pathlib import Path

from evitif.datasets.errors import DatasetError
from evitif.datasets.fashion_mnist import FashionMnist
from evitif.datasets.files import EXTENSIONS
from evitif.datasets.image_files import ImageFile
from evitif.datasets.image_folder import ImageFolder, say_once
from evitif.datasets.layout import split_of
from evitif.datasets.sample import ImageDataset, Sample

__all__ = ['EXTENSIONS', 'DatasetError', 'FashionMnist', 'ImageDataset', 'ImageFile', 'ImageFolder', 'Sample', 'judging_split',
           'open_images', 'say_once']


def open_images(source: str, split: str = 'test', class_names: tuple[str, ...] | None = None, ranked: bool = False,
                significant_bits: int = 0, say: Callable[[str], None] = say_once) -> ImageDataset:
    """Open a data set by name (`fashion-mnist`), a folder of images, or one image file.

    `split` is `train` or `test`. A folder with `train` and `val` (or `test`) inside is opened at that split, any other folder whole; the
    `split` of the returned data set says which. `class_names`, `ranked`, `significant_bits` and `say`: see `ImageFolder`.
    Raises DatasetError, naming the source and what was expected.
    """
    if source.replace('_', '-').lower() == FashionMnist.name:
        return FashionMnist(split)
    if Path(source).expanduser().is_file():
        return ImageFile(source, significant_bits, say)
    return ImageFolder.at_split(source, split, class_names=class_names, ranked=ranked, significant_bits=significant_bits, say=say)


def judging_split(source: str) -> str:
    """What `open_images(source, 'test')` opens: `test`, `val`, or `all` of a folder that is not divided. Raises DatasetError as it does."""
    if source.replace('_', '-').lower() == FashionMnist.name:
        return 'test'
    return split_of(Path(source).expanduser(), 'test')[1]
