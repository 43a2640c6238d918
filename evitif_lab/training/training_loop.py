"""The training loop that all trainings share: AdamW, where asked for with Muon, a cosine schedule, and the moving average of the weights,
which is what is kept. Resumes where it was interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from evitif_lab.commands.progress import Progress
from evitif_lab.training.average import warmed_up_average
from evitif_lab.training.checkpoint import Checkpoint
from evitif_lab.training.divergence import require_finite_step, require_finite_weights
from evitif_lab.training.muon import Muon


@dataclass(frozen=True)
class TrainingLoop:
    """How long and how fast."""

    steps: int
    learning_rate: float
    weight_decay: float
    warmup: float               # steps in which the learning rate rises
    average_decay: float
    save_every: int             # steps between checkpoints
    matrix_rate: float | None = None    # Muon's learning rate for the weight matrices of transformer blocks; None: AdamW for all

    def rate(self, step: int) -> float:
        """What the learning rates are multiplied with."""
        return min(1.0, (step + 1) / self.warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))

    def optimisers(self, module: nn.Module) -> list[torch.optim.Optimizer]:
        """AdamW, and for the weight matrices of transformer blocks Muon (Jordan et al., 2024) where it is asked for."""
        parameters = [(self.matrix_rate is not None and parameter.ndim == 2 and 'blocks.' in name, parameter)
                      for name, parameter in module.named_parameters() if parameter.requires_grad]
        matrices, others = ([parameter for matrix, parameter in parameters if matrix is which] for which in (True, False))
        muon = [Muon(matrices, lr=self.matrix_rate, weight_decay=self.weight_decay)] if matrices else []
        return [torch.optim.AdamW(others, lr=self.learning_rate, weight_decay=self.weight_decay), *muon]

    def place(self, step: int) -> str:
        """A step in words, for an error."""
        return f'step {step + 1} of {self.steps}'


class Watcher(Protocol):
    """What is told of a training at each checkpoint and after the last step, and is resumed with it."""

    def saving(self, step: int, average: nn.Module) -> None:
        """After `step` steps, with the moving average so far."""

    def state_dict(self) -> dict:
        """What `load_state_dict` takes."""

    def load_state_dict(self, state: dict) -> None:
        """Go on from there."""


def train_loop(loop: TrainingLoop, module: nn.Module, losses: Callable[[int], dict[str, torch.Tensor]],
               total: Callable[[dict[str, torch.Tensor]], torch.Tensor], clipped: Iterable[Iterable[nn.Parameter]], title: str,
               checkpoint: Checkpoint | None = None, watcher: Watcher | None = None) -> tuple[nn.Module, dict[str, float], float]:
    """Train the parameters of `module` that require a gradient and return the moving average of it, the smoothed losses and
    the seconds that it took. Raises DivergenceError where a loss, a gradient or a weight is not finite.

    :param losses: of a step, by name; `total` says what they sum up to
    :param clipped: groups of parameters whose gradients' norms are clipped to 1, each group by itself
    """
    groups = [list(group) for group in clipped]
    average = torch.optim.swa_utils.AveragedModel(module, multi_avg_fn=warmed_up_average(loop.average_decay))
    optimisers = loop.optimisers(module)
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimiser, loop.rate) for optimiser in optimisers]
    parts = {'module': module, 'average': average, **{f'optimiser{index}': one for index, one in enumerate(optimisers)},
             **{f'schedule{index}': one for index, one in enumerate(schedules)}, **({'watcher': watcher} if watcher else {})}
    began_at, spent, began = 0, 0.0, time.monotonic()
    if checkpoint is not None and (state := checkpoint.restore(parts)) is not None:
        began_at, spent = state['step'], state['seconds']
    smooth: dict[str, float] = {}
    bar = Progress(range(began_at, loop.steps), desc=title, unit='step', initial=began_at, total=loop.steps)
    for step in bar:
        found, place = losses(step), loop.place(step)
        loss, values = total(found), {name: value.item() for name, value in found.items()}
        require_finite_step(title, place, checkpoint, **_named(values), loss=loss.item())
        module.zero_grad(set_to_none=True)
        loss.backward()
        norm = sum(torch.nn.utils.clip_grad_norm_(group, 1.0).item() for group in groups)
        require_finite_step(title, place, checkpoint, gradient_norm=norm)
        for optimiser, schedule in zip(optimisers, schedules, strict=True):
            optimiser.step()
            schedule.step()
        average.update_parameters(module)
        for name, value in values.items():
            smooth[name] = value if name not in smooth else 0.98 * smooth[name] + 0.02 * value
        bar.set_postfix({name: f'{value:.4f}' for name, value in smooth.items()})
        last = step + 1 == loop.steps
        if (step + 1) % loop.save_every == 0 or last:
            require_finite_weights(title, 'its last step' if last else place, average.module.state_dict(), checkpoint)
            if watcher is not None:
                watcher.saving(step + 1, average.module)
            if checkpoint is not None and not (last and watcher is None):       # without a watcher little is left to lose
                checkpoint.save({**{name: part.state_dict() for name, part in parts.items()}, 'step': step + 1,
                                 'seconds': spent + time.monotonic() - began})
    return average.module, smooth, spent + time.monotonic() - began


def _named(values: Mapping[str, float]) -> dict[str, float]:
    """The losses by what they are called in an error; a single one is the loss itself."""
    return {f'loss_{name}': value for name, value in values.items()} if len(values) > 1 else {}
