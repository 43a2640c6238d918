"""A folder of images: the ImageFolder layout (one folder a class) or a flat folder without labels."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from evitif.datasets.class_names import ids_by_name
from evitif.datasets.errors import DatasetError
from evitif.datasets.files import EXTENSIONS, images_in, named, subfolders, survey
from evitif.datasets.image_files import find_significant_bits, read_file
from evitif.datasets.imagenet import wordnet_ids
from evitif.datasets.layout import split_of
from evitif.datasets.sample import Sample
from evitif.pictures import SignificantBits, to_rgb

_WORDNET_ID = re.compile(r'n\d{8}')
_said: set[str] = set()


def say_once(sentence: str) -> None:
    """Print on stderr, and not again what was said in this process."""
    if sentence not in _said:
        _said.add(sentence)
        print(f'evitif: {sentence}', file=sys.stderr, flush=True)


class ImageFolder:
    """Images below `folder`, sorted by name; classes are the folders' names in alphabetical order. Links are followed.

    If every class folder is named by a WordNet id of ImageNet-1k (n01440764), class ids are those of ImageNet's 1,000 classes, not the
    rank. With `class_names`, a class's id is its folder's place in that list, as in a model with those classes; with `ranked`, it is the
    rank whatever the names. Samples of more than 8 bits are scaled by `significant_bits`, the same for the whole data set, or with 0 by
    what its images show. `say` gets a sentence on whatever a user should know.
    Raises DatasetError for a folder that is missing, an empty class, a class that `class_names` lacks, or a folder without images.
    """

    split = 'all'                   # what the images are: `train`, `test` and `val` of a divided folder, or `all` of one that is not

    def __init__(self, folder: Path | str, class_names: tuple[str, ...] | None = None, ranked: bool = False, significant_bits: int = 0,
                 say: Callable[[str], None] = say_once):
        self.folder = self._whole = Path(folder).expanduser()
        self.significant_bits = significant_bits        # 0 until an image of more than 8 bits was read
        self._significant: SignificantBits | None = None
        self._say = say
        self._unread: Counter[str] = Counter()          # kinds that are not read
        if not self.folder.is_dir():
            raise DatasetError(f'image folder {str(folder)!r} does not exist or is not a folder')
        classes = subfolders(self.folder)
        self.items: list[tuple[Path, int, str]] = []
        if classes:
            names = [entry.name for entry in classes]
            ids = None if ranked else self._ids_among(class_names, names) if class_names else _imagenet_ids(names)
            self.class_names = tuple(names) if ids is None else tuple(class_names or wordnet_ids())
            for rank, entry in enumerate(classes):
                self._add(entry, rank if ids is None else ids[rank], entry.name, f'class folder {entry} holds no image')
            if beside := len(images_in(self.folder)):
                say(f'{self.folder}: left out {beside} images that lie beside the class folders')
        else:
            self.class_names = ()
            self._add(self.folder, -1, '', f'{self.folder} holds no image and no class folder')
        if self._unread:
            say(f'{self.folder}: left out {named(self._unread)}: images of these kinds are not read here')

    def _add(self, folder: Path, class_id: int, label: str, refusal: str) -> None:
        images, unread = survey(folder)
        if not images:
            raise DatasetError(f'{refusal}{f", only {named(unread)}" if unread else ""} (expected one of {", ".join(EXTENSIONS)})')
        self.items += [(path, class_id, label) for path in images]
        self._unread += unread

    @classmethod
    def at_split(cls, folder: Path | str, split: str, **options) -> ImageFolder:
        """Open the part of a divided folder that trains or judges (see layout.py), or the whole of one that is not divided."""
        below, part, remark = split_of(Path(folder).expanduser(), split)
        opened = cls(below, **options)
        opened.split, opened._whole = part, Path(folder).expanduser()
        if remark:
            opened._say(remark)
        return opened

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
        samples = read_file(path)
        significant = SignificantBits() if samples.itemsize == 1 else self._decided_bits()
        return Sample(to_rgb(samples, significant), class_id, label, str(path.relative_to(self.folder)))

    def _decided_bits(self) -> SignificantBits:
        """The significant bits of all images, whichever is read first, the same for the part that trains and the part that judges."""
        if self._significant is None:
            if not self.significant_bits:
                self.significant_bits, looked_at = find_significant_bits(self._whole)
                self._say(f'{self._whole}: images of more than 8 bits, of which {self.significant_bits} are significant, by the largest '
                          f'value in {looked_at} of them')
            self._significant = SignificantBits(self.significant_bits, lambda sentence: self._say(f'{self._whole}: {sentence}'))
        return self._significant


def _imagenet_ids(names: list[str]) -> list[int] | None:
    if not all(_WORDNET_ID.fullmatch(name) for name in names):
        return None
    rank = {name: index for index, name in enumerate(wordnet_ids())}
    return [rank[name] for name in names] if all(name in rank for name in names) else None
