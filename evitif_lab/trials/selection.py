"""A light and a large model side by side on labelled images: all that calibrating and judging strategy selection ask of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from evitif.datasets import DatasetError, ImageDataset
from evitif.model.build import BuiltModel, ModelSpec, build_model
from evitif.model.fingerprint import fingerprint
from evitif.model.preprocess import Preprocessor
from evitif.model.pretrained import require_classifier
from evitif.model.split import SplitModel
from evitif.model.tensors import require_finite_answers
from evitif.recovery.methods import Recovery
from evitif.selection.artifact import require_same_classes
from evitif.selection.choice import select
from evitif.selection.glance import LightModel
from evitif.selection.large import PatchModel
from evitif.selection.patch_code import PatchCode
from evitif.selection.prior import with_prior
from evitif_lab.commands.progress import Progress
from evitif_lab.precision import mixed_precision
from evitif_lab.trials.images import Normalise

BATCH = 125
TOP_K = 5       # classes that an answer brings back to the robot


class Pair(Protocol):
    """A configuration that names a light and a large model."""

    light: str
    large: str
    light_checkpoint: str | None
    light_image_size: int | None
    large_checkpoint: str | None


class Trial:
    """Raises ModelError, ArtifactError or DatasetError for models and images that do not belong together.

    :param dataset: judged or calibrated on, of the models' classes
    :param chosen: indices of the images to take
    """

    def __init__(self, light: ModelSpec, large: ModelSpec, dataset: ImageDataset, chosen: Sequence[int], device: str = 'cpu',
                 precision: str = 'fp32'):
        self.device, self.precision = device, precision
        self.light, self.large = build_model(light), build_model(large)
        for spec, built in ((light, self.light), (large, self.large)):
            require_classifier(built.module, spec.model, spec.checkpoint, spec.pretrained)
        require_same_classes(light.model, self.light.class_names, large.model, self.large.class_names)
        self.light_fingerprint, self.large_fingerprint = fingerprint(self.light.module), fingerprint(self.large.module, 0)
        self.model = PatchModel(SplitModel(self.large.module.to(device), 0, self.large.data_config['input_size'][0]))
        self.light.module.to(device)
        self.code = PatchCode.beside(large.model, self.large_fingerprint)
        self.classes, self.patches = len(self.large.class_names), self.model.tokens
        samples = [dataset[int(index)] for index in Progress(chosen, desc='reading images', unit='image', leave=False)]
        self.ids = np.array([sample.class_id for sample in samples])
        if len(self.ids) == 0 or self.ids.min() < 0 or self.ids.max() >= self.classes:
            raise DatasetError(f'class ids are {self.ids.min()} to {self.ids.max()}: expected 0 to {self.classes - 1}, of images with '
                               'known labels')
        self.pictures = [sample.image for sample in samples]
        self._seen = {}

    def __len__(self) -> int:
        return len(self.ids)

    def images(self, built: BuiltModel) -> torch.Tensor:
        """All images as this model takes them, float32 [n, C, H, W]."""
        key = repr(sorted(built.data_config.items()))
        if key not in self._seen:
            self._seen[key] = self.preprocessed(self.pictures, built)
        return self._seen[key]

    def preprocessed(self, pictures: Sequence[np.ndarray], built: BuiltModel) -> torch.Tensor:
        """Pictures as `built` takes them, float32 [n, C, H, W]."""
        preprocess = Preprocessor(built.data_config)
        return torch.cat([preprocess(picture) for picture in pictures])

    def views(self) -> list[np.ndarray]:
        """The images uint8 [H, W, 3] as the large model sees them, cropped and resized: what a codec is given instead of patches."""
        mean, std = (np.array(self.large.data_config[name], np.float32) for name in ('mean', 'std'))
        seen = self.images(self.large).permute(0, 2, 3, 1).numpy()
        return [np.rint((view * std + mean) * 255).clip(0, 255).astype(np.uint8) for view in seen]

    def of_views(self, views: Sequence[np.ndarray]) -> torch.Tensor:
        """What `views` gave, float32 [n, C, H, W], as the large model takes it."""
        normalise = Normalise(self.large.data_config)
        return torch.cat([normalise(torch.from_numpy(np.array(view)).permute(2, 0, 1)[None]) for view in views])

    def glances(self, rule: str) -> tuple[np.ndarray, np.ndarray]:
        """The light model's logits float32 [n, classes] and scores float32 [n, patches]."""
        light = LightModel(self.light.module, rule, self.model.grid)
        parts = []
        for part in Progress(self.images(self.light).split(BATCH), desc=f'light model, {rule}', unit='batch'):
            with mixed_precision(self.device, self.precision):
                parts.append(light.glance_batch(part.to(self.device)))
        logits, scores = map(torch.cat, zip(*parts, strict=True))
        require_finite_answers('the light model', logits=logits, scores=scores)
        return logits.cpu().numpy(), scores.cpu().numpy()

    def coded(self, quantisation: str | None) -> torch.Tensor:
        """All images' patches float32 [n, P, C * h * w] as they come off the wire; None: the pixels themselves."""
        images = self.images(self.large)
        if quantisation is None:
            return self.model.head(images)
        return torch.cat([self.code.patches_from(self.code.rows(part, quantisation), quantisation) for part in images.split(BATCH)])

    @torch.inference_mode()
    def whole(self, images: torch.Tensor | None = None) -> np.ndarray:
        """The large model's logits float32 [n, classes] for whole images."""
        images = self.images(self.large) if images is None else images
        parts = []
        for part in Progress(images.split(BATCH), desc='large model, whole images', unit='batch'):
            with mixed_precision(self.device, self.precision):
                parts.append(self.large.module(part.to(self.device)).float().cpu())
        logits = torch.cat(parts)
        require_finite_answers('the large model', logits=logits)
        return logits.numpy()

    def answers(self, patches: torch.Tensor, received: np.ndarray, chosen: np.ndarray | None = None,
                recovery: Recovery | None = None, packet_error_rate: float = 0.0, title: str = 'large model') -> np.ndarray:
        """Logits float32 [m, classes] from what was `received` (bool [n, P]) of the images `chosen` (int64 [m]; None: all)."""
        chosen = np.arange(len(self)) if chosen is None else chosen
        # Images with equally many patches go through together, so they are asked in the order of that number.
        order = chosen[np.argsort(received[chosen].sum(1), kind='stable')]
        model = self.model if recovery is None else PatchModel(self.model.split, recovery)
        found = np.empty((len(self), self.classes), np.float32)
        bar = Progress(range(0, len(order), BATCH), desc=title, unit='batch')
        for start in bar:
            part = order[start:start + BATCH]
            with mixed_precision(self.device, self.precision):
                logits = model.answer(patches[part].to(self.device), torch.from_numpy(received[part]).to(self.device),
                                      torch.full((len(part),), packet_error_rate))
            require_finite_answers('the large model', logits=logits)
            found[part] = logits.cpu().numpy()
        return found[chosen]

    def accuracy(self, predicted: np.ndarray) -> float:
        """Share of the images whose predicted class [n] is right."""
        return float((predicted == self.ids).mean())


