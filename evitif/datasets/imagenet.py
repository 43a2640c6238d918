"""ImageNet-1k's classes in their order, from the list that timm ships."""

from __future__ import annotations

import functools
from importlib.util import find_spec
from pathlib import Path

from evitif.datasets.errors import DatasetError


@functools.cache
def wordnet_ids() -> tuple[str, ...]:
    """The WordNet ids (n01440764, …) of the 1,000 classes. Raises DatasetError where timm, which has the list, is not installed."""
    timm = find_spec('timm')
    folder = Path(timm.origin).parent if timm is not None and timm.origin else Path('timm')
    try:
        return tuple((folder / 'data' / '_info' / 'imagenet_synsets.txt').read_text().split())
    except OSError as error:
        raise DatasetError(f'class folders with WordNet ids need the list of ImageNet classes that timm has: {error}') from None
