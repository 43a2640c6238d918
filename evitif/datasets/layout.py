"""How a folder is divided into images to train and to judge by: `train/` beside `val/` or `test/`, or not at all."""

from __future__ import annotations

import re
from pathlib import Path

from evitif.datasets.errors import DatasetError
from evitif.datasets.files import images_in, subfolders

# Names of a folder of images by its purpose, in any case.
_NAMES = {'train': ('train', 'training'), 'test': ('test', 'testing'), 'val': ('val', 'valid', 'validation')}
_JUDGING = ('test', 'val')      # in the order of preference
SPLITS = {'train': ('train',), 'test': _JUDGING}
_LIKE_A_SPLIT = re.compile(r'(^|[^a-z])(train(ing)?|test(ing)?|val(id(ation)?)?|eval(uation)?|dev|hold ?out|fold|split)([^a-z]|$)')


def split_of(folder: Path, split: str) -> tuple[Path, str, str]:
    """Where the images of `split` (`train` or `test`) are, what they are (`train`, `test`, `val` or `all`), and a remark or ''.

    `test/` is preferred where there is a `val/` too. `all`: the folder is not divided, and is returned itself.
    Raises DatasetError for a folder that is divided and lacks this split, or is divided in a way that is not known.
    """
    if split not in SPLITS:
        raise DatasetError(f'split has to be one of {", ".join(SPLITS)}, not {split!r}')
    if not folder.is_dir():
        return folder, 'all', ''            # the reader says that it is not there
    found = _known(folder)
    if not found:
        _refuse_unknown(folder)
        return folder, 'all', ''
    there = [kind for kind in SPLITS[split] if kind in found]
    if not there:
        names = ', '.join(f'{path.name}/' for path in found.values())
        wanted = 'train/' if split == 'train' else 'val/ or test/'
        raise DatasetError(f'{folder} has {names} and no {wanted}: expected train/ beside val/ or test/, or images that are not divided; '
                           f'`evitif divide IMAGES FOLDER` makes train/ and val/ of one folder of images')
    remark = f'{folder}: judged by {found["test"].name}/, not by {found["val"].name}/' if there == [*_JUDGING] else ''
    return found[there[0]], there[0], remark


def is_divided(folder: Path) -> bool:
    """Whether `folder` has `train/`, `val/` or `test/` inside, by any of their names."""
    return bool(_known(folder))


def _known(folder: Path) -> dict[str, Path]:
    """The folders of a known division by purpose; empty if `folder` is not divided, even if a class is named Train."""
    entries = subfolders(folder)
    found: dict[str, Path] = {}
    for kind, names in _NAMES.items():
        named = [entry for entry in entries if entry.name.lower() in names]
        if len(named) > 1:
            raise DatasetError(f'{folder} has {" and ".join(f"{entry.name}/" for entry in named)}: expected one of them')
        if named:
            found[kind] = named[0]
    divided = 'train' in found and len(found) > 1 or len(found) == len(entries)
    if found and not divided:               # a split among other folders has classes inside, a class of that name has images
        divided = all(not images_in(path) and subfolders(path) for path in found.values())
    return found if divided else {}


def _refuse_unknown(folder: Path) -> None:
    entries = subfolders(folder)
    alike = [entry for entry in entries if _LIKE_A_SPLIT.search(entry.name.lower())]
    if alike and (len(alike) == len(entries) or len(alike) > 1 and all(not images_in(entry) and subfolders(entry) for entry in alike)):
        names = ', '.join(f'{entry.name}/' for entry in alike[:3])
        raise DatasetError(f'{folder} has {names}, which look like parts of a data set, not like classes: expected train/ beside val/ '
                           'or test/ (links will do), or one folder for each class; `evitif divide IMAGES FOLDER` makes '
                           'train/ and val/ of one folder of images')
