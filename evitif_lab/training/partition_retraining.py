"""Retrain the sub-models of a partition side by side, and the network that fuses them.

Each sub-model learns the original's answer about its own classes and 'other'; all of them together, through a fusion network
that is given whatever devices happen to be present, the original's whole answer; and each also the original's last features,
through a linear map that is thrown away after. The second and third are ours; ED-ViT (arXiv 2410.11650) retrains each alone.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import nn
from torch.nn import functional

from evitif.model.quantise import TokenQuantiser
from evitif.model.split import SplitModel
from evitif.model.tensors import require_finite_answers
from evitif.partition.fusion import FusionNetwork
from evitif.partition.view import View
from evitif_lab.commands.progress import Progress
from evitif_lab.partition.absence import draw_present
from evitif_lab.partition.importance import grouped_log_probabilities
from evitif_lab.partition.sizes import shape_of
from evitif_lab.precision import mixed_precision
from evitif_lab.training.average import warmed_up_average
from evitif_lab.training.checkpoint import Checkpoint
from evitif_lab.training.divergence import require_finite_step, require_finite_weights
from evitif_lab.training.training_answers import TrainingAnswers
from evitif_lab.training.training_loop import TrainingLoop, train_loop
from evitif_lab.trials.images import Normalise, shift_and_flip

FEATURE_QUANTISATION = 'int8'


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a training goes."""

    steps: int
    batch_size: int = 64
    learning_rate: float = 5e-3        # AdamW's
    matrix_rate: float = 0.01          # Muon's (Jordan et al., 2024), for the blocks' weight matrices
    weight_decay: float = 0.02
    average_decay: float = 0.995
    temperature: float = 2.0           # of the fused answer's distillation (Hinton et al., arXiv 1503.02531)
    own_weight: float = 0.5            # of the answers about own classes, against the fused one
    feature_weight: float = 1.0        # of the original's features, likewise
    shift_pixels: int = 1
    flip: bool = True


class System(nn.Module):
    """Sub-models, the fusion network, and the maps to the original's features, which only training needs."""

    def __init__(self, modules: list[nn.Module], subsets: tuple[tuple[int, ...], ...], classes: int, original_width: int,
                 common_blocks: int = 0, views: tuple[View, ...] = ()):
        """:param common_blocks: so many of the first blocks, and what precedes them, are one for all sub-models of one shape
        :param views: how each looks at an image; (): all as it is
        """
        super().__init__()
        self.subsets = subsets
        self.views = views
        self.common_blocks = common_blocks
        self.channels = max(int(module.num_features) for module in modules)
        share_first_blocks(modules, common_blocks)
        self.modules_ = nn.ModuleList(modules)
        self.fusion = FusionNetwork(len(modules), self.channels, classes)
        self.hints = nn.ModuleList(nn.Linear(self.channels, original_width) for _ in modules)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Preprocessed images [B, C, H, W] to features [B, N, F]."""
        return torch.stack([functional.pad(row, (0, self.channels - row.shape[1]))
                            for row in pooled_tokens(self.modules_, images, self.common_blocks, self.views)], 1)

    def losses(self, images: torch.Tensor, logits: torch.Tensor, target: torch.Tensor, present: torch.Tensor,
               temperature: float) -> dict[str, torch.Tensor]:
        """:param logits: the original's, [B, classes]
        :param target: the original's features, standardised, [B, width]
        :param present: bool [B, N]"""
        features = self.features(images)
        fused = distillation(self.fusion(features, present), logits, temperature)
        own = feature = 0.0
        for index, (module, hint, subset) in enumerate(zip(self.modules_, self.hints, self.subsets, strict=True)):
            answer = module.get_classifier()(features[:, index, :module.num_features]).float().log_softmax(1)
            own = own + functional.kl_div(answer, grouped_log_probabilities(logits, subset), log_target=True,
                                          reduction='batchmean') / len(self.subsets)
            feature = feature + functional.mse_loss(hint(features[:, index]).float(), target) / len(self.subsets)
        return {'fused': fused, 'own': own, 'feature': feature}


class Ensemble(nn.Module):
    """Models of all classes that are trained each alone, as a comparison: answers are averaged, nothing is fused."""

    def __init__(self, modules: list[nn.Module], channels: list[int], original_width: int, common_blocks: int = 0,
                 views: tuple[View, ...] = ()):
        super().__init__()
        self.views = views
        self.common_blocks = common_blocks
        share_first_blocks(modules, common_blocks)
        self.modules_ = nn.ModuleList(modules)
        self.hints = nn.ModuleList(nn.Linear(width, original_width) for width in channels)

    def losses(self, images: torch.Tensor, logits: torch.Tensor, target: torch.Tensor, present: torch.Tensor,
               temperature: float) -> dict[str, torch.Tensor]:
        """As `System.losses`."""
        fused = feature = 0.0
        rows = pooled_tokens(self.modules_, images, self.common_blocks, self.views)
        for module, hint, pooled in zip(self.modules_, self.hints, rows, strict=True):
            answer = module.get_classifier()(pooled)
            fused = fused + distillation(answer, logits, temperature)
            feature = feature + functional.mse_loss(hint(pooled).float(), target)
        return {'fused': fused, 'feature': feature}


def share_first_blocks(modules: list[nn.Module], blocks: int) -> None:
    """Let sub-models of one shape have one object for what precedes the blocks and for the first `blocks`. Raises ValueError
    where they differ: they have to be pruned alike."""
    firsts: dict = {}
    for module in modules if blocks else ():
        first = firsts.setdefault(shape_of(module), module)
        theirs, own = (SplitModel(one, blocks) for one in (first, module))
        if not torch.equal(theirs.blank_tokens(), own.blank_tokens()):
            raise ValueError(f'the first {blocks} blocks are to be common, and two sub-models differ there: expected the same pruning')
        for name in ('patch_embed', 'cls_token', 'reg_token', 'pos_embed'):
            if getattr(module, name, None) is not None:
                setattr(module, name, getattr(first, name))
        for index in range(blocks):
            module.blocks[index] = first.blocks[index]


def pooled_tokens(modules: nn.ModuleList, images: torch.Tensor, common_blocks: int, views: tuple[View, ...] = ()) -> list[torch.Tensor]:
    """The normed, pooled token [B, width] of each model; what they share is computed once."""
    seen = {view: view(images) for view in views or (View(),)}
    tokens: dict[tuple[int, View], torch.Tensor] = {}
    rows = []
    for module, view in zip(modules, views or (View(),) * len(modules), strict=True):
        if not common_blocks:
            x = module.forward_features(seen[view])
        else:
            first = id(module.patch_embed), view
            if first not in tokens:
                tokens[first] = SplitModel(module, common_blocks).head(seen[view])
            x = module.norm(module.blocks[common_blocks:](tokens[first]))
        rows.append(module.forward_head(x, pre_logits=True).float())
    return rows


def groups_of(system: nn.Module) -> list[list[nn.Parameter]]:
    """What is clipped together: each model's own part, what several share, the fusion network and the maps to the features."""
    groups: dict[tuple[int, ...], list[nn.Parameter]] = {}
    owners: dict[nn.Parameter, list[int]] = {}
    for index, module in enumerate(system.modules_):
        for parameter in module.parameters():
            owners.setdefault(parameter, []).append(index)
    for parameter in system.parameters():
        groups.setdefault(tuple(owners.get(parameter, ())), []).append(parameter)
    return list(groups.values())


