"""Fashion-MNIST (Xiao et al., arXiv 1708.07747): 60,000 + 10,000 grey images of 28x28 pixels, 10 classes.

The places, in this order: the folder named by FASHION_MNIST_DIR, where Debian's package `dataset-fashion-mnist` puts it, and
`data/fashion-mnist` below the working directory. `evitif fetch fashion-mnist` brings it into the last.
"""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np

from evitif.datasets.errors import DatasetError
from evitif.datasets.sample import Sample

CLASS_NAMES = ('T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot')
ENVIRONMENT_VARIABLE = 'FASHION_MNIST_DIR'
DEBIAN_PACKAGE = 'dataset-fashion-mnist'
DEBIAN_FOLDER = Path('/usr/share/datasets/fashion-mnist')
LOCAL_FOLDER = Path('data/fashion-mnist')
FILES = {
    'train': ('train-images-idx3-ubyte.gz', 'train-labels-idx1-ubyte.gz', 60_000),
    'test': ('t10k-images-idx3-ubyte.gz', 't10k-labels-idx1-ubyte.gz', 10_000),
}
_IDX_IMAGES, _IDX_LABELS = 2051, 2049  # magic numbers of the IDX format (LeCun, MNIST)


class FashionMnist:
    """The split `train` or `test` in memory; grey images repeated to three channels."""

    name = 'fashion-mnist'
    class_names: tuple[str, ...] = CLASS_NAMES

    def __init__(self, split: str = 'test', folder: Path | str | None = None):
        if split not in FILES:
            raise DatasetError(f'Fashion-MNIST has the splits train and test, not {split!r}')
        folder = locate() if folder is None else Path(folder)
        images, labels, count = FILES[split]
        self.grey = _read_idx(folder / images, _IDX_IMAGES)
        self.class_ids = _read_idx(folder / labels, _IDX_LABELS)
        self.split = split
        if self.grey.shape != (count, 28, 28) or self.class_ids.shape != (count,):
            raise DatasetError(f'{folder}: expected {count} images of 28x28 and as many labels, '
                               f'found {self.grey.shape} and {self.class_ids.shape}')

    def __len__(self) -> int:
        return len(self.grey)

    def __getitem__(self, index: int) -> Sample:
        class_id = int(self.class_ids[index])
        image = np.repeat(self.grey[index][:, :, None], 3, axis=2)
        return Sample(image, class_id, CLASS_NAMES[class_id], f'{self.split}-{index:05d}')


def locate() -> Path:
    """Return the folder that holds the four files. Raises DatasetError, saying how to get them."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        folder = Path(named).expanduser()
        missing = _missing(folder)
        if missing:
            raise DatasetError(f'{ENVIRONMENT_VARIABLE}={named}: {missing[0]} is not there; the folder has to hold '
                               'the four gzipped IDX files of Fashion-MNIST')
        return folder
    for folder in (DEBIAN_FOLDER, LOCAL_FOLDER):
        if not _missing(folder):
            return folder
    raise DatasetError(
        f'Fashion-MNIST was not found in {DEBIAN_FOLDER} or {LOCAL_FOLDER}. Run `evitif fetch fashion-mnist`, '
        f'install the Debian package {DEBIAN_PACKAGE}, or set {ENVIRONMENT_VARIABLE} to a folder '
        'with its four gzipped IDX files')


def _missing(folder: Path) -> list[str]:
    return [name for images, labels, _ in FILES.values() for name in (images, labels) if not (folder / name).is_file()]


def _read_idx(path: Path, magic: int) -> np.ndarray:
    try:
        with gzip.open(path, 'rb') as file:
            content = file.read()
    except (OSError, EOFError) as error:
        raise DatasetError(f'{path}: cannot be read: {error}') from None
    if len(content) < 8 or struct.unpack('>I', content[:4])[0] != magic:
        raise DatasetError(f'{path}: not an IDX file with magic number {magic}')
    dimensions = content[3]
    shape = struct.unpack(f'>{dimensions}I', content[4:4 + 4 * dimensions])
    pixels = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    if pixels.size != int(np.prod(shape)):
        raise DatasetError(f'{path}: truncated: the header says {shape}, {pixels.size} bytes follow')
    return pixels.reshape(shape)
