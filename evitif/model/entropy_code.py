"""Tokens as entropy-coded coefficients, each packet alone: equal steps in the tail's own metric, and differences from an earlier frame.

A code is fitted to one model and cut (`evitif train code`) and is the same on edge and bridge. As in `transform_code`, tokens less their
mean are turned into uncorrelated coefficients by a Karhunen-Loève transform in the metric of the tail's Fisher information, so one step for
all coefficients spends the bits where the answer needs them (reverse water-filling). What follows works on integers, so that both sides
agree bit for bit on any machine:

* *levels*, int16 [N, K]: coefficients in fixed point, finer than any step.
* a *mode* for each token: coded as it is, as a difference from what the other side has (one factor for each coefficient; several sets of
  factors, for tokens that moved little or much), or *unmoved*: nothing is sent, the other side keeps what it has.
* where an earlier frame is known, one more token, by which all unmoved patches are moved: their *common motion*. When a camera turns or
  the light changes, what is left out of each has something in common, and attention adds that up over the patches.
* a *fineness* for each patch: its step is that of the frame, or up to three quarters of an octave finer or an octave coarser. A patch on
  which the answer depends much (`sensitivity`) gets a finer one, so a bit takes away as much of the weighted error in each patch.
* *symbols*: the difference in units of the step, rounded to where bits and error together are least (rate-distortion optimised
  quantisation, Ramchandran and Vetterli 1994), decoded to the centre of its cell.
* a *class* for each symbol: the logarithm of its expected spread, which chooses the table of frequencies. It follows from mode, step and
  coefficient, and from the symbols of the same token that were decoded before: a token whose first coefficients are large has large ones
  further on (backward adaptation, as in the context models of image coders).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

import numpy as np

from evitif.model.entropy_tables import CLASSES, ESCAPE, FINENESSES, LIMIT, LOW_BITS, PLAIN, REACH, TABLES, Step, Tables
from evitif.model.errors import CodeError
from evitif.model.native import Frame
from evitif.model.sensitivity import Sensitivity
from evitif.model.token_parts import PartCoder, Plan, State
from evitif.model.transform_code import digest_of

LAYOUT = 3                  # of a part's bytes, which sides of before read otherwise
SHAPING = 0.5               # of the error that patches have in common, what is made up for
_OF_TOKENS = ('modes', 'known', 'symbols', 'classes', 'levels', 'bits')
_FLOATS = ('mean', 'analysis', 'synthesis', 'kernel')
_TABLES = {'base': np.int8, 'factors': np.int16, 'frequencies': np.int32, 'centres': np.int8, 'expected': np.int32, 'shifts': np.int8}
_SENSITIVITY = ('sensitivity_places', 'sensitivity_slopes')
THRIFT = 0.12               # squared error, in squared steps, that a bit less may cost
# The common motion is coded in units of a quarter of a step, and at less thrift, since its error is that of many patches at once.
COMMON_SCALE, COMMON_THRIFT = 4, 0.05


class EntropyCode:
    """Codes the tokens [N, D] of a model at a cut. Raises ValueError where the arrays do not fit together.

    :param mean: float32 [N, D]
    :param analysis: float32 [sorts, D, K], a token less its mean to levels; one sort for each prefix token, the last for the patches
    :param synthesis: float32 [sorts, K, D]
    :param kernel: float32 [2 * rows - 1, 2 * columns - 1]: how much the errors of two patches so far apart add up in the answer, 1 in the
        middle
    :param sensitivity: which patches the answer depends on; None: on all alike. It is the sender's alone, and not in the digest
    """

    def __init__(self, mean: np.ndarray, analysis: np.ndarray, synthesis: np.ndarray, kernel: np.ndarray, tables: Tables,
                 sensitivity: Sensitivity | None = None):
        modes, sorts, _, kept = tables.base.shape
        if mean.ndim != 2 or not 0 < sorts <= len(mean):
            raise ValueError(f'a code with means {mean.shape} and {sorts} sorts: expected [tokens, channels], and a sort for each prefix '
                             'token and one for the patches')
        if analysis.shape != (sorts, mean.shape[1], kept) or synthesis.shape != (sorts, kept, mean.shape[1]):
            raise ValueError(f'transforms of shapes {analysis.shape} and {synthesis.shape}: expected [{sorts}, {mean.shape[1]}, {kept}] '
                             f'and [{sorts}, {kept}, {mean.shape[1]}]')
        grid = tuple((side + 1) // 2 for side in kernel.shape)
        if kernel.ndim != 2 or grid[0] * grid[1] != len(mean) - sorts + 1 or kernel.shape != (2 * grid[0] - 1, 2 * grid[1] - 1):
            raise ValueError(f'a kernel of shape {list(kernel.shape)}: expected that of a grid of {len(mean) - sorts + 1} patches')
        if sensitivity is not None and (len(sensitivity.places) != len(mean) - sorts + 1 or len(sensitivity.slopes) > kept + 1):
            raise ValueError(f'a sensitivity of {len(sensitivity.places)} places and {len(sensitivity.slopes)} slopes: expected '
                             f'{len(mean) - sorts + 1}, and at most {kept + 1}')
        self.mean, self.analysis, self.synthesis, self.kernel, self.tables = mean, analysis, synthesis, kernel, tables
        self.sensitivity = sensitivity
        self.unmoved = FINENESSES * modes       # the mode of a token of which nothing else is sent
        self.sorts = np.minimum(np.arange(len(mean), dtype=np.int64), sorts - 1)
        self._parts = PartCoder(tables, np.append(self.sorts, sorts - 1))      # the last is the common motion

    @property
    def tokens(self) -> int:
        """Length of the sequence."""
        return self.mean.shape[0]

    @property
    def coefficients(self) -> int:
        """Levels of a token."""
        return self.analysis.shape[2]

    @functools.cached_property
    def digest(self) -> str:
        """Hex SHA-256 of all that decoding depends on."""
        return digest_of({name: array for name, array in self.arrays().items() if name not in _SENSITIVITY})

    @property
    def agreement(self) -> str:
        """Hex SHA-256 of what two sides have to have alike: of `digest`, and of how the bytes of a part are laid out."""
        return sha256(f'{LAYOUT} {self.digest}'.encode()).hexdigest()

    def arrays(self) -> dict[str, np.ndarray]:
        """What `from_arrays` takes."""
        own = () if self.sensitivity is None else zip(_SENSITIVITY, (self.sensitivity.places, self.sensitivity.slopes), strict=True)
        return {'mean': self.mean, 'analysis': self.analysis, 'synthesis': self.synthesis, 'kernel': self.kernel,
                **{name: getattr(self.tables, name) for name in _TABLES}, **dict(own)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> EntropyCode:
        """Raises ValueError where an array is missing or does not fit."""
        if missing := {*_FLOATS, *_TABLES} - set(arrays):
            raise ValueError(f'the code has no array {min(missing)!r}')
        floats = (np.ascontiguousarray(arrays[name], np.float32) for name in _FLOATS)
        tables = Tables(**{name: np.ascontiguousarray(arrays[name], kind) for name, kind in _TABLES.items()})
        sensitivity = Sensitivity(*(np.ascontiguousarray(arrays[name], np.float32) for name in _SENSITIVITY)) if all(
            name in arrays for name in _SENSITIVITY) else None
        return cls(*floats, tables, sensitivity)

    def with_sensitivity(self, sensitivity: Sensitivity | None) -> EntropyCode:
        """The same for a sender that knows this."""
        return EntropyCode(self.mean, self.analysis, self.synthesis, self.kernel, self.tables, sensitivity)

    # -- between tokens and levels ---------------------------------------------------------------------------------------------

    def weights_of_patches(self, levels: np.ndarray) -> np.ndarray:
        """How much the answer depends on each patch of a frame, levels int16 [patches, K]: float32 [patches], 1 on average."""
        return np.ones(len(levels), np.float32) if self.sensitivity is None else self.sensitivity.weights(levels)

    def quantise(self, tokens: np.ndarray) -> np.ndarray:
        """Tokens float32 [N, D] to levels int16 [N, K]. Raises ValueError for others, and for values that are not finite."""
        if tokens.shape != self.mean.shape:
            raise ValueError(f'expected tokens of shape {list(self.mean.shape)}, got {list(tokens.shape)}')
        if not np.isfinite(tokens).all():
            raise ValueError('tokens hold values that are not finite: they cannot be quantised')
        centred, prefix = np.asarray(tokens, np.float32) - self.mean, len(self.analysis) - 1
        values = np.empty((self.tokens, self.coefficients), np.float32)
        for sort in range(prefix):
            values[sort] = centred[sort] @ self.analysis[sort]
        values[prefix:] = centred[prefix:] @ self.analysis[prefix]
        return np.clip(np.rint(values), -LIMIT, LIMIT).astype(np.int16)

    def reconstruct(self, levels: np.ndarray) -> np.ndarray:
        """Levels int16 [N, K] to tokens float32 [N, D]."""
        values, prefix = levels.astype(np.float32), len(self.synthesis) - 1
        tokens = self.mean.copy()
        for sort in range(prefix):
            tokens[sort] += values[sort] @ self.synthesis[sort]
        tokens[prefix:] += values[prefix:] @ self.synthesis[prefix]
        return tokens

    # -- what is sent of a frame ------------------------------------------------------------------------------------------------

    def plan(self, levels: np.ndarray, step: int, state: State | None = None, thrift: float = THRIFT) -> Plan:
        """Choose mode and symbols of each token of a frame, levels int16 [N, K].

        A patch on which the answer depends much gets a finer step than the frame's, another one a coarser step, so that a bit takes away as
        much of the weighted error in each.

        Errors that patches have in common cost more than others, since attention averages. So every second patch is coded first, and the
        others are aimed a little to the other side of what their neighbours missed: noise shaping, as in error diffusion (Floyd and
        Steinberg 1976), weighted by what the tail notices.

        :param thrift: squared error, in squared steps, that a bit less may cost
        """
        first, second, coupling = self._halves
        levels = np.ascontiguousarray(levels, np.int16)
        frame = self._frame(len(levels), self.sorts, step, state, self._finenesses(levels))
        self._plan(frame, first, levels, step, thrift)
        if len(second):
            black = first[len(self.analysis) - 1:]
            missed = frame.levels[black].astype(np.float32) - levels[black]
            aim = np.empty_like(levels)
            aim[second] = np.clip(np.rint(levels[second] - coupling @ missed), -LIMIT, LIMIT)
            self._plan(frame, second, aim, step, thrift)
        return _planned(frame, step)

    def plan_tokens(self, levels: np.ndarray, sorts: np.ndarray, step: int, state: State | None = None, thrift: float = THRIFT) -> Plan:
        """As `plan`, for any tokens, levels int16 [n, K], of the sorts int [n], all at the frame's step and each by itself."""
        levels = np.ascontiguousarray(levels, np.int16)
        frame = self._frame(len(levels), sorts, step, state, np.full(len(levels), PLAIN, np.uint8))
        self._plan(frame, np.arange(len(levels), dtype=np.int64), levels, step, thrift)
        return _planned(frame, step)

    def _finenesses(self, levels: np.ndarray) -> np.ndarray:
        """Of a frame's tokens, uint8 [N]: steps in inverse proportion to the root of a patch's weight, in quarters of an octave."""
        found, prefix = np.full(len(levels), PLAIN, np.uint8), len(self.analysis) - 1
        if self.sensitivity is not None:
            finer = np.rint(np.log2(self.weights_of_patches(levels[prefix:])))
            found[prefix:] = np.clip(PLAIN - finer, 0, FINENESSES - 1)
        return found

    @functools.cached_property
    def _halves(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Prefix tokens and every second patch, as on a chessboard; the others; and how what the former miss moves the latter."""
        prefix = len(self.analysis) - 1
        rows, columns = np.divmod(np.arange(self.tokens - prefix), (self.kernel.shape[1] + 1) // 2)
        black, white = np.flatnonzero((rows + columns) % 2 == 0), np.flatnonzero((rows + columns) % 2)
        across = (np.subtract.outer(rows[white], rows[black]) + self.kernel.shape[0] // 2,
                  np.subtract.outer(columns[white], columns[black]) + self.kernel.shape[1] // 2)
        coupling = SHAPING * self.kernel[across]
        return np.concatenate([np.arange(prefix), prefix + black]), prefix + white, coupling.astype(np.float32)

    def hold(self, plan: Plan, state: State, places: np.ndarray) -> Plan:
        """The plan with the tokens at `places` int [n], which are known, unmoved from `state`."""
        modes, levels, bits = plan.modes.copy(), plan.levels.copy(), plan.bits.copy()
        modes[places], levels[places], bits[places] = self.unmoved, state.levels[places], 1.5
        return replace(plan, modes=modes, levels=levels, bits=bits)

    def with_common_motion(self, plan: Plan, levels: np.ndarray, state: State) -> Plan:
        """The plan of a frame, levels int16 [N, K], with what its unmoved patches moved by on average."""
        still = self._still(plan.levels, np.arange(self.tokens), state)
        if not len(still):
            return plan
        moved = levels[still].sum(0, dtype=np.int32) - state.levels[still].sum(0, dtype=np.int32)
        aim = np.clip(np.rint(COMMON_SCALE / len(still) * moved), -LIMIT, LIMIT).astype(np.int16)[None]
        common = self.plan_tokens(aim, self.sorts[-1:], plan.step, State(np.zeros_like(aim), np.ones(1, bool)), COMMON_THRIFT)
        result = plan.levels.copy()
        _move(result, still, common.levels[0])
        return replace(plan, levels=result, common=common)

    def _still(self, levels: np.ndarray, places: np.ndarray, state: State) -> np.ndarray:
        """Which of the tokens at `places` int [n] are patches with levels int16 [n, K] as in the state: int [m], from 0 to n."""
        may_be = np.flatnonzero(state.known[places] & (places >= len(self.analysis) - 1))
        return may_be[(levels[may_be] == state.levels[places[may_be]]).all(1)]

    def _frame(self, count: int, sorts: np.ndarray, step: int, state: State | None, finenesses: np.ndarray) -> Frame:
        """So many tokens of which nothing is planned yet."""
        columns, kept = self.tables.at(step).columns, self.coefficients
        known = np.zeros(count, bool) if state is None else np.ascontiguousarray(state.known)
        return Frame(np.ascontiguousarray(sorts, np.int64), known, None if state is None else np.ascontiguousarray(state.levels, np.int16),
                     finenesses, np.empty(count, np.uint8), np.empty((count, columns), np.int32), np.empty((count, columns), np.uint8),
                     np.empty((count, kept), np.int16), np.empty(count, np.float32))

    def _plan(self, frame: Frame, places: np.ndarray, levels: np.ndarray, step: int, thrift: float) -> None:
        """Plan the tokens of a frame at `places` int64 [n], as if they had these levels int16 [N, K]."""
        tables, at = self.tables, self.tables.at(step)
        first, rounding = self._thresholds(thrift)
        if (native := self._parts.native_tables(step)) is not None:
            native.plan(frame, places, levels, first, rounding, tables.cost, _MOST, thrift)
            return
        known = frame.known[places]
        reference = None if frame.reference is None else np.where(known[:, None], frame.reference[places], np.int16(0))
        levels, plain = levels[places], frame.finenesses[places].astype(np.intp) * len(tables.base)
        modes = self._modes(levels, frame.sorts[places], at, plain, known, reference, thrift)
        sent = np.flatnonzero(modes < self.unmoved)
        row = modes[sent].astype(np.intp) * len(self.analysis) + frame.sorts[places][sent]
        predicted = at.predicted(row, None if reference is None else reference[sent].astype(np.int32))
        rest = (levels[sent, :at.columns] - predicted[:, :at.columns]).astype(np.float32) * at.inverses[plain[sent]][:, None]
        magnitude = np.abs(rest)
        chosen, classes = np.zeros(rest.shape, np.int32), np.zeros(rest.shape, np.uint8)
        for label, part in at.adapted(row, chosen):
            classes[:, part] = label
            index = label.astype(np.intp)       # numpy takes by these in half the time
            wanted = magnitude[:, part]
            near = (wanted + rounding.take(index)).astype(np.int32)
            np.maximum(near, 1, out=near)
            near *= wanted >= first.take(index)
            chosen[:, part] = near
        if chosen.size and chosen.max() > _MOST[0]:
            np.minimum(chosen, _MOST[classes], out=chosen)
        bits = tables.bits(classes, chosen).sum(1)
        chosen *= 1 - 2 * (rest < 0).view(np.int8)
        result = np.zeros(levels.shape, np.int16) if reference is None else reference
        result[sent] = at.levels(row, predicted, chosen, classes)
        frame.modes[places], frame.levels[places] = modes, result
        for whole, part in ((frame.symbols, chosen), (frame.classes, classes), (frame.bits, bits)):
            whole[places] = 0
            whole[places[sent]] = part

    def _modes(self, levels: np.ndarray, sorts: np.ndarray, at: Step, plain: np.ndarray, known: np.ndarray, reference: np.ndarray | None,
               thrift: float) -> np.ndarray:
        if reference is None or not known.any():
            return plain.astype(np.uint8)
        # By the first coefficients, as if no class were adapted: the choice has to be quick, not exact.
        kept, inverses, price = min(64, at.columns), at.inverses[plain][:, None], np.float32(thrift)
        values, before = (part[:, :kept].astype(np.float32) * inverses for part in (levels, reference))
        costs = []
        for kind in range(at.kinds):
            row = (plain + kind) * len(self.analysis) + sorts
            label = np.maximum(at.base[row, :kept], 0)
            rest = np.abs(values - before * (at.factors[row, :kept].astype(np.float32) * np.float32(1 / 256)))
            near = (rest + np.float32(0.4)).astype(np.int32)
            near *= label > 0
            bits = self.tables.bits(label, near)
            rest -= near.astype(np.float32)
            costs.append((np.square(rest) + price * bits).sum(1, dtype=np.float64) + price * (kind == 0))
        costs.append(np.square(values - before).sum(1, dtype=np.float64) - price)
        costs = np.stack(costs)
        costs[1:, ~known] = np.inf
        best = costs.argmin(0)
        return np.where(best < at.kinds, plain + best, self.unmoved).astype(np.uint8)

    def _thresholds(self, thrift: float) -> tuple[np.ndarray, np.ndarray]:
        """By class: from where on a symbol is not 0, and what is added before greater ones are rounded down. float32 [CLASSES + 1]."""
        if thrift not in self._rounding:
            label = np.arange(CLASSES + 1)
            centre = [m - self.tables.centres[:, m] / 64 * (m > 0) for m in range(3)]
            bits = [self.tables.bits(label, np.full(CLASSES + 1, m)) for m in range(3)]
            edge = [(centre[m]**2 - centre[m - 1]**2 + thrift * (bits[m] - bits[m - 1])) / (2 * (centre[m] - centre[m - 1]))
                    for m in (1, 2)]
            # A class with low bits is fine enough to be rounded to the nearest.
            coarse = (label > 0) & (label <= TABLES)
            first = np.where(coarse, edge[0], np.where(label > 0, 0.5, np.inf))
            self._rounding[thrift] = first.astype(np.float32), np.where(coarse, 2 - edge[1], 0.5).clip(0, 0.5).astype(np.float32)
        return self._rounding[thrift]

    @functools.cached_property
    def _rounding(self) -> dict[float, tuple[np.ndarray, np.ndarray]]:
        return {}

    # -- bytes --------------------------------------------------------------------------------------------------------------------

    def pack(self, plan: Plan, places: np.ndarray) -> bytes:
        """The tokens at `places` int [n], ascending, as bytes that can be decoded alone."""
        return self.pack_parts(plan, [places])[0]

    def pack_parts(self, plan: Plan, parts: Sequence[np.ndarray]) -> list[bytes]:
        """`pack` for each of several parts of a frame; in much less time than one by one."""
        if not plan.known.any():
            return self._parts.pack(plan, parts)
        common = self._no_motion if plan.common is None else plan.common
        columns = plan.symbols.shape[1]         # how many a step has
        common = replace(common, symbols=common.symbols[:, :columns], classes=common.classes[:, :columns])
        whole = Plan(plan.step, *(np.concatenate((getattr(plan, name), getattr(common, name))) for name in _OF_TOKENS))
        return self._parts.pack(whole, [np.append(places, self.tokens) for places in parts])

    @functools.cached_property
    def _no_motion(self) -> Plan:
        """Of one token that did not move."""
        nothing = np.zeros((1, self.coefficients), np.int16)
        return Plan(0, np.full(1, self.unmoved, np.uint8), np.ones(1, bool), nothing.astype(np.int32), nothing.astype(np.uint8), nothing,
                    np.zeros(1, np.float32))

    def unpack(self, payload: bytes, places: np.ndarray, step: int, state: State | None = None) -> np.ndarray:
        """The levels int16 [n, K] of the tokens at `places`, which `pack` was given. Raises CodeError for bytes that it does not write."""
        found = self.unpack_parts([payload], [places], step, state)[0]
        if isinstance(found, CodeError):
            raise found
        return found

    def unpack_parts(self, payloads: Sequence[bytes], parts: Sequence[np.ndarray], step: int,
                     state: State | None = None) -> list[np.ndarray | CodeError]:
        """`unpack` for each of several parts of a frame: its levels, or why it cannot be read."""
        if state is None or not state.known.any():
            return self._parts.unpack(payloads, parts, step, state)
        nothing = np.zeros((1, self.coefficients), np.int16)
        before = State(np.concatenate((state.levels, nothing)), np.append(state.known, True))
        found = self._parts.unpack(payloads, [np.append(places, self.tokens) for places in parts], step, before)
        for read, places in zip(found, parts, strict=True):
            if not isinstance(read, CodeError) and read[-1].any():
                _move(read, self._still(read[:-1], places, state), read[-1])
        return [read if isinstance(read, CodeError) else read[:-1] for read in found]


_MOST = ((REACH + ESCAPE - 2 << LOW_BITS) - 1).astype(np.int32)


def _move(levels: np.ndarray, still: np.ndarray, common: np.ndarray) -> None:
    """Move the tokens `still` of levels int16 [n, K] by the common motion, int16 [K] in its own units."""
    by = (common.astype(np.int32) + COMMON_SCALE // 2) // COMMON_SCALE
    if by.any():
        levels[still] = np.clip(levels[still] + by, -LIMIT, LIMIT)


def _planned(frame: Frame, step: int) -> Plan:
    return Plan(step, frame.modes, frame.known, frame.symbols, frame.classes, frame.levels, frame.bits + np.float32(1.5) * frame.known)
