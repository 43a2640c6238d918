"""Divide a folder of images into images to train with and images to judge by."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from evitif.datasets import DatasetError, say_once
from evitif.datasets.files import named, subfolders, survey
from evitif.datasets.layout import is_divided


def split_folder(folder: Path | str, output: Path | str, every: int) -> dict[str, int]:
    """Divide the images of `folder` into `output`/train and `output`/val, by symbolic links; return how many are in each.

    The images are taken in order of their paths, and each `every`-th judges: the same ones whenever it is done.

    :raises DatasetError: `every` is below 2, the folder holds no image or is divided already, or the output exists and is not empty
    """
    folder, output = Path(folder).expanduser(), Path(output).expanduser()
    if every < 2:
        raise DatasetError(f'every is {every}: expected at least 2, so that something is left to train on')
    images, unread = survey(folder) if folder.is_dir() else ([], Counter())
    if not images:
        raise DatasetError(f'image folder {str(folder)!r} does not exist or holds no image{f", only {named(unread)}" if unread else ""}')
    if is_divided(folder):
        raise DatasetError(f'{folder} is divided already: it has {", ".join(entry.name + "/" for entry in subfolders(folder))}')
    if output.exists() and any(output.iterdir()):
        raise DatasetError(f'{output} exists and is not empty: expected a new folder')
    if unread:
        say_once(f'{folder}: left out {named(unread)}: images of these kinds are not read here')
    counts = {'train': 0, 'val': 0}
    for index, path in enumerate(images):
        part = 'val' if index % every == every - 1 else 'train'
        link = output / part / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())
        counts[part] += 1
    return counts
