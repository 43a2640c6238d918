"""Fit the entropy code of a model's tokens (`evitif.model.entropy_code`): transforms in closed form, tables by counting."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from evitif.model.entropy_code import THRIFT, EntropyCode, State
from evitif.model.entropy_tables import (
    BUCKETS,
    CENTRES,
    CLASSES,
    MIDDLE,
    OCTAVE,
    REACH,
    STEPS,
    TABLES,
    Tables,
    blocks,
    bucket_of,
)
from evitif.model.symbol_coder import PRECISION

FINEST = 1e-4               # nats of divergence that the finest step costs, by the Fisher information
LEAST = 1e-3                # of the tokens' variance in the metric, the most that the finest step may leave
# A prefix token travels in every packet; and the information of single patches says too little of errors that all of them share.
PREFIX_COARSER = 2.8
_STEPS_SEEN = (6, 12, 16, 20)


def metric_transforms(tokens: torch.Tensor, prefix_tokens: int, fisher: torch.Tensor, ridge: float = 0.1,
                      kept: int | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean [N, D], analysis [sorts, D, K] to levels, synthesis [sorts, K, D] and the levels' spread [sorts, K]."""
    mean = tokens.mean(0)
    centred = (tokens - mean).double()
    scale = centred.square().mean((0, 1)).sqrt().clamp(min=1e-6)
    parts = [centred[:, place] for place in range(prefix_tokens)] + [centred[:, prefix_tokens:].flatten(0, 1)]
    channels = tokens.shape[2]
    # Units of the same nats for all sorts: a class token on which all of the answer depends gets a finer step.
    finest = (FINEST * 24 / (tokens.shape[1] * channels))**0.5 / int(STEPS[0])
    found = []
    for sort, (part, information) in enumerate(zip(parts, fisher, strict=True)):
        metric = scale[:, None] * information * scale
        metric = metric + ridge * metric.diagonal().mean().clamp(min=1e-30) * torch.eye(channels, dtype=torch.float64)
        weights, directions = torch.linalg.eigh(metric)
        root = (directions * weights.clamp(min=1e-30).sqrt()) @ directions.T / scale[:, None]
        covariance = part.T @ part / len(part)
        variances, basis = torch.linalg.eigh(root.T @ covariance @ root)
        # Where the answer hardly depends on the tokens, they are still coded.
        unit = min(finest * (PREFIX_COARSER if sort < prefix_tokens else 1),
                   (12 * LEAST * float(variances.mean().clamp(min=1e-30)))**0.5 / int(STEPS[0]))
        forward = (root @ basis.flip(1)) / unit
        found.append((forward, torch.linalg.inv(forward), variances.flip(0).clamp(min=0).sqrt() / unit))
    analysis, synthesis, spread = (torch.stack(each) for each in zip(*found, strict=True))
    kept = kept or channels
    return mean, analysis[:, :, :kept], synthesis[:, :kept], spread[:, :kept]


def classes_of(spread: np.ndarray) -> np.ndarray:
    """The classes int8 [..., steps, K] of coefficients of this spread [..., K] (of levels) at each step."""
    ratio = np.maximum(spread[..., None, :], 1e-9) / STEPS[:, None]
    return np.clip(np.rint(OCTAVE * np.log2(ratio)) + MIDDLE, -100, CLASSES).astype(np.int8)


def first_tables(base: np.ndarray, factors: np.ndarray) -> Tables:
    """Laplace's distribution in each class, no adaptation."""
    rows, expected, edges = [], np.zeros(CLASSES + 1), np.arange(-REACH, REACH + 2) - 0.5
    for table in range(TABLES):
        spread = 2**((table + 1 - MIDDLE) / OCTAVE)
        scale = spread / 2**0.5
        upper = np.where(edges < 0, 0.5 * np.exp(np.minimum(edges, 0) / scale), 1 - 0.5 * np.exp(-np.maximum(edges, 0) / scale))
        upper[0], upper[-1] = 0, 1
        rows.append(frequencies_of(np.diff(upper)))
    for label in range(1, CLASSES + 1):
        expected[label] = 64 * 2**((label - MIDDLE) / OCTAVE) / 2**0.5
    kept = base.shape[3]
    shifts = np.zeros((2, len(blocks(kept)), BUCKETS), np.int8)
    return Tables(base, factors, np.array(rows, np.int32), np.zeros((CLASSES + 1, CENTRES), np.int8),
                  np.rint(expected).astype(np.int32), shifts)


