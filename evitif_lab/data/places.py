"""Images with something known of each place: masks of classes, or depth. Folders, and moving-fashion.

A folder has `images/` and beside it `labels/` or `masks/` (one channel of class ids, a palette too), or `depth/` (one channel of 16 bits, millimetres, 0 and
65535 unknown), with files of the same names but for their endings, in sub-folders or not; or such folders in `train/` and `val/` (CamVid's layout). Where it is not
divided, the last quarter of the images, in order of their names, judges: of a video that is what comes later.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from evitif.datasets import DatasetError, MovingFashion, is_named
from evitif.datasets.files import survey
from evitif.datasets.image_files import read_file
from evitif.datasets.layout import split_of
from evitif.pictures import SignificantBits, to_rgb
from evitif.vocabulary import Task
from evitif.wording import few

UNLABELLED = 255
_BESIDE = {Task.SEGMENT: ('labels', 'masks'), Task.DEPTH: ('depth',)}
_WHAT = {Task.SEGMENT: 'mask', Task.DEPTH: 'depth image'}
_JUDGING = 4            # one of so many images, where the folder is not divided
_UNKNOWN_DEPTH = (0, 65535)


class Placed(NamedTuple):
    """An image uint8 [H, W, 3] and what is known of it: classes uint8 [H, W], UNLABELLED where nothing is; or metres float32 [h, w], NaN."""

    image: np.ndarray
    truth: np.ndarray
    name: str


class PlaceFolder:
    """The pairs of one split of a folder.

    :param split: `train` or `test`
    :param labels: the names of the classes; None: `labels.txt` in the folder, a name a line, else they have numbers, as many as the masks
        that train show
    :param void: the id of no class in the masks, beside 255
    :raises DatasetError: a folder is missing, an image has no partner or the other way round
    """

    def __init__(self, folder: Path | str, split: str, task: Task, labels: tuple[str, ...] | None = None, void: int | None = None):
        self.folder, self.task, self.void = Path(folder).expanduser(), task, void
        below, self.split, _ = split_of(self.folder, split) if not (self.folder / 'images').is_dir() else (self.folder, 'all', '')
        self.pairs = self._pairs(below)
        if self.split == 'all':
            first = len(self.pairs) - len(self.pairs) // _JUDGING
            self.pairs, self.split = (self.pairs[:first], 'train') if split == 'train' else (self.pairs[first:], 'val')
        if not self.pairs:
            raise DatasetError(f'{below / "images"}: too few images to train and to judge by: expected at least {_JUDGING}, or some in train/ '
                               'and in val/')
        self.items = [(path, -1, '') for pair in self.pairs for path in pair]       # of the data set's digest
        self.class_names = () if task == Task.DEPTH else self._names(labels, split)

    def _pairs(self, below: Path) -> list[tuple[Path, Path]]:
        what, images = _WHAT[self.task], below / 'images'
        beside = next((below / name for name in _BESIDE[self.task] if (below / name).is_dir()), None)
        if not images.is_dir() or beside is None:
            missing = 'images/' if not images.is_dir() else ' or '.join(f'{name}/' for name in _BESIDE[self.task])
            raise DatasetError(f'{below} has no {missing}: expected images/ and {" or ".join(f"{n}/" for n in _BESIDE[self.task])} beside it')
        found, partners = _by_name(images), _by_name(beside)
        for alone, where, partner in ((found.keys() - partners, images, what), (partners.keys() - found, beside, 'image')):
            if alone:
                raise DatasetError(f'{where}: {few(sorted(alone), 3)} without {"an" if partner == "image" else "a"} {partner}: expected one of '
                                   f'the same name in {beside if where == images else images}')
        return [(found[stem], partners[stem]) for stem in sorted(found)]

    def _names(self, labels: tuple[str, ...] | None, split: str) -> tuple[str, ...]:
        listed = self.folder / 'labels.txt'
        if labels is None and listed.is_file():
            labels = tuple(line.strip() for line in listed.read_text().splitlines() if line.strip())
        if labels is None:
            trained = self if split == 'train' else PlaceFolder(self.folder, 'train', self.task, void=self.void)
            if trained is not self:
                return trained.class_names
            ids = {int(value) for _, path in self.pairs for value in np.unique(_one_channel(path, 'mask'))} - {self.void, UNLABELLED}
            if not ids:
                none = '255' if self.void is None else f'{self.void} and 255'
                raise DatasetError(f'{self.folder}: the masks have only {none}, for none: expected the id of a class where there is one')
            labels = tuple(f'class {index}' for index in range(max(ids) + 1))
        if not 1 <= len(labels) < UNLABELLED:
            raise DatasetError(f'{self.folder}: {len(labels)} labels: expected 1 to {UNLABELLED - 1}')
        return labels

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Placed:
        path, beside = self.pairs[index]
        image = to_rgb(read_file(path), SignificantBits(8))
        truth = _one_channel(beside, _WHAT[self.task])
        if self.task == Task.SEGMENT:
            self._check_mask(truth, image, beside, path)
            truth = np.where((truth == self.void) | (truth == UNLABELLED), UNLABELLED, truth).astype(np.uint8)
        else:
            times = image.shape[0] // truth.shape[0]
            if times < 1 or image.shape[:2] != (times * truth.shape[0], times * truth.shape[1]):
                raise DatasetError(f'{beside} has {_size(truth)} pixels, {path.name} has {_size(image)}: expected the same, or a whole part')
            truth = np.where(np.isin(truth, _UNKNOWN_DEPTH), np.nan, truth / 1000).astype(np.float32)
        return Placed(image, truth, path.name)

    def _check_mask(self, truth: np.ndarray, image: np.ndarray, path: Path, of: Path) -> None:
        if truth.shape != image.shape[:2]:
            raise DatasetError(f'{path} has {_size(truth)} pixels, its image {of.name} has {_size(image)}: expected the same')
        highest = len(self.class_names) - 1
        beyond = sorted({int(value) for value in np.unique(truth)} - {*range(highest + 1), self.void, UNLABELLED})
        if beyond:
            void = '' if self.void is None else f', {self.void}'
            raise DatasetError(f'{path} has the class {few(beyond, 3)}, and there are {highest + 1} labels: expected 0 to {highest}{void} and '
                               f'255 for none; name the others in labels.txt, or say which id means none with --void')


class MovingPlaces:
    """moving-fashion with its masks, as a data set of places."""

    task, void = Task.SEGMENT, None

    def __init__(self, split: str):
        self.frames = MovingFashion('train' if split == 'train' else 'test')
        self.split, self.class_names, self.garments, self.recipe = split, self.frames.mask_names, self.frames.garments, self.frames.recipe

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Placed:
        sample = self.frames[index]
        assert sample.mask is not None
        return Placed(sample.image, sample.mask, sample.name)


Places = PlaceFolder | MovingPlaces


def open_places(source: str, split: str, task: Task, labels: tuple[str, ...] | None = None, void: int | None = None) -> Places:
    """Open `moving-fashion` or a folder at `train` or `test`. Raises DatasetError, naming the source and what was expected."""
    if not is_named(source):
        if not Path(source).expanduser().is_dir():
            raise DatasetError(f'{source!r} does not exist or is no folder: expected moving-fashion, or a folder with images/ and '
                               f'{" or ".join(f"{name}/" for name in _BESIDE[task])}')
        return PlaceFolder(source, split, task, labels, void)
    if source.replace('_', '-').lower() != MovingFashion.name or task != Task.SEGMENT:
        raise DatasetError(f'{source} has no {_WHAT[task]}s: expected {"moving-fashion, or " if task == Task.SEGMENT else ""}a folder with them')
    if labels is not None or void is not None:
        raise DatasetError(f'{source} has labels of its own: expected no others, and no --void')
    return MovingPlaces(split)


def _by_name(folder: Path) -> dict[str, Path]:
    """The images below a folder by their path in it without the ending. Raises DatasetError for two that differ in the ending alone."""
    found: dict[str, Path] = {}
    for path in survey(folder)[0]:
        name = path.relative_to(folder).with_suffix('').as_posix()
        if (other := found.setdefault(name, path)) is not path:
            raise DatasetError(f'{folder} has {other.name} and {path.name}: expected one of each name')
    return found


def _one_channel(path: Path, what: str) -> np.ndarray:
    try:
        with Image.open(path) as opened:
            values, lossy = np.array(opened), opened.format == 'JPEG'
    except (OSError, ValueError, SyntaxError) as error:
        raise DatasetError(f'{path}: cannot be read as a {what}: {error}') from None
    if lossy:
        raise DatasetError(f'{path} is a JPEG, which changes the values of pixels: expected a {what} without losses, such as PNG')
    values = values.astype(np.uint8) if values.dtype == np.bool_ else values      # of one bit
    if values.ndim != 2 or values.dtype.kind not in 'ui':
        raise DatasetError(f'{path} is a picture of {values.dtype} {list(values.shape)}: expected a {what} of one channel'
                           f'{", the id of the class of each pixel, not its colour" if what == "mask" else ""}')
    return values


def _size(pixels: np.ndarray) -> str:
    return f'{pixels.shape[0]}x{pixels.shape[1]}'
