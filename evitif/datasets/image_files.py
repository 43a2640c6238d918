"""Image files to samples, and the significant bits that the files of a data set share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from evitif.datasets.errors import DatasetError
from evitif.datasets.files import survey
from evitif.datasets.sample import Sample
from evitif.pictures import PictureError, SignificantBits, read_samples, to_rgb

_MAY_BE_WIDE = ('.png', '.tif', '.tiff', '.pgm', '.ppm', '.pnm')
_ENOUGH = 64            # images by which the significant bits are found


def read_file(path: Path) -> np.ndarray:
    """Read an image file as `evitif.pictures.read_samples` does. Raises DatasetError, naming the file."""
    try:
        return read_samples(path.read_bytes())
    except (OSError, PictureError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DatasetError(f'{path}: cannot be read as an image: {reason}') from None


class ImageFile:
    """One image file, without a label."""

    class_names: tuple[str, ...] = ()
    split = 'all'

    def __init__(self, path: Path | str, significant_bits: int, say: Callable[[str], None]):
        self._path = Path(path).expanduser()
        self._significant = SignificantBits(significant_bits, lambda sentence: say(f'{path}: {sentence}'))

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        if index:
            raise IndexError(index)
        return Sample(to_rgb(read_file(self._path), self._significant), -1, '', self._path.name)


def find_significant_bits(folder: Path) -> tuple[int, int]:
    """The significant bits of the images of more than 8 bits below `folder`, and how many of them were examined.

    The examined ones are spread over the folder, so it does not matter which image is read first. At least 8, even if all are black.
    """
    significant, wide = SignificantBits(), 0
    for looked_at, path in enumerate(_spread([path for path in survey(folder)[0] if path.suffix.lower() in _MAY_BE_WIDE])):
        if looked_at >= _ENOUGH and wide:
            break
        try:
            samples = read_file(path)
        except DatasetError:        # reported when it is read for itself
            continue
        if samples.itemsize > 1:
            significant.to_8_bits(samples)
            wide += 1
    return max(significant.bits, 8), wide


def _spread(paths: list[Path]) -> list[Path]:
    """The same paths in another order: first some that are spread evenly, then the rest."""
    stride = max(1, len(paths) // _ENOUGH)
    return paths[::stride] + [path for index, path in enumerate(paths) if index % stride]
