"""A small model learns from a large one's answers (Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network",
arXiv 1503.02531), given once for each image or for each view of it (Beyer et al., "Knowledge distillation: A good teacher is patient
and consistent", arXiv 2106.05237)."""

from __future__ import annotations

import torch
from torch.nn import functional

from evitif.model.build import BuiltModel, ModelSpec, build_model
from evitif.model.tensors import require_finite_answers
from evitif.wording import few
from evitif_lab.commands.progress import Progress
from evitif_lab.precision import mixed_precision
from evitif_lab.trials.images import Normalise

BATCH = 250


class Teacher:
    """The answers of the model folder `source` to the training images, softened by a temperature.

    Computed once, they are those to the images as they are: the student is to give them for shifted, mirrored and erased ones as well.
    With `views` nothing is computed beforehand: the teacher is asked about what the student sees, at its arithmetic in every epoch.

    :param images: uint8 [n, 3, H, W]
    :raises ValueError: the teacher has other classes or another image size, or weight or temperature are out of range
    """

    def __init__(self, source: str, class_names: tuple[str, ...], images: torch.Tensor, weight: float, temperature: float,
                 device: str = 'cpu', precision: str = 'fp32', views: bool = False):
        built = fitting_teacher(source, class_names, tuple(images.shape[2:]), weight, temperature)
        self.weight, self.temperature = weight, temperature
        self._module, self._device, self._precision = built.module.to(device).eval(), device, precision
        self._normalise = Normalise(built.data_config, device)
        self.once = None if views else torch.cat([
            self.softened(part.to(device)).cpu()
            for part in Progress(images.split(BATCH), desc="the teacher's answers", unit='batch')])

    @torch.no_grad()
    def softened(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities float32 [n, classes] for images [n, 3, H, W] of 0 to 255; `once` holds those of all training images."""
        with mixed_precision(self._device, self._precision):
            logits = self._module(self._normalise(images))
        require_finite_answers('the teacher', logits=logits)
        return (logits.float() / self.temperature).softmax(1)

    def loss(self, label_loss: torch.Tensor, logits: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """The loss on labels and that on the teacher's softened `answers` [B, classes], weighted. The square of the
        temperature keeps the gradients' sizes comparable (section 2 of the paper)."""
        divergence = functional.cross_entropy(logits / self.temperature, answers) * self.temperature**2
        return (1 - self.weight) * label_loss + self.weight * divergence


def fitting_teacher(source: str, class_names: tuple[str, ...], size: tuple[int, int], weight: float, temperature: float) -> BuiltModel:
    """Build the teacher for students of these classes and this image size (height, width). Raises ValueError as `Teacher`."""
    if not 0 < weight <= 1 or not temperature > 0:
        raise ValueError(f'distil_weight is {weight:g} and distil_temperature {temperature:g}: expected a weight of more '
                         'than 0 and at most 1, and a temperature of more than 0')
    built = build_model(ModelSpec(source))
    if built.class_names != tuple(class_names):
        raise ValueError(f'the teacher {source!r} knows the classes {_counted(built.class_names)}, the data has {_counted(class_names)}')
    own = tuple(built.data_config['input_size'][1:])
    if own != tuple(size):
        raise ValueError(f'the teacher {source!r} takes images of {own[0]}x{own[1]}, the student of {size[0]}x{size[1]}')
    return built


def _counted(names: tuple[str, ...]) -> str:
    return f'{len(names)}: {few(names, 3)}'