def specs(c: Pair) -> tuple[ModelSpec, ModelSpec]:
    """What light and large model are built from, of a configuration with their names."""
    light = ModelSpec(c.light, checkpoint=c.light_checkpoint, image_size=c.light_image_size)
    return light, ModelSpec(c.large, checkpoint=c.large_checkpoint)


def selected(scores: np.ndarray, delta: float) -> np.ndarray:
    """Scores [n, P] to which patches are sent, bool [n, P]."""
    mask = np.zeros(scores.shape, bool)
    for row, image in zip(mask, scores, strict=True):
        row[select(image, delta)] = True
    return mask


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Logits [..., classes] to probabilities."""
    return torch.from_numpy(logits / temperature).float().softmax(-1).numpy()


def fused_classes(logits: np.ndarray, light: np.ndarray, weight: float) -> np.ndarray:
    """The classes [n] that a robot takes from the large model's logits [n, classes] and its own probabilities [n, classes]; of
    the large model it is told the most likely classes only."""
    probabilities = softmax(logits)
    top = np.argsort(-probabilities, 1, kind='stable')[:, :TOP_K]
    fused = with_prior(np.take_along_axis(probabilities, top, 1), np.take_along_axis(light, top, 1), weight)
    return np.take_along_axis(top, fused.argmax(1)[:, None], 1)[:, 0]


def fit_temperature(logits: np.ndarray, ids: np.ndarray) -> float:
    """The temperature with the least cross-entropy (Guo et al., "On calibration of modern neural networks", arXiv 1706.04599)."""
    values, known = torch.from_numpy(logits).double(), torch.from_numpy(ids)
    candidates = np.exp(np.linspace(np.log(0.2), np.log(5), 241))
    losses = [float(functional.cross_entropy(values / candidate, known)) for candidate in candidates]
    return float(round(candidates[int(np.argmin(losses))], 4))
