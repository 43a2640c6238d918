"""The model's own preprocessing (timm), and where the model looked in the source image."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import nn

from evitif.model.timm_import import timm


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


class Preprocessor:
    """uint8 RGB images to the model's input, by timm's evaluation transform for `data_config`."""

    def __init__(self, data_config: dict):
        self.data_config = data_config
        self.image_size = tuple(data_config['input_size'][1:])
        self._transform = timm.data.create_transform(**data_config, is_training=False)

    def __call__(self, image: np.ndarray) -> torch.Tensor:
        """uint8 [H, W, 3] RGB to float32 [1, C, h, w]. Raises ValueError on another shape or type."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f'expected an RGB image uint8 [H, W, 3], got {image.dtype} {list(image.shape)}')
        tensor = self._transform(Image.fromarray(image))[None]
        channels = self.data_config['input_size'][0]
        return tensor if channels == 3 else tensor.mean(1, keepdim=True).expand(-1, channels, -1, -1)

    def crop(self, height: int, width: int) -> tuple[float, float, float, float]:
        """(left, top, width, height) in source pixels of what the model sees of an image [height, width]."""
        h, w = self.image_size
        share = float(self.data_config.get('crop_pct') or 1.0)
        resized = math.floor(h / share), math.floor(w / share)
        mode = self.data_config.get('crop_mode', 'center')
        if mode == 'squash':
            scale_y, scale_x = resized[0] / height, resized[1] / width
        else:
            scale_y = scale_x = (min if mode == 'border' else max)(resized[0] / height, resized[1] / width)
        seen_h, seen_w = h / scale_y, w / scale_x
        return (width - seen_w) / 2, (height - seen_h) / 2, seen_w, seen_h
