"""Clips, and the judge of what was made of them: the uncut model, on the frames as they were and on those that were decoded.

The cost of an answer b is p(a) - p(b): what the uncut model says of its own answer a on the frame as it was, less what it says of b.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.part import ROOT
from evitif.datasets import open_images
from evitif.model.split import SplitModel
from evitif.pipeline.cut_model import CutModel
from evitif.selection import PatchModel
from evitif.settings import SplitSettings
from evitif_lab.evaluation.suite import IMAGENET_CHECKPOINT

BATCH = 25
NO_ANSWER = -1
VIT_TINY = Path(IMAGENET_CHECKPOINT).stem


@dataclass(frozen=True)
class Source:
    """Where a clip comes from, and the model that looks at it."""

    name: str
    data: str                   # as `open_images` takes it; its frames lie in their order
    rate_hz: float
    frames: int                 # of the first ones, at most
    model: str = VIT_TINY
    cut: int | None = 6         # None: the model folder's
    checkpoint: str | None = IMAGENET_CHECKPOINT

    @property
    def settings(self) -> dict:
        """The model, as edge and bridge take it."""
        return {'model': self.model, 'cut': self.cut, 'checkpoint': None if self.checkpoint is None else str(ROOT / self.checkpoint)}


CLIPS = (
    Source('CamVid', 'data/camvid/val/images', 15.0, 101),
    Source('7-Scenes', 'data/seven-scenes-kitchen/images', 30.0, 200),
    Source('moving-fashion', 'moving-fashion', 30.0, 200, 'artifacts/moving_fashion', None, None),
)


class Clip:
    """
    Frames as the model sees them, and what the model says of pictures.

    :ivar frames: uint8 [n, h, w, 3], resized and cropped by the model's own preprocessing
    :ivar probabilities: float32 [n, classes] of the uncut model, on `frames`
    :ivar answers: int [n], its own
    :raises ValueError: the model or its frames cannot be used (ModelError, DatasetError)
    """

    def __init__(self, source: Source, count: int | None = None):
        if source.checkpoint is not None and not (ROOT / source.checkpoint).is_file():
            raise ValueError(f'its weights, {source.checkpoint}, are not there')
        self.source, self.name, self.rate_hz = source, source.name, source.rate_hz
        self.model = CutModel.load(SplitSettings(**source.settings, quantisation='int8'))
        preprocessor = self.model.preprocessor
        self._mean, self._std = (torch.tensor(preprocessor.data_config[name])[:, None, None] for name in ('mean', 'std'))
        path = ROOT / source.data
        images = open_images(str(path) if path.exists() else source.data, 'test')
        count = min(count or source.frames, source.frames, len(images))
        self.frames = np.stack([self._seen(images[index].image) for index in range(count)])
        self._known: dict[bytes, int] = {}          # the answer to each picture that was looked at
        self.probabilities = self._look([*self.frames])
        self.answers = self.probabilities.argmax(1)

    def _seen(self, image: np.ndarray) -> np.ndarray:
        pixels = self.model.preprocessor(image)[0] * self._std + self._mean
        return (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()

    def normalised(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """Pictures uint8 [h, w, 3] in the model's size to its input, float32 [n, 3, h, w]."""
        return (torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255 - self._mean) / self._std

    @functools.cached_property
    def tokens(self) -> list[torch.Tensor]:
        """float32 [1, N, D] of each frame at the cut."""
        return [self.model.head(self.normalised([frame])).float() for frame in self.frames]

    @functools.cached_property
    def patches(self) -> list[np.ndarray]:
        """float32 [P, C * h * w] of each frame, its pixels as the model takes them."""
        model = PatchModel(SplitModel(self.model.split.module, 0, self.model.split.input_channels))
        return [model.head(self.normalised([frame]))[0].numpy() for frame in self.frames]

    def classes(self, pictures: Sequence[np.ndarray | None]) -> np.ndarray:
        """The whole model's answer to each picture uint8 [h, w, 3], int [n]; NO_ANSWER where there is none."""
        keys = [None if picture is None else hashlib.blake2b(picture.tobytes(), digest_size=16).digest() for picture in pictures]
        new = {key: picture for key, picture in zip(keys, pictures, strict=True) if picture is not None and key not in self._known}
        if new:
            self._known.update(zip(new, self._numbers([*new.values()]), strict=True))
        return np.array([NO_ANSWER if key is None else self._known[key] for key in keys])

    def _numbers(self, pictures: list[np.ndarray]) -> list[int]:
        """The answer to each of some pictures."""
        return self._look(pictures).argmax(1).tolist()

    @torch.inference_mode()
    def _look(self, pictures: list[np.ndarray]) -> np.ndarray:
        """Probabilities float32 [n, classes] of the uncut model."""
        return np.concatenate([self.model.split.whole(self.normalised(pictures[at:at + BATCH])).softmax(1).numpy()
                               for at in range(0, len(pictures), BATCH)])

    def cost(self, answers: np.ndarray) -> np.ndarray:
        """What each of `answers` (int [n]) costs, float [n]; before the first answer, all that the model's own is sure of."""
        rows = np.arange(len(answers))
        own = self.probabilities[rows, self.answers]
        return own - np.where(answers == NO_ANSWER, 0.0, self.probabilities[rows, answers])


def standing(answers: np.ndarray) -> np.ndarray:
    """Of answers int [n] with NO_ANSWER where none came, those that stand at each frame: the newest so far."""
    newest = np.maximum.accumulate(np.where(answers == NO_ANSWER, -1, np.arange(len(answers))))
    return np.where(newest < 0, NO_ANSWER, answers[newest])
