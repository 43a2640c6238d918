"""Images with known labels: Fashion-MNIST and folders in the ImageFolder layout."""

from evitif.datasets.errors import DatasetError
from evitif.datasets.fashion_mnist import FashionMnist
from evitif.datasets.image_folder import ImageFolder, split_folder
from evitif.datasets.sample import ImageDataset, Sample

__all__ = ['DatasetError', 'FashionMnist', 'ImageDataset', 'ImageFolder', 'Sample', 'open_images', 'split_folder']


def open_images(source: str, split: str = 'test', class_names: tuple[str, ...] | None = None,
                ranked: bool = False) -> ImageDataset:
    """Open a data set by name (`fashion-mnist`) or a folder of images.

    `split` is `train` or `test`. A folder that has `train` and `val` (or `test`) inside is opened at that split;
    any other folder is taken as it is. `class_names` and `ranked` say how classes are numbered: see `ImageFolder`.
    Raises DatasetError, naming the source and what was expected.
    """
    if source.replace('_', '-').lower() == FashionMnist.name:
        return FashionMnist(split)
    return ImageFolder.at_split(source, split, class_names=class_names, ranked=ranked)