def frequencies_of(weights: np.ndarray) -> np.ndarray:
    """Integers of at least 1 in proportion to `weights`, that sum to 2^24."""
    free = (1 << PRECISION) - 64 * len(weights)
    counts = 64 + np.floor(weights / weights.sum() * free).astype(np.int64)
    counts[np.argmax(counts)] += (1 << PRECISION) - counts.sum()
    return counts


class Counts:
    """What the symbols of training tokens say of the tables."""

    def __init__(self, tables: Tables):
        self.tables = tables
        self.symbols = np.zeros((TABLES, 2 * REACH + 1))
        self.below = np.zeros((2, CLASSES + 1, CENTRES))        # sums of the distance to the cell's middle, and how many
        self.seen = np.zeros((2, CLASSES + 1))                  # sums of magnitudes by class before adaptation, and how many
        self.joint = np.zeros((2, len(blocks(tables.base.shape[3])), BUCKETS, _SPAN, REACH + 2))

    def add(self, code: EntropyCode, levels: np.ndarray, sorts: np.ndarray, step: int, state: State | None, thrift: float) -> float:
        """Count what a plan does with levels [n, K]; return its bits a token."""
        plan, at = code.plan_tokens(levels, sorts, step, state, thrift), self.tables.at(step)
        sent = np.flatnonzero(plan.modes < code.unmoved)
        row = plan.modes[sent].astype(int) * len(code.analysis) + sorts[sent]
        chosen, label, magnitude = plan.symbols[sent], plan.classes[sent], np.abs(plan.symbols[sent])
        reference = None if state is None else np.where(state.known[sent, None], state.levels[sent], 0).astype(np.int32)
        rest = (levels[sent] - at.predicted(row, reference))[:, :at.columns] * at.inverses[plan.modes[sent], None]
        plain = (label > 0) & (label <= TABLES)
        high = np.clip(chosen, -REACH, REACH)[plain]
        found = np.bincount((label[plain].astype(int) - 1) * (2 * REACH + 1) + high + REACH, minlength=self.symbols.size)
        self.symbols += found.reshape(self.symbols.shape)
        below = (magnitude - rest * np.where(chosen < 0, -1, 1))[plain]
        cell = label[plain].astype(int) * CENTRES + np.minimum(magnitude[plain], CENTRES - 1)
        self.below += np.stack([np.bincount(cell, weights, self.below[0].size) for weights in (below, None)]).reshape(self.below.shape)
        base = at.base[row].astype(int)
        usual = np.clip(base, 0, CLASSES).ravel()
        self.seen += np.stack([np.bincount(usual, weights, CLASSES + 1) for weights in (magnitude.ravel(), None)])
        seen = np.zeros(len(base), np.int64)
        for index, part in enumerate(at.blocks):
            cell = ((plan.modes[sent] % at.kinds > 0) * BUCKETS + bucket_of(seen, at.expected[row, index]))[:, None]
            cell = (cell * _SPAN + np.clip(base[:, part] + _LOWEST, 0, _SPAN - 1)) * (REACH + 2) + np.minimum(magnitude[:, part], REACH + 1)
            found = np.bincount(cell.ravel(), minlength=self.joint[:, index].size)
            self.joint[:, index] += found.reshape(self.joint[:, index].shape)
            seen += 64 * magnitude[:, part].sum(1)
        return float(plan.bits.mean())

    def fitted(self) -> Tables:
        """The tables by these counts."""
        old = self.tables
        both = self.symbols + self.symbols[:, ::-1]
        # Of classes that hardly occurred the old frequencies stay; so much of them everywhere.
        prior = old.frequencies / (1 << PRECISION) * 300
        frequencies = np.array([frequencies_of(row) for row in both + prior], np.int32)
        centre = np.where(self.below[1] > 200, self.below[0] / np.maximum(self.below[1], 1), 0)
        centre[:, 0] = 0
        mean = np.where(self.seen[1] > 200, 64 * self.seen[0] / np.maximum(self.seen[1], 1), old.expected)
        tables = Tables(old.base, old.factors, frequencies, np.clip(np.rint(64 * centre), -40, 40).astype(np.int8),
                        np.rint(mean).astype(np.int32), old.shifts)
        shifts = np.zeros_like(old.shifts)
        base = np.arange(_SPAN) - _LOWEST
        moves = np.arange(-6, 5)
        price = np.stack([np.minimum(tables.bits(np.clip(base + move, 0, CLASSES)[:, None], np.arange(REACH + 2)), 30)
                          for move in moves])               # [moves, span, magnitude]
        for kind in range(2):
            for block in range(1, self.joint.shape[1]):
                counts = self.joint[kind, block]                # [buckets, span, magnitude]
                weight = counts.sum((1, 2))
                total = np.einsum('bsm,vsm->bv', counts, price) + 2e-3 * np.square(moves) * 200
                best = moves[total.argmin(1)]
                known = np.flatnonzero(weight > 0)
                if len(known):
                    shifts[kind, block] = best[known[np.abs(known[:, None] - np.arange(BUCKETS)).argmin(0)]]
        return Tables(old.base, old.factors, frequencies, tables.centres, tables.expected, shifts)


