"""A convolutional network divided like the ViT, as a comparison: a plain one (Simonyan and Zisserman, arXiv 1409.1556, with batch
norm), trained from the original's answers, its channels pruned by the same estimate, retrained and fused by the same code."""

from __future__ import annotations

import copy

import torch
from torch import nn

from evitif.model.tensors import require_finite_answers
from evitif_lab.partition.importance import BATCH, grouped_log_probabilities
from evitif_lab.partition.pruning import Limit

WIDTHS = (32, 32, 64, 64, 128, 128)      # pooled by two after every second layer
_SMALLEST = 2


class Cnn(nn.Module):
    """Images [B, C, H, W] to logits, with the methods of a timm model that retraining calls."""

    def __init__(self, widths: tuple[int, ...], classes: int, channels: int = 3):
        super().__init__()
        self.widths, self.channels, self.num_features = tuple(widths), channels, widths[-1]
        before = (channels, *widths[:-1])
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(entering, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for entering, width in zip(before, widths, strict=True))
        self.norm = nn.LayerNorm(widths[-1])
        self.head = nn.Linear(widths[-1], classes)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] to features of the last layer."""
        x = images
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index % 2 and index + 1 < len(self.layers):
                x = nn.functional.max_pool2d(x, 2)
        return x

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Features of the last layer to logits, or to the pooled token [B, width]."""
        pooled = self.norm(x.mean((2, 3)))
        return pooled if pre_logits else self.head(pooled)

    def get_classifier(self) -> nn.Linear:
        """As timm's."""
        return self.head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] to logits."""
        return self.forward_head(self.forward_features(images))

    def multiply_adds(self, size: int) -> int:
        """For one image of `size` pixels, square."""
        total = self.head.weight.numel()
        for index, layer in enumerate(self.layers):
            side = size // 2**(index // 2)
            total += side * side * layer[0].weight.numel()
        return total


def prune_cnn(module: Cnn, images: torch.Tensor, own: tuple[int, ...], limit: Limit, size: int, seed: int = 0) -> Cnn:
    """A smaller copy for the classes `own` and 'other', all layers narrowed by one factor until it is within `limit`.

    Raises ValueError where the narrowest is above it.
    """
    importance = _importance(module, images, own, seed)
    for share in torch.linspace(1.0, 0.02, 99).tolist():
        widths = tuple(max(_SMALLEST, round(width * share)) for width in module.widths)
        small = Cnn(widths, len(own) + 1, module.channels)
        parameters = sum(parameter.numel() for parameter in small.parameters())
        if limit.allows(parameters, small.multiply_adds(size)):
            _fill(small, module, [scores.topk(width).indices.sort().values for scores, width in zip(importance, widths, strict=True)], own)
            return small
    raise ValueError(f'a CNN of widths {module.widths} cannot be pruned to {limit}')


def _importance(module: Cnn, images: torch.Tensor, own: tuple[int, ...], seed: int) -> list[torch.Tensor]:
    """As `importance.estimate`, for each layer by channel."""
    module = copy.deepcopy(module).eval().requires_grad_(False)
    totals = [torch.zeros(width) for width in module.widths]
    generator = torch.Generator().manual_seed(seed)
    for batch in images.split(BATCH):
        gates = [torch.ones(len(batch), width, requires_grad=True) for width in module.widths]
        hooks = [layer.register_forward_hook(lambda _, inputs, output, gate=gate: output * gate[:, :, None, None])
                 for layer, gate in zip(module.layers, gates, strict=True)]
        answer = grouped_log_probabilities(module(batch), own)
        for hook in hooks:
            hook.remove()
        require_finite_answers('the CNN that is pruned', answer=answer)
        drawn = torch.multinomial(answer.detach().exp(), 1, generator=generator)
        for total, gradient in zip(totals, torch.autograd.grad(answer.gather(1, drawn).sum(), gates), strict=True):
            total += 0.5 * gradient.square().sum(0)
    return totals


@torch.no_grad()
def _fill(small: Cnn, module: Cnn, kept: list[torch.Tensor], own: tuple[int, ...]) -> None:
    before = torch.arange(module.channels)
    for target, source, channels in zip(small.layers, module.layers, kept, strict=True):
        target[0].weight.copy_(source[0].weight[channels][:, before])
        for name, value in source[1].state_dict().items():
            target[1].state_dict()[name].copy_(value[channels] if value.ndim else value)
        before = channels
    small.norm.weight.copy_(module.norm.weight[before])
    small.norm.bias.copy_(module.norm.bias[before])
    small.head.weight[:-1].copy_(module.head.weight[list(own)][:, before])
    small.head.bias[:-1].copy_(module.head.bias[list(own)])
