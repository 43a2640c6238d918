"""From a picture to a model's input: timm's evaluation transform, with any image size and `Fit`.

This is the one place where it is done, for the robot, for trainings and for evaluations; `field_of_view` says where the model looked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from evitif.model.field_of_view import FieldOfView
from evitif.model.timm_import import timm
from evitif.vocabulary import Fit

AUTO = 'auto'                           # the fit that the model was made for
_MODES = {Fit.CROP: 'center', Fit.PAD: 'border', Fit.SQUASH: 'squash'}      # as timm calls them
_TO_TENSOR = ('MaybeToTensor', 'ToTensor')


def data_config_of(module: nn.Module) -> dict:
    """The model's own preprocessing; the input size is the one it was built for, not the pretrained one."""
    config = timm.data.resolve_model_data_config(module)
    size = getattr(getattr(module, 'patch_embed', None), 'img_size', None)
    if size is not None:
        config['input_size'] = (config['input_size'][0], *size)
    return config


def tuples_of(config: dict) -> dict:
    """A data_config or pretrained_cfg read from JSON, with tuples for its lists, as timm has them."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}


def seen_as(data_config: dict, size: tuple[int, int] | None = None, fit: str = AUTO) -> dict:
    """The preprocessing with another input size (height, width), or another `Fit`; AUTO: as it is. With `pad` and `squash` the whole
    picture is seen, whatever part a model's own preprocessing keeps."""
    config = dict(data_config)
    if size is not None:
        config['input_size'] = (config['input_size'][0], *size)
    if fit != AUTO:
        config['crop_mode'] = _MODES[Fit(fit)]
        config['crop_pct'] = 1.0 if fit != Fit.CROP else config.get('crop_pct')
    return config


class Preprocessor:
    """uint8 RGB images to the model's input, by timm's evaluation transform for `data_config`."""

    def __init__(self, data_config: dict):
        self.data_config = data_config
        self.image_size = tuple(data_config['input_size'][1:])
        steps = timm.data.create_transform(**data_config, is_training=False).transforms
        first = next(index for index, step in enumerate(steps) if type(step).__name__ in _TO_TENSOR)
        self._fitted, self._normalised = steps[:first], steps[first:]

    def __call__(self, image: np.ndarray) -> torch.Tensor:
        """uint8 [H, W, 3] RGB to float32 [1, C, h, w]. Raises ValueError on another shape or type."""
        tensor = _through(self._normalised, self._seen(image))[None]
        channels = self.data_config['input_size'][0]
        return tensor if channels == 3 else tensor.mean(1, keepdim=True).expand(-1, channels, -1, -1)

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """The same before it is normalised: what the model sees, uint8 [h, w, 3]."""
        return np.array(self._seen(image))

    def view(self, height: int, width: int) -> FieldOfView:
        """What the model sees of an image [height, width]."""
        return FieldOfView.of(self.data_config, height, width)

    def crop(self, height: int, width: int) -> tuple[float, float, float, float]:
        """(left, top, width, height) in source pixels of what the model sees of an image [height, width]."""
        return self.view(height, width).box

    def _seen(self, image: np.ndarray) -> Image.Image:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f'expected an RGB image uint8 [H, W, 3], got {image.dtype} {list(image.shape)}')
        self.view(*image.shape[:2])
        return _through(self._fitted, Image.fromarray(image))


def _through(steps: list[Callable[[Any], Any]], image: Any) -> Any:
    for step in steps:
        image = step(image)
    return image
