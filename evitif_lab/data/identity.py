"""Which images a data set consists of, so a training or a measurement that is continued recognises them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from evitif.datasets import FashionMnist, ImageDataset, MovingFashion

_LOOKED_INTO = 256          # files, evenly spaced: reading all of them would take as long as the training's own reading
_FIRST_BYTES = 1 << 16


def identity_of(dataset: ImageDataset) -> dict:
    """The classes in their order, how many images there are, and `digest_of` these."""
    return {'classes': list(dataset.class_names), 'images': len(dataset), 'digest': digest_of(dataset)}


def digest_of(dataset: ImageDataset) -> str:
    """32 digits that tell these images with these classes from others.

    Of a folder they cover every file's class, name and size, and of some files what they begin with. A copy of the folder in
    another place is the same data set. Raises OSError where a file has gone.
    """
    digest = hashlib.sha256(repr(tuple(dataset.class_names)).encode(errors='surrogateescape'))
    if isinstance(dataset, MovingFashion):
        digest.update(repr(dataset.recipe).encode())
    garments = dataset.garments if isinstance(dataset, MovingFashion) else dataset
    if isinstance(garments, FashionMnist):                      # in memory
        digest.update(garments.grey.tobytes() + garments.class_ids.tobytes())
    items = getattr(dataset, 'items', ())
    step = max(1, len(items) // _LOOKED_INTO)
    for index, (path, class_id, *_) in enumerate(items):
        digest.update(f'{class_id} {Path(path).relative_to(dataset.folder)} {path.stat().st_size}\n'.encode(errors='surrogateescape'))
        if index % step == 0:
            with open(path, 'rb') as file:
                digest.update(file.read(_FIRST_BYTES))
    return digest.hexdigest()[:32]
