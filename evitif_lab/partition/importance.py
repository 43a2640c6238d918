"""What of a model its answer about some classes depends on, estimated as the KL divergence that leaving it out would cost.

A part (a direction of the residual stream, a head, a unit of an MLP) is multiplied by a gate of one. Without the part the
gate is zero, and to second order the divergence between the two answers is half the expectation of the squared derivative
of the log likelihood by the gate, Fisher's information of it (Theis et al., arXiv 1801.05787; Molchanov et al., arXiv
1906.10771). One backward pass over a few hundred images estimates it for all parts at once, with labels drawn from the
model's own answer. The answer is that over the given classes and 'other'.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from evitif.model.tensors import require_finite_answers
from evitif.partition.slicing import final_norm

BATCH = 32


@dataclass(frozen=True)
class Importance:
    """Estimated divergence in nats, by part."""

    directions: torch.Tensor             # float [width, width - 1]: orthonormal, each of mean zero, by falling variance
    by_direction: torch.Tensor           # float [width - 1]
    by_head: torch.Tensor                # float [blocks, heads]
    by_hidden: torch.Tensor              # float [blocks, hidden]


def grouped_log_probabilities(logits: torch.Tensor, own: tuple[int, ...]) -> torch.Tensor:
    """Logits [B, classes] to the log probabilities [B, own + 1] of the classes `own` and of all others together."""
    log_probabilities = logits.float().log_softmax(1)
    others = [index for index in range(logits.shape[1]) if index not in set(own)]
    rest = torch.logsumexp(log_probabilities[:, others], 1, keepdim=True) if others else \
        torch.full_like(log_probabilities[:, :1], -30.0)
    return torch.cat((log_probabilities[:, list(own)], rest), 1)


def divergence(original: torch.Tensor, pruned: torch.Tensor) -> float:
    """Mean KL divergence in nats between answers given as log probabilities [B, K]."""
    return float(functional.kl_div(pruned, original, log_target=True, reduction='batchmean'))


def estimate(module: nn.Module, images: torch.Tensor, own: tuple[int, ...], seed: int = 0) -> Importance:
    """The importance of every part of `module` for its answer about the classes `own`, on `images` float [n, C, H, W]."""
    directions = principal_directions(module, images)
    blocks = list(module.blocks)
    sums = [torch.zeros(directions.shape[1]), torch.zeros(len(blocks), blocks[0].attn.num_heads),
            torch.zeros(len(blocks), blocks[0].mlp.fc1.out_features)]
    generator = torch.Generator().manual_seed(seed)
    for batch in images.split(BATCH):
        gates = [torch.ones(len(batch), *total.shape, requires_grad=True) for total in sums]
        with _gated(module, directions, gates), torch.enable_grad():
            answer = grouped_log_probabilities(module(batch), own)
        require_finite_answers('the model that is pruned', answer=answer)
        drawn = torch.multinomial(answer.detach().exp(), 1, generator=generator)
        for total, gradient in zip(sums, torch.autograd.grad(answer.gather(1, drawn).sum(), gates), strict=True):
            total += 0.5 * gradient.square().sum(0) / len(images)
    return Importance(directions, *sums)


@torch.no_grad()
def principal_directions(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """float32 [width, width - 1]: the principal components of what the norms are given, each token centred and of equal
    length, over all blocks; by falling variance, orthonormal and of mean zero."""
    width = module.embed_dim
    total = torch.zeros(width, width, dtype=torch.float64)

    def add(_: nn.Module, inputs: tuple) -> None:
        tokens = inputs[0].reshape(-1, width)
        tokens = functional.normalize(tokens - tokens.mean(1, keepdim=True), dim=1)
        total.add_((tokens.T @ tokens).double())

    with _hooked([norm.register_forward_pre_hook(add) for norm in _norms(module)]):
        for batch in images.split(BATCH):
            module(batch)
    if not 0 < total.trace() < math.inf:
        raise ValueError('the tokens of the images are all alike or not finite: the model that is pruned tells nothing apart')
    constant = torch.full((width, 1), width**-0.5, dtype=torch.float64)
    # The constant vector carries nothing: it gets an eigenvalue below all others, and is left out.
    _, vectors = torch.linalg.eigh(total / total.trace() - constant @ constant.T)
    return vectors[:, 1:].flip(1).float().contiguous()


def _norms(module: nn.Module) -> list[nn.Module]:
    return [norm for block in module.blocks for norm in (block.norm1, block.norm2)] + [final_norm(module)]


def _gated(module: nn.Module, directions: torch.Tensor, gates: list[torch.Tensor]) -> AbstractContextManager:
    """Let gates [B, …] multiply the residual stream's directions before each norm, the heads, and the MLPs' units."""
    by_direction, by_head, by_hidden = gates

    def stream(_: nn.Module, inputs: tuple) -> torch.Tensor:
        tokens = inputs[0]
        gate = (by_direction - 1).view(len(tokens), *[1] * (tokens.ndim - 2), -1)
        return tokens + (tokens @ directions * gate) @ directions.T

    hooks = [norm.register_forward_pre_hook(stream) for norm in _norms(module)]
    for index, block in enumerate(module.blocks):
        def heads(_: nn.Module, inputs: tuple, index: int = index, dim: int = block.attn.head_dim) -> torch.Tensor:
            return inputs[0] * by_head[:, index].repeat_interleave(dim, 1)[:, None]

        def hidden(_: nn.Module, inputs: tuple, index: int = index) -> torch.Tensor:
            return inputs[0] * by_hidden[:, index][:, None]
        hooks += [block.attn.proj.register_forward_pre_hook(heads), block.mlp.fc2.register_forward_pre_hook(hidden)]
    return _hooked(hooks)


@contextmanager
def _hooked(hooks: list[RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
