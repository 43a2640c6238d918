"""A small model with random weights that is quick to divide."""

import torch

from evitif.model.build import ModelSpec, build_model

KWARGS = {'patch_size': 8, 'embed_dim': 48, 'num_heads': 3, 'depth': 2}


def build(seed=0, **more):
    """A random ViT whose norms and LayerScale are not the identity, so that folding them is tested."""
    module = build_model(ModelSpec('vit_tiny_patch16_224', random_seed=seed, image_size=32, num_classes=3,
                                   model_kwargs={**KWARGS, **more})).module
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module
