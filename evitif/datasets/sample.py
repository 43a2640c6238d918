"""What a data set yields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One image: uint8 [H, W, 3] RGB, its class (-1 when unknown), the class's name, the image's own, and each pixel's class if known."""

    image: np.ndarray
    class_id: int
    label: str
    name: str
    mask: np.ndarray | None = None          # uint8 [H, W]


class ImageDataset(Protocol):
    """Samples; `class_names` by class id, empty if unknown. `split`: `train`, `val` or `test`, or `all` of a folder that is not divided."""

    class_names: tuple[str, ...]
    split: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...