def distillation(answer: torch.Tensor, logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL divergence (nats, times temperature²) of an answer from the original's, both logits [B, classes]."""
    return temperature**2 * functional.kl_div((answer.float() / temperature).log_softmax(1), (logits / temperature).log_softmax(1),
                                              log_target=True, reduction='batchmean')


def retrain(system: System | Ensemble, answers: TrainingAnswers, data_config: dict, schedule: Schedule, seed: int = 0,
            device: str = 'cpu', precision: str = 'fp32', checkpoint: Checkpoint | None = None,
            title: str = 'retraining') -> tuple[nn.Module, dict]:
    """Train `system` and return the moving average of it, with the last losses and the seconds. Resumes by `checkpoint`."""
    s = schedule
    system.to(device).train()
    spread = answers.features.std(0).clamp(min=1e-3)
    centre = answers.features.mean(0)
    normalise = Normalise(data_config, device)

    def losses(step: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        chosen = _batch(step, len(answers.images), s.batch_size, seed)
        images = normalise(shift_and_flip(answers.images[chosen].to(device), s.shift_pixels, generator, s.flip))
        present = draw_present(len(chosen), len(system.modules_), generator).to(device)
        target = ((answers.features[chosen] - centre) / spread).to(device)
        with mixed_precision(device, precision):
            return system.losses(images, answers.logits[chosen].to(device), target, present, s.temperature)

    loop = TrainingLoop(s.steps, s.learning_rate, s.weight_decay, max(1, s.steps // 20), s.average_decay, save_every=200,
                      matrix_rate=s.matrix_rate)
    trained, smooth, seconds = train_loop(
        loop, system, losses,
        lambda found: found['fused'] + s.own_weight * found.get('own', 0.0) + s.feature_weight * found['feature'],
        groups_of(system), title, checkpoint)
    figures = {**{f'training_{name}': round(value, 4) for name, value in smooth.items()}, 'seconds': round(seconds, 1)}
    return trained.eval().to('cpu'), figures


def fuse(system: System, answers: TrainingAnswers, data_config: dict, images: int, steps: int, seed: int = 0,
         device: str = 'cpu', temperature: float = 2.0, judged: bool = False) -> tuple[FusionNetwork, dict]:
    """Train the fusion network on the finished sub-models' features as they arrive, quantised; the sub-models stay as they are.

    On images that the sub-models learnt from it learns to trust them too much, which ones that they never saw are to prevent (stacked
    generalisation: Wolpert, 1992; docs/notes/2026-11-29-partition.md says where that helps).

    :param images: so many are drawn, views among them
    :param judged: the sub-models never saw these images. A fifth of them is kept from the fusion's training too, and what is returned
        is the network with the least divergence on these, of those after every 50 steps and the one that it began as.
    """
    began = time.monotonic()
    drawn = torch.randperm(len(answers.images), generator=torch.Generator().manual_seed(seed))[:images]
    features = arrived_features(system, answers.images[drawn], Normalise(data_config, device), device)
    logits = answers.logits[drawn]
    aside = drawn % len(answers.class_ids) >= len(answers.class_ids) * 4 // 5 if judged else torch.zeros(len(drawn), dtype=torch.bool)
    jury = (features[aside], logits[aside]) if judged else None
    network, figures = train_fusion(system.fusion, features[~aside], logits[~aside], steps, seed, device, temperature, jury)
    return network, {**figures, 'images': len(features), 'seconds': round(time.monotonic() - began, 1)}


def train_fusion(network: FusionNetwork, features: torch.Tensor, logits: torch.Tensor, steps: int, seed: int = 0, device: str = 'cpu',
                 temperature: float = 2.0, jury: tuple[torch.Tensor, torch.Tensor] | None = None) -> tuple[FusionNetwork, dict]:
    """As `fuse`, on features [n, N, F] and the original's logits [n, classes]; a `jury` of both chooses among the networks on the way."""
    network = network.to(device).train()
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=warmed_up_average(0.99))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, steps))
    loss = torch.zeros(())
    best = _Best(jury, seed, temperature, device) if jury is not None else None
    if best is not None:
        best.hear(network, 0)
    for step in Progress(range(steps), desc='fusion', unit='step'):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        chosen = torch.randint(0, len(features), (256,), generator=generator)
        present = draw_present(len(chosen), features.shape[1], generator)
        loss = distillation(network(features[chosen].to(device), present.to(device)), logits[chosen].to(device), temperature)
        require_finite_step('fusion', f'step {step + 1} of {steps}', loss=loss.item())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), math.inf)       # measured, not clipped
        require_finite_step('fusion', f'step {step + 1} of {steps}', gradient_norm=norm.item())
        optimiser.step()
        rates.step()
        average.update_parameters(network)
        if best is not None and ((step + 1) % 50 == 0 or step + 1 == steps):
            best.hear(average.module, step + 1)
    require_finite_weights('fusion', 'its last step', average.module.state_dict())
    figures = {'training_divergence': round(loss.item(), 4)}
    if best is not None:
        return best.network.eval().to('cpu'), {**figures, **best.figures}
    return average.module.eval().to('cpu'), figures


