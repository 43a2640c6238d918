"""Muon (Jordan et al., 'Muon: An optimizer for hidden layers in neural networks', 2024), for many small matrices.

As `torch.optim.Muon`, whose defaults it has, with two differences that count on a processor: matrices of one shape are
orthogonalised together, in one batch, and in float32, since many processors have no arithmetic for bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
EPSILON = 1e-7


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are orthogonalised. Raises ValueError where a parameter is not a matrix.

    :param lr: of a matrix with no more rows than columns; of others times the root of rows over columns
    """

    def __init__(self, params: Iterable[torch.nn.Parameter], lr: float, weight_decay: float = 0.1, momentum: float = 0.95):
        super().__init__(params, {'lr': lr, 'weight_decay': weight_decay, 'momentum': momentum})
        for parameter in (parameter for group in self.param_groups for parameter in group['params']):
            if parameter.ndim != 2:
                raise ValueError(f'Muon is given a parameter of shape {list(parameter.shape)}: expected matrices')

    @torch.no_grad()
    def step(self) -> None:
        """As `torch.optim.Optimizer.step`."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[torch.nn.Parameter]] = {}
            for parameter in group['params']:
                if parameter.grad is not None:
                    alike.setdefault(parameter.shape, []).append(parameter)
            for (rows, columns), parameters in alike.items():
                updates = orthogonalised(torch.stack([self._with_momentum(parameter, group['momentum']) for parameter in parameters]))
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group['lr'] * group['weight_decay'])
                    parameter.add_(update, alpha=-group['lr'] * math.sqrt(max(1, rows / columns)))

    def _with_momentum(self, parameter: torch.nn.Parameter, momentum: float) -> torch.Tensor:
        """The parameter's gradient with Nesterov's momentum."""
        state = self.state[parameter]
        if not state:
            state['momentum_buffer'] = torch.zeros_like(parameter)
        buffer = state['momentum_buffer'].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(buffer, momentum)


def orthogonalised(matrices: torch.Tensor) -> torch.Tensor:
    """Matrices [n, rows, columns] to ones of the same singular vectors, with singular values of about 0.7 to 1.2: five
    iterations of a quintic polynomial (Newton and Schulz's, with coefficients of the blog post that introduced Muon)."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=EPSILON)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
