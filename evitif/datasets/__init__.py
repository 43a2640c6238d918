"""Images with known labels: Fashion-MNIST, moving-fashion (video), folders in the ImageFolder layout, and recordings."""

from collections.abc import Callable
from pathlib import Path

from evitif.datasets.errors import DatasetError
from evitif.datasets.fashion_mnist import FashionMnist
from evitif.datasets.files import EXTENSIONS
from evitif.datasets.image_files import ImageFile
from evitif.datasets.image_folder import ImageFolder, say_once
from evitif.datasets.layout import split_of
from evitif.datasets.moving_fashion import Frame, MovingFashion
from evitif.datasets.recorded import RecordedImages, recorded_paths
from evitif.datasets.sample import ImageDataset, Sample
from evitif.recording import RecordingError, is_recording

__all__ = ['BY_NAME', 'EXTENSIONS', 'DatasetError', 'FashionMnist', 'Frame', 'ImageDataset', 'ImageFile', 'ImageFolder', 'MovingFashion',
           'RecordedImages', 'Sample', 'is_named', 'judging_split', 'open_images', 'recorded_paths', 'say_once']

BY_NAME: dict[str, type[FashionMnist] | type[MovingFashion]] = {dataset.name: dataset for dataset in (FashionMnist, MovingFashion)}


def is_named(source: str) -> bool:
    """Whether `source` is the name of a data set, not a path."""
    return _name(source) in BY_NAME


def _name(source: str) -> str:
    return source.replace('_', '-').lower()


def open_images(source: str, split: str = 'test', class_names: tuple[str, ...] | None = None, ranked: bool = False,
                significant_bits: int = 0, say: Callable[[str], None] = say_once, labels: str | None = None) -> ImageDataset:
    """Open a data set by name (`fashion-mnist`, `moving-fashion`), a folder of images, one image file, or a bag (`rover.mcap`,
    `rover.mcap:/camera/image_raw`), of which the first part trains and the last part judges.

    `split` is `train` or `test`. A folder with `train` and `val` (or `test`) inside is opened at that split, any other folder whole; the
    `split` of the returned data set says which. `class_names`, `ranked`, `significant_bits` and `say`: see `ImageFolder`.
    `labels`: of a bag, a CSV file (`recorded_labels`).
    Raises DatasetError, naming the source and what was expected.
    """
    if not is_named(source) and _recorded(source):
        return RecordedImages(source, split, say=say, labels=labels)
    if labels is not None:
        raise DatasetError(f'{source} is no recording: labels in a CSV file ({labels}) belong to one')
    if is_named(source):
        return BY_NAME[_name(source)](split)
    if Path(source).expanduser().is_file():
        return ImageFile(source, significant_bits, say)
    return ImageFolder.at_split(source, split, class_names=class_names, ranked=ranked, significant_bits=significant_bits, say=say)


def _recorded(source: str) -> bool:
    try:
        return is_recording(source)
    except RecordingError as error:
        raise DatasetError(str(error)) from None


def judging_split(source: str) -> str:
    """What `open_images(source, 'test')` opens: `test`, `val`, or `all` of a folder that is not divided. Raises DatasetError as it does."""
    if is_named(source) or _recorded(source):
        return 'test'
    return split_of(Path(source).expanduser(), 'test')[1]
