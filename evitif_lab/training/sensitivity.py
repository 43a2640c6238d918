"""Fit `evitif.model.sensitivity` to a tail: which patches of a frame its answer depends on, by the gradients of its own answers."""

from __future__ import annotations

import numpy as np
import torch

from evitif.model.entropy_code import EntropyCode
from evitif.model.sensitivity import Sensitivity, features
from evitif.model.split import SplitModel
from evitif.selection import PatchModel
from evitif_lab.commands.progress import Progress
from evitif_lab.trials.headed import drawn_log_probability

IMAGES, DRAWS = 300, 3      # training images, and classes drawn for each
FIRST = 64                  # levels that the logarithm is linear in
BATCH = 25
_RIDGE, _LEAST = 1000.0, 1e-4


def fit_sensitivity(split: SplitModel | PatchModel, code: EntropyCode, tokens: torch.Tensor, seed: int = 0) -> Sensitivity:
    """Ridge regression of the logarithm of a patch's share of its frame's Fisher information, in the metric of the code's levels.

    :param tokens: exact ones of training images, [n, N, D]
    """
    device, prefix = next(split.module.parameters()).device, split.prefix_tokens
    generator, synthesis = torch.Generator().manual_seed(seed), torch.from_numpy(code.synthesis[prefix]).to(device)
    shares = []
    for part in Progress(tokens[:IMAGES].split(BATCH), desc=f'sensitivity at cut {split.cut}', unit='batch'):
        leaf = part.clone().to(device).requires_grad_(True)
        with torch.enable_grad():
            logits = split.tail(leaf)
            total = torch.zeros(leaf.shape[:2], device=device)[:, prefix:]
            for draw in range(DRAWS):
                (gradient,) = torch.autograd.grad(drawn_log_probability(logits, generator), leaf, retain_graph=draw + 1 < DRAWS)
                total += (gradient[:, prefix:] @ synthesis.T).square().sum(2)
        shares.append((total / total.mean(1, keepdim=True).clamp(min=1e-30)).cpu())
    share = torch.cat(shares).double().numpy()
    wanted, first = np.log(share + _LEAST), min(FIRST, code.coefficients)
    levels = np.stack([code.quantise(frame.numpy())[prefix:] for frame in tokens[:IMAGES]])
    place = np.log(share.mean(0) + _LEAST)
    found = features(levels, first).astype(np.float64).reshape(-1, first + 1)
    spread = np.maximum(found.std(0), 1e-6)
    design = np.concatenate((found / spread, np.tile(place, len(share))[:, None]), 1)
    middle = design.mean(0)
    design -= middle
    solved = np.linalg.solve(design.T @ design + _RIDGE * np.eye(len(middle)), design.T @ (wanted - wanted.mean()).ravel())
    return Sensitivity((solved[-1] * place).astype(np.float32), (solved[:-1] / spread).astype(np.float32))
