"""How finely a frame's tokens are coded, in how many copies each of them and in how many datagrams: rate-distortion optimised sending
(Chou and Miao, "Rate-distortion optimized streaming of packetized media", 2006).

A patch that is lost stays as the bridge remembers it, and by the answers the edge knows that. So it knows for each patch the squared error
that is left if it arrives and if it does not, and the bits that it takes. One more copy is worth the error that it takes away, times how
likely it is that this copy arrives and those before it do not. All copies are sent that are worth more than a *price* for each of their
bits. A patch that moved much travels several times, one that hardly moved once or never.

The cost of a frame in accuracy is that of its step, and that of the error that losses will leave, averaged over the numbers of datagrams
that may arrive; both were measured when the code was fitted. Among all steps, prices and numbers of datagrams that fit the frame's share
of the allowed rate, that of fewest bytes is taken whose cost is at most `accuracy_margin` above the least. The frame is planned at one
step; the table says how the bytes of the others compare with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from evitif.channel import arrivals, memory
from evitif.model import native
from evitif.model.entropy_tables import STEPS
from evitif.pipeline.coded_table import CodedTable
from evitif.pipeline.rate_table import patches_missing

COPIES = 6                      # of a patch, at most
PACKETS = np.array((1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64))
PRICES = tuple(np.geomspace(0.01, 0.4, 9).round(3))     # of a bit, in squared steps
FULL = 0.94                     # of a payload, as planned: datagrams are not filled quite evenly
OUTCOMES = 5                    # numbers of datagrams that arrive, put together
NO_ANSWER, LAST_ANSWER = 1.0, 0.2       # cost of a frame of which nothing arrives: alone, and where another was answered not long before
EQUAL = 1e-9                    # costs that differ by less are the same: sums are rounded
STAYS = 0.9                     # a new choice takes less than this share of the bytes that the present one takes


class Patches(NamedTuple):
    """A frame's patches as planned at a step. Errors are squared, in the levels' units, and weighted by how much the answer depends on the
    patch; all float [patches]."""

    bits: np.ndarray
    missed: np.ndarray          # the error that is left if none of its copies arrives,
    left: np.ndarray            # and if one does
    energy: np.ndarray          # squared levels: the error if nothing were known
    known: np.ndarray           # bool: the bridge has an earlier one

    def at(self, places: np.ndarray | slice) -> Patches:
        """These of them."""
        return Patches(*(part[places] for part in self))


@dataclass(frozen=True)
class CodedSetting:
    """One way to send a frame."""

    step: int
    price: float            # that a copy's worth for each bit has to reach, in squared steps
    packets: int            # at least
    bytes: float            # of the frame, IP and UDP headers included, as expected


@dataclass(frozen=True, eq=False)
class Losses:
    """What becomes of the copies of a patch on one path. Numbers of datagrams with which it is the same share a row: all do where nothing
    is lost."""

    row: np.ndarray         # int [counts], by place in PACKETS
    missing: np.ndarray     # float [rows, COPIES + 1, outcomes]: of patches with so many copies, the share that is missing, by outcome
    likely: np.ndarray      # float [rows, outcomes]; what is missing to 1: nothing arrives
    gains: np.ndarray       # float [rows, COPIES]: how likely one more copy brings what the others do not


class CodedChoice:
    """Chooses by `table`.

    :param headers: bytes of a datagram beside its payload, IP and UDP headers, ours and the seal included
    :param margin: how much more than the least a choice may cost
    :param copies: the same number for each patch; 0: any
    """

    def __init__(self, table: CodedTable, headers: float, margin: float, copies: int = 0):
        self._headers, self._margin = headers, margin
        self.steps = np.array(sorted(int(step) for step in table.coding))
        self._coding = np.array([table.coding[str(step)] for step in self.steps])
        self._bytes = np.array([table.bytes[str(step)] for step in self.steps])
        self._most, self._prices = min(copies, COPIES) or COPIES, np.array((0.0,) if copies else PRICES)
        self._uniform = bool(copies)
        self._lost, self._remembered = (np.array(pairs).T for pairs in (table.lost, table.with_memory))

    @property
    def first_step(self) -> int:
        """The coarsest step that costs no more than the margin."""
        return int(self.steps[np.flatnonzero(self._coding <= self._coding.min() + self._margin)[-1]])

    def choose(self, step: int, patches: Patches, prefix_bytes: float, room: int, frame_bytes: float, packet_error_rate: float,
               mean_burst: float = math.nan, present: CodedSetting | None = None) -> CodedSetting:
        """The setting of fewest bytes that costs at most the margin more than the best that fits; the smallest if none fits.

        :param step: one of `steps`, at which `patches` were planned, and at which the prefix tokens take `prefix_bytes`
        :param room: for a payload, bytes
        :param frame_bytes: that the frame may take
        :param packet_error_rate: 0 to 1, as measured; NaN counts as none
        :param mean_burst: datagrams lost in a row on average; NaN where it is unknown: independent losses
        :param present: kept while it is good and no other takes clearly less
        """
        losses = losses_of(packet_error_rate, mean_burst)
        scale = self._bytes / self._bytes[int(np.searchsorted(self.steps, step))]
        sizes, errors, again = self._by_price(step, patches, scale, losses)                             # [steps, rows, prices]
        table = self._remembered if patches.known.any() else self._lost
        nothing = LAST_ANSWER if patches.known.any() else NO_ANSWER
        gone = (np.interp(errors, *table) * losses.likely[:, None]).sum(-1) + nothing * (1 - losses.likely.sum(1))[:, None]
        costs = (self._coding[:, None, None] + gone)[:, losses.row]                                      # [steps, counts, prices]
        sizes, bitmap = sizes[:, losses.row], np.where(again, len(patches.bits) / 8, 0.0)[:, losses.row]
        each = scale[:, None, None] * prefix_bytes + bitmap
        possible = sizes <= PACKETS[:, None] * np.maximum(FULL * room - each, 1.0)
        sizes = sizes + PACKETS[:, None] * (each + self._headers)
        if not possible.any():
            possible = np.broadcast_to(PACKETS[:, None] == PACKETS[-1], possible.shape)
        fits = possible & (sizes <= frame_bytes)
        if fits.any():
            good = fits & (costs <= costs[fits].min() + self._margin + EQUAL)
            at = np.unravel_index(np.argmin(np.where(good, sizes, np.inf)), sizes.shape)
            if present is not None and (now := self._place(present)) is not None and good[now] and sizes[at] > STAYS * sizes[now]:
                at = now
        else:
            at = np.unravel_index(np.argmin(np.where(possible, sizes, np.inf)), sizes.shape)
        return CodedSetting(int(self.steps[at[0]]), float(self._prices[at[2]]), int(PACKETS[at[1]]), float(sizes[at]))

    def copies(self, setting: CodedSetting, patches: Patches, packet_error_rate: float, mean_burst: float = math.nan) -> np.ndarray:
        """How many copies of each patch, planned at the setting's step, to send: int [patches]; 0 only where an earlier one is known."""
        losses = losses_of(packet_error_rate, mean_burst)
        gains = losses.gains[losses.row[int(np.searchsorted(PACKETS, setting.packets))], :self._most]
        worth = (patches.missed - patches.left) / (float(STEPS[setting.step])**2 * np.maximum(patches.bits, 1.0))
        found = (worth[:, None] * gains > setting.price).sum(1)
        return np.full(len(worth), min(self._most, setting.packets)) if self._uniform else np.maximum(found, ~patches.known)

    def _by_price(self, step: int, patches: Patches, scale: np.ndarray, losses: Losses) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each step, row of the losses and price: the patches' bytes, the share of their energy by which what is lost differs from
        what is remembered, by outcome (a last axis), and whether some travel more than once."""
        count = len(patches.bits)
        if native.library() is not None and not self._uniform:
            sizes, errors, again = native.by_price(
                patches.bits, patches.missed, patches.left, count - int(patches.known.sum()), scale, STEPS[self.steps], float(STEPS[step]),
                self._prices, losses.gains[:, :self._most], losses.missing[:, :self._most + 1])
            return sizes, errors / max(float(patches.energy.sum()), 1e-9), again
        ratio = np.square(STEPS[self.steps] / float(STEPS[step]))[:, None]
        gained = np.maximum(patches.missed - np.minimum(patches.left * ratio, patches.missed), 0.0)             # [steps, patches]
        bits = np.maximum(patches.bits * scale[:, None], 1.0)
        worth = gained / (np.square(STEPS[self.steps].astype(float))[:, None] * bits)
        order = np.argsort(-worth, 1, kind='stable')
        sums = np.zeros((2, len(self.steps), count + 1))
        np.cumsum(np.take_along_axis(np.stack((bits / 8, gained)), order[None], 2), 2, out=sums[:, :, 1:])
        gains = losses.gains[:, :self._most]
        if self._uniform:
            taken = np.where(gains > 0, count, 0)[None, :, None, :].repeat(len(self.steps), 0)
        else:
            with np.errstate(divide='ignore'):
                least = self._prices[None, :, None] / gains[:, None]                                         # [rows, prices, copies]
            some = max(int((least.min((0, 1)) <= worth.max()).sum()), 1)        # more copies are worth their price of no patch
            gains, least = gains[:, :some], least[..., :some]
            ranked = -np.take_along_axis(worth, order, 1)
            taken = np.stack([np.searchsorted(row, -least.ravel()).reshape(least.shape) for row in ranked])
            taken[..., 0] = np.maximum(taken[..., 0], count - int(patches.known.sum()))
        places = np.arange(len(self.steps))[:, None, None, None]
        sizes, brought = sums[0][places, taken].sum(-1), sums[1][places, taken]                              # brought [..., copies]
        sizes = sizes + (count - taken[..., 0]) / 8
        whole = np.broadcast_to(sums[1][:, None, None, -1:], (*brought.shape[:-1], 1))
        exactly = np.concatenate((whole, brought), -1)
        exactly[..., :-1] -= brought                                                        # with 0, 1, … copies
        errors = np.einsum('snpc,nco->snpo', exactly, losses.missing[:, :gains.shape[1] + 1]) / max(float(patches.energy.sum()), 1e-9)
        return sizes, errors, np.asarray(taken[..., 1:2].any(-1))

    def _place(self, setting: CodedSetting) -> tuple[int, int, int] | None:
        steps, prices = np.flatnonzero(self.steps == setting.step), np.flatnonzero(self._prices == setting.price)
        return (int(steps[0]), int(np.searchsorted(PACKETS, setting.packets)), int(prices[0])) if len(prices) and len(steps) else None


def losses_of(packet_error_rate: float, mean_burst: float) -> Losses:
    """By the packet error rate, 0 to 1, NaN for none, and the mean burst in datagrams, NaN for independent losses."""
    loss = 0.0 if math.isnan(packet_error_rate) else min(max(packet_error_rate, 0.0), 1.0)
    return _losses(round(256 * loss) / 256, round(mean_burst, 1 if mean_burst < 20 else 0) if mean_burst >= 1 else 1.0)


@lru_cache(maxsize=32)
def _losses(loss: float, burst: float) -> Losses:
    table, in_a_row = arrivals(loss, burst, int(PACKETS[-1])), memory(loss, burst)
    missing, likely = np.ones((len(PACKETS), COPIES + 1, OUTCOMES)), np.zeros((len(PACKETS), OUTCOMES))
    gains = np.zeros((len(PACKETS), COPIES))
    for at, packets in enumerate(PACKETS.tolist()):
        chance = table[packets, :packets + 1]
        each = np.ones((COPIES + 1, packets + 1))
        for copies in range(1, COPIES + 1):
            scattered, row = patches_missing(copies, packets)
            each[copies] = (1 - in_a_row) * scattered + in_a_row * row
        mean = each @ chance
        gains[at, :min(COPIES, packets)] = np.maximum(mean[:-1] - mean[1:], 0.0)[:packets]
        some = chance[1:]
        outcome = np.minimum((np.cumsum(some) - some / 2) / max(some.sum(), 1e-12) * OUTCOMES, OUTCOMES - 1).astype(int)
        for number in range(OUTCOMES):
            part = np.where(outcome == number, some, 0.0)
            likely[at, number] = part.sum()
            if likely[at, number]:
                missing[at, :, number] = each[:, 1:] @ part / likely[at, number]
    happens = likely.any(0)
    _, first, row = np.unique(np.concatenate((missing.reshape(len(PACKETS), -1), likely, gains), 1).round(9), axis=0, return_index=True,
                              return_inverse=True)
    return Losses(row.ravel(), missing[first][:, :, happens], likely[first][:, happens], gains[first])
