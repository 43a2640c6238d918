"""How finely a frame's tokens are coded, in how many copies and datagrams: the fewest bytes that cost next to nothing.

The cost of a choice is the accuracy that the step costs, and what the patches cost that will be missing, averaged over all numbers of
datagrams that may arrive; both were measured when the code was fitted. Among all choices that fit the frame's share of the allowed rate,
the one of fewest bytes is taken whose cost is at most `accuracy_margin` above the least.

How many bytes a step takes depends on the image, and on what the bridge has already. So the frame is planned at one step, and the table
says how the bytes of the others compare with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evitif.channel import arrivals, memory
from evitif.model.entropy_artifact import KIND, load_entropy_code
from evitif.model.entropy_code import EntropyCode
from evitif.model.errors import ArtifactError
from evitif.model.folder import artifact_beside, artifact_folders, artifact_path, find_model_folder
from evitif.model.model_identity import Identity
from evitif.pipeline.rate_table import patches_missing
from evitif.settings import AUTO
from evitif.typed_json import typed
from evitif.vocabulary import Quantisation

FIGURES = 'coding_cost'         # what the table is called among the figures of an entropy code
COPIES = (1, 2, 3, 4, 6)
PACKETS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32)     # of one copy
MOST_PACKETS = 48
NO_ANSWER = 1.0                 # cost of a frame of which nothing arrives
STAYS = 0.9                     # a new choice takes less than this share of the bytes that the present one takes


@dataclass(frozen=True)
class CodedTable:
    """What was measured with the recovery that is used. Costs are of the answer, 0 to 1."""

    coding: dict[str, float]               # by step, nothing lost
    bytes: dict[str, float]                # by step, mean of the patches' bytes
    lost: tuple[tuple[float, float], ...]  # share of the patches lost, 0 to 1 ascending, and what that costs

    @classmethod
    def of(cls, description: dict) -> CodedTable:
        """The table of a code's description. Raises ArtifactError where it has none, or something else there."""
        figures = description.get('figures', {})
        try:
            table = typed(cls, figures[FIGURES], FIGURES)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f'the figures of an entropy code are not as `evitif train code` writes them: expected {FIGURES} with a '
                                f'number for each step as coding and as bytes, and pairs of numbers as lost: {error}') from None
        steps = table.coding.keys()
        if not steps or steps != table.bytes.keys() or not table.lost or not all(step.isdigit() for step in steps):
            raise ArtifactError(f'{FIGURES} of an entropy code has no steps, or not the same ones as coding and bytes')
        return table


@dataclass(frozen=True, eq=False)
class FittedCode:
    """An entropy code, and what was measured of it."""

    code: EntropyCode
    table: CodedTable


def fitted_code(model: str, cut: int, identity: Identity | str, quantisation: str) -> FittedCode | None:
    """The entropy code beside `model` for this cut, if `quantisation` is coded, or auto and there is one for these weights.

    Raises ArtifactError if it was asked for by name and there is none, or the one in a model folder does not fit.
    """
    if quantisation not in (AUTO, Quantisation.CODED):
        return None
    path = artifact_beside(model, cut, KIND, identity.suffix if isinstance(identity, Identity) else '')
    if path is None:
        if quantisation == AUTO:
            return None
        folders = artifact_folders(model)
        wanted = artifact_path(folders[0] if folders else Path('artifacts') / model, cut, KIND)
        raise ArtifactError(f'quantisation coded needs an entropy code for {model} at cut {cut}, and there is no {wanted}: fit one with '
                            '`evitif train code`, or take fp16, int8 or int4')
    try:
        code, description = load_entropy_code(path, identity)
        return FittedCode(code, CodedTable.of(description))
    except ArtifactError:
        if quantisation != AUTO or find_model_folder(model) is not None:
            raise
        return None         # other weights of an architecture that a code ships for


@dataclass(frozen=True)
class CodedSetting:
    """One way to send a frame."""

    step: int
    copies: int             # of each patch
    packets: int            # of each copy, at least
    bytes: float            # of the frame, IP and UDP headers included, as expected


