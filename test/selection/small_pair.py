"""Small models of random weights, and smooth images, for the tests of strategy selection."""

import torch

from evitif.model.build import ModelSpec, build_model, save_model

CLASSES = ['a', 'b', 'c', 'd']
LARGE = {'embed_dim': 32, 'depth': 3, 'num_heads': 2, 'patch_size': 8, 'img_size': 32}
LIGHT = {'embed_dim': 16, 'depth': 2, 'num_heads': 2, 'patch_size': 8, 'img_size': 32}


def write_model(folder, kwargs, seed, class_names=CLASSES):
    module = build_model(ModelSpec('vit_tiny_patch16_224', random_seed=seed, num_classes=len(class_names), model_kwargs=kwargs)).module
    for parameter in module.parameters():
        parameter.data.mul_(3)          # random weights as they come attend evenly and are never sure
    save_model(folder, module, {'architecture': 'vit_tiny_patch16_224', 'model_kwargs': kwargs, 'class_names': list(class_names),
                                'pretrained_cfg': {'input_size': [3, 32, 32], 'mean': [0.5] * 3, 'std': [0.5] * 3,
                                                   'interpolation': 'bicubic', 'crop_pct': 1.0, 'crop_mode': 'center'}})
    return folder


def images(count=6, seed=0):
    """Smooth images float32 [n, 3, 32, 32] in -1..1."""
    coarse = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (32, 32), mode='bicubic').tanh()