class _Best:
    """The network with the least divergence on a jury's images, of those that were heard."""

    def __init__(self, jury: tuple[torch.Tensor, torch.Tensor], seed: int, temperature: float, device: str):
        features, logits = jury
        self._features, self._logits, self._temperature = features.to(device), logits.to(device), temperature
        self._present = draw_present(len(features), features.shape[1], torch.Generator().manual_seed(seed)).to(device)
        self._found: dict[int, float] = {}
        self.network: FusionNetwork

    @torch.no_grad()
    def hear(self, network: FusionNetwork, step: int) -> None:
        divergence = distillation(network(self._features, self._present), self._logits, self._temperature).item()
        if not self._found or divergence < min(self._found.values()):
            self.network = copy.deepcopy(network)
        self._found[step] = divergence

    @property
    def figures(self) -> dict:
        kept = min(self._found, key=self._found.__getitem__)
        return {'jury_images': len(self._features), 'jury_divergence_before': round(self._found[0], 4),
                'jury_divergence': round(self._found[kept], 4), 'kept_step': kept}


@torch.inference_mode()
def arrived_features(system: System, images: torch.Tensor, normalise: Normalise, device: str = 'cpu') -> torch.Tensor:
    """Images uint8 [n, C, H, W] to features [n, N, F] as the bridge has them: quantised and back."""
    system.to(device).eval()
    quantiser = TokenQuantiser(FEATURE_QUANTISATION, system.channels)
    parts = []
    for batch in Progress(images.split(64), desc='features', unit='batch', leave=False):
        features = system.features(normalise(batch.to(device))).cpu()
        require_finite_answers('the sub-models', features=features)
        rows = quantiser.quantise(features.flatten(0, 1).numpy())
        parts.append(torch.from_numpy(quantiser.dequantise(rows)).view(features.shape))
    return torch.cat(parts)


def _batch(step: int, images: int, batch_size: int, seed: int) -> torch.Tensor:
    """The images of a step: epochs of a fresh order each, without replacement."""
    per_epoch = max(1, images // batch_size)
    epoch, place = divmod(step, per_epoch)
    return _order(images, seed * 7919 + epoch)[place * batch_size:(place + 1) * batch_size]


@lru_cache(maxsize=1)
def _order(images: int, seed: int) -> torch.Tensor:
    return torch.randperm(images, generator=torch.Generator().manual_seed(seed))