class CodedChoice:
    """Chooses by `table`.

    :param headers: bytes of a datagram beside its payload, IP and UDP headers, ours and the seal included
    :param margin: how much more than the least a choice may cost
    :param copies: the only number to consider; 0: any
    """

    def __init__(self, table: CodedTable, headers: float, margin: float, copies: int = 0):
        self._headers, self._margin = headers, margin
        self.steps = np.array(sorted(int(step) for step in table.coding))
        self._coding = np.array([table.coding[str(step)] for step in self.steps])
        self._bytes = np.array([table.bytes[str(step)] for step in self.steps])
        pairs = [(c, n) for c in ([copies] if copies else COPIES) for n in PACKETS if c * n <= MOST_PACKETS or n == 1]
        self._copies, self._each = (np.array(part) for part in zip(*pairs, strict=True))
        self._packets = self._copies * self._each
        shares, lost = zip(*table.lost, strict=True)
        self._scattered, self._in_a_row = np.zeros((2, len(pairs), int(self._packets.max()) + 1))
        for index, (count, packets) in enumerate(zip(self._copies, self._packets, strict=True)):
            for costs, missing in zip((self._scattered, self._in_a_row), patches_missing(int(count), int(packets)), strict=True):
                costs[index, :packets + 1] = np.interp(missing, shares, lost)
                costs[index, 0] = NO_ANSWER

    @property
    def first_step(self) -> int:
        """The coarsest step that costs no more than the margin."""
        return int(self.steps[np.flatnonzero(self._coding <= self._coding.min() + self._margin)[-1]])

    def choose(self, step: int, patch_bytes: float, prefix_bytes: float, room: int, frame_bytes: float, packet_error_rate: float,
               mean_burst: float = math.nan, present: CodedSetting | None = None) -> CodedSetting:
        """The setting of fewest bytes that costs at most the margin more than the best that fits; the smallest if none fits.

        :param step: one of `steps`, at which the frame's patches take `patch_bytes`, and its prefix tokens `prefix_bytes`
        :param room: for a payload, bytes
        :param frame_bytes: that the frame may take
        :param packet_error_rate: 0 to 1, as measured; NaN counts as none
        :param mean_burst: datagrams lost in a row on average; NaN where it is unknown: independent losses
        :param present: kept while it is good and no other takes clearly less
        """
        loss = 0.0 if math.isnan(packet_error_rate) else packet_error_rate
        likely = arrivals(loss, mean_burst, self._scattered.shape[1] - 1)[self._packets]
        in_a_row = memory(loss, mean_burst)
        gone = (likely * ((1 - in_a_row) * self._scattered + in_a_row * self._in_a_row)).sum(1)         # [pairs]
        scale = self._bytes / self._bytes[int(np.searchsorted(self.steps, step))]
        patches, prefix = patch_bytes * scale[:, None], prefix_bytes * scale[:, None]                   # [steps, 1]
        sizes = self._copies * patches + self._packets * (prefix + self._headers)                       # [steps, pairs]
        possible = patches <= self._each * np.maximum(room - prefix, 1.0)
        if not possible.any():
            possible = np.broadcast_to(self._each == self._each.max(), possible.shape)
        fits = possible & (sizes <= frame_bytes)
        costs = self._coding[:, None] + gone
        if fits.any():
            good = fits & (costs <= costs[fits].min() + self._margin)
            at = np.unravel_index(np.argmin(np.where(good, sizes, np.inf)), sizes.shape)
            if present is not None and (now := self._place(present)) is not None and good[now] and sizes[at] > STAYS * sizes[now]:
                at = now
        else:
            at = np.unravel_index(np.argmin(np.where(possible, sizes, np.inf)), sizes.shape)
        return CodedSetting(int(self.steps[at[0]]), int(self._copies[at[1]]), int(self._each[at[1]]), float(sizes[at]))

    def _place(self, setting: CodedSetting) -> tuple[int, int] | None:
        pairs = np.flatnonzero((self._copies == setting.copies) & (self._each == setting.packets))
        steps = np.flatnonzero(self.steps == setting.step)
        return (int(steps[0]), int(pairs[0])) if len(pairs) and len(steps) else None
