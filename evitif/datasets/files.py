"""Which files of a folder are images: by their names, without opening them, through links, and without what systems hide there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL import features

EXTENSIONS = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.webp', '.bmp', '.dib', '.ppm', '.pgm', '.pbm', '.pnm', '.tif', '.tiff', '.gif',
              *(('.avif',) if 'avif' in features.modules and features.check('avif') else ()))
# Images of kinds that are not read, camera makers' raw kinds among them: a folder may hold them beside others.
_UNREAD = {'.avif', '.heic', '.heif', '.hif', '.jp2', '.j2k', '.jpx', '.jpf', '.jxl', '.jxr', '.tga', '.exr', '.hdr', '.psd', '.svg',
           '.pcx', '.dds', '.xcf', '.bpg', '.ico', '.cr2', '.cr3', '.nef', '.arw', '.dng', '.raf', '.orf', '.rw2', '.pef',
           '.srw'} - {*EXTENSIONS}
# Folders that macOS, Synology, Windows and file systems put beside the user's.
_SYSTEM = {'__macosx', '@eadir', '#recycle', '#snapshot', '$recycle.bin', 'system volume information', 'lost+found', '__pycache__'}


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is the system's or a program's (`._x.jpg`, `.ipynb_checkpoints`, `__MACOSX`)."""
    return name.startswith('.') or name.lower() in _SYSTEM


def subfolders(folder: Path) -> list[Path]:
    """The folders in `folder`, links to folders among them, without hidden ones, by name."""
    return sorted(entry for entry in folder.iterdir() if not is_hidden(entry.name) and entry.is_dir())


def survey(folder: Path) -> tuple[list[Path], Counter[str]]:
    """All images below `folder`, links followed, broken ones too, by path; and how many there are of each kind that is not read."""
    images, unread = [], Counter()
    for path in _files_below(folder):
        kind = path.suffix.lower()
        if kind in EXTENSIONS:
            images.append(path)
        elif kind in _UNREAD:
            unread[kind] += 1
    return sorted(images), unread


def images_in(folder: Path) -> list[Path]:
    """The images that lie in `folder` itself."""
    return [path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS and not is_hidden(path.name) and not path.is_dir()]


def named(kinds: Counter[str]) -> str:
    """Kinds of images in words: `3 .heic, 1 .jxl`."""
    return ', '.join(f'{kinds[kind]} {kind}' for kind in sorted(kinds))


def _files_below(folder: Path) -> Iterator[Path]:
    """Every file that is not hidden. A link to a folder that it lies in itself is not followed: it has no end."""
    above: dict[str, frozenset[str]] = {str(folder): frozenset((os.path.realpath(folder),))}
    for at, folders, files in os.walk(folder, followlinks=True):
        seen = above.pop(at)
        kept = []
        for name in folders:
            below = os.path.join(at, name)
            if not is_hidden(name) and (real := os.path.realpath(below)) not in seen:
                kept.append(name)
                above[below] = seen | {real}
        folders[:] = kept
        yield from (Path(at, name) for name in files if not is_hidden(name))
