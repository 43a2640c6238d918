"""A small backbone with heads of random weights, for tests of several folders."""

import functools

import torch

from evitif.heads import Reading
from evitif.heads.classify import LinearProbe
from evitif.model.build import ModelSpec, build_model, save_model
from evitif.model.fingerprint import trunk_fingerprint
from evitif.model.split import SplitModel

SMALL = {'embed_dim': 24, 'depth': 4, 'num_heads': 3, 'img_size': 64}


class Backbone:
    """A ViT of random weights with 4 blocks, cut after block 2."""

    name = 'vit_tiny_patch16_224'

    def __init__(self, seed=3, cut=2, **kwargs):
        self.module = build_model(ModelSpec(self.name, random_seed=seed, num_classes=5, model_kwargs={**SMALL, **kwargs})).module
        self.split = SplitModel(self.module, cut)
        self.fingerprint_of = functools.partial(trunk_fingerprint, self.module)

    def reading(self, *blocks):
        """What a head reads that reads these blocks."""
        split = self.split
        return Reading(blocks or (split.depth,), True, split.image_size, split.grid, split.prefix_tokens, split.channels)

    @torch.no_grad()
    def tokens(self, images=2):
        """Tokens [images, N, D] at the cut."""
        return self.split.head(torch.rand(images, 3, *self.split.image_size, generator=torch.Generator().manual_seed(1)))


def probe_of(reading, labels=('cup', 'plate', 'fork'), kind=LinearProbe):
    """A head of random weights."""
    torch.manual_seed(7)
    head = kind(reading, labels)
    for tensor in head.state_dict().values():
        tensor.normal_()
    return head.eval()


def save_tiny_backbone(folder, name):
    """A ViT of random weights that sees 32x32 pixels as 8x8 patches and knows two classes, in `folder`."""
    kwargs = {'img_size': 32, 'patch_size': 4, 'embed_dim': 24, 'depth': 4, 'num_heads': 3}
    module = build_model(ModelSpec('vit_tiny_patch16_224', random_seed=1, num_classes=2, model_kwargs=kwargs)).module
    save_model(folder, module, {
        'name': name, 'architecture': 'vit_tiny_patch16_224', 'model_kwargs': kwargs, 'class_names': ['a', 'b'], 'default_cut': 2,
        'pretrained_cfg': {'input_size': [3, 32, 32], 'mean': [0.5] * 3, 'std': [0.5] * 3, 'interpolation': 'bicubic', 'crop_pct': 1.0,
                           'crop_mode': 'center'}})