_LOWEST, _SPAN = 6, 6 + CLASSES + 1


def refine(code: EntropyCode, levels: np.ndarray, sorts: np.ndarray, state: State | None = None, thrift: float = THRIFT,
           rounds: int = 2, steps: tuple[int, ...] = _STEPS_SEEN) -> EntropyCode:
    """The code with tables fitted to levels [n, K] of training tokens, given what was known before of each."""
    for _ in range(rounds):
        counts = Counts(code.tables)
        for step in steps:
            counts.add(code, levels, sorts, step, state, thrift)
        code = EntropyCode(code.mean, code.analysis, code.synthesis, code.kernel, counts.fitted())
    return code


@dataclass(frozen=True, eq=False)
class Moves:
    """Tokens with what was known before of each: all int16 [n, K] but `sorts` int [n]."""

    levels: np.ndarray
    sorts: np.ndarray
    states: dict[int, np.ndarray]       # for each step that was tried, the levels that the other side has


def kernel_of(between: torch.Tensor, grid: tuple[int, int]) -> np.ndarray:
    """float32 [2 * rows - 1, 2 * columns - 1]: the information between two patches so far apart, its mean over the image, 1 in the
    middle."""
    own = between.diagonal().clamp(min=1e-30).sqrt()
    share = (between / own[:, None] / own).numpy()
    rows, columns = np.divmod(np.arange(len(share)), grid[1])
    across = (np.subtract.outer(rows, rows) + grid[0] - 1, np.subtract.outer(columns, columns) + grid[1] - 1)
    total, count = np.zeros((2, 2 * grid[0] - 1, 2 * grid[1] - 1))
    np.add.at(total, across, share)
    np.add.at(count, across, 1)
    return (total / count).astype(np.float32)


def fit_entropy_code(tokens: torch.Tensor, prefix_tokens: int, grid: tuple[int, int], fisher: torch.Tensor, between: torch.Tensor,
                     video: torch.Tensor | None = None, temporal_modes: int = 2, seed: int = 0,
                     kept: int | None = None) -> EntropyCode:
    """The code for tokens [n, N, D] whose tail has this information within and between them (`transform_code.information`).

    :param video: tokens [paths, frames, N, D] of frames that follow one another; None: a code without references
    :param kept: coefficients of a token at most; None: as many as it has channels
    """
    mean, analysis, synthesis, spread = metric_transforms(tokens, prefix_tokens, fisher, kept=kept)
    single = classes_of(spread.numpy())[None]
    tables = first_tables(single, np.zeros((1, *spread.shape), np.int16))
    code = EntropyCode(mean.float().numpy(), analysis.float().numpy(), synthesis.float().numpy(), kernel_of(between, grid), tables)
    random = np.random.default_rng(seed)
    levels, sorts = _drawn(code, tokens, prefix_tokens, random)
    code = refine(code, levels, sorts)
    if video is None:
        return code
    moves = _moves(code, video, random)
    return _with_modes(code, moves, (levels, sorts), temporal_modes)


def _drawn(code: EntropyCode, tokens: torch.Tensor, prefix: int, random: np.random.Generator,
           frames: int = 500, patches: int = 8000) -> tuple[np.ndarray, np.ndarray]:
    chosen = random.permutation(len(tokens))[:frames]
    levels = np.stack([code.quantise(tokens[int(index)].float().numpy()) for index in chosen])
    flat = levels[:, prefix:].reshape(-1, levels.shape[2])
    flat = flat[random.permutation(len(flat))[:patches]]
    first = [levels[:, place] for place in range(prefix)]
    return np.concatenate([*first, flat]), np.concatenate([np.full(len(part), sort) for sort, part in enumerate([*first, flat])])


def _moves(code: EntropyCode, video: torch.Tensor, random: np.random.Generator, patches: int = 16) -> Moves:
    """Tokens of the later frames of each path, with the first frame as it is known after coding."""
    prefix, later, sorts, states = len(code.analysis) - 1, [], [], {step: [] for step in _STEPS_SEEN}
    for path in video:
        levels = [code.quantise(frame.float().numpy()) for frame in path]
        known = {step: code.plan(levels[0], step).levels for step in _STEPS_SEEN}
        for frame in levels[1:]:
            places = np.concatenate([np.arange(prefix), prefix + random.permutation(code.tokens - prefix)[:patches]])
            later.append(frame[places])
            sorts.append(code.sorts[places])
            for step, before in known.items():
                states[step].append(before[places])
    return Moves(np.concatenate(later), np.concatenate(sorts), {step: np.concatenate(part) for step, part in states.items()})


def _with_modes(code: EntropyCode, moves: Moves, single: tuple[np.ndarray, np.ndarray], modes: int, rounds: int = 3) -> EntropyCode:
    """The code with modes for tokens of which an earlier frame is known: Lloyd's method over tokens, by what each mode costs."""
    change = {step: np.square((moves.levels.astype(np.float32) - before) / np.float32(STEPS[step])).mean(1)
              for step, before in moves.states.items()}
    # To begin with, as many groups by how far a token moved, the last quarter left to mode 0.
    groups = {step: np.minimum(1 + (_ranks(each) * (modes + 0.33)).astype(int), modes + 1) % (modes + 1) for step, each in change.items()}
    for _ in range(rounds):
        code = _regressed(code, moves, groups, modes)
        groups = {step: code.plan_tokens(moves.levels, moves.sorts, step, State(before, np.ones(len(before), bool))).kinds(modes + 1)
                  for step, before in moves.states.items()}
    for _ in range(2):
        counts = Counts(code.tables)
        for step, before in moves.states.items():
            counts.add(code, *single, step, None, THRIFT)
            counts.add(code, moves.levels, moves.sorts, step, State(before, np.ones(len(before), bool)), THRIFT)
        code = EntropyCode(code.mean, code.analysis, code.synthesis, code.kernel, counts.fitted())
    return code


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values)) / len(values)


def _regressed(code: EntropyCode, moves: Moves, groups: dict[int, np.ndarray], modes: int) -> EntropyCode:
    """Factors by least squares over the tokens of each group, and the spread of what is left at each step."""
    sorts, kept = len(code.analysis), code.coefficients
    factors = np.zeros((modes + 1, sorts, kept), np.int16)
    base = np.concatenate([code.tables.base[:1]] + [code.tables.base[:1]] * modes)
    steps = sorted(moves.states)
    for mode in range(1, modes + 1):
        for sort in range(sorts):
            product, square, chosen = np.zeros(kept), np.zeros(kept), {}
            for step in steps:
                at = np.flatnonzero((groups[step] == mode) & (moves.sorts == sort))
                now, before = moves.levels[at].astype(np.float64), moves.states[step][at].astype(np.float64)
                product += (now * before).sum(0) / STEPS[step]**2
                square += np.square(before).sum(0) / STEPS[step]**2
                chosen[step] = now, before
            factor = np.clip(np.rint(256 * product / np.maximum(square, 1e-9)), 0, 288)
            factors[mode, sort] = np.where(square > 0, factor, 0)
            spread, at = [], []
            for step in steps:
                now, before = chosen[step]
                if len(now) >= 8:
                    spread.append(np.log(np.sqrt(np.square(now - before * (factors[mode, sort] / 256)).mean(0)) + 1e-3))
                    at.append(step)
            if at:
                every = np.stack([np.interp(np.arange(len(STEPS)), at, column) for column in np.array(spread).T], 1)
                ratio = np.exp(every) / STEPS[:, None]
                label = np.clip(np.rint(OCTAVE * np.log2(np.maximum(ratio, 1e-9))) + MIDDLE, -100, CLASSES)
                base[mode, sort] = np.minimum(label, base[0, sort]).astype(np.int8)
    return EntropyCode(code.mean, code.analysis, code.synthesis, code.kernel, replace(code.tables, base=base, factors=factors))
