"""Which unit travels in which packet.

A lost packet should look like a scatter over the image, and so should a burst of lost packets: a Vision Transformer copes far
better with holes everywhere than with one large hole. Patches are therefore ranked by the R2 low-discrepancy mask (M. Roberts,
"The unreasonable effectiveness of quasirandom sequences", 2018): patch (i, j) has the key frac(i / g + j / g**2), g the plastic
number, and the sorted patches are cut into consecutive chunks, one for each packet. Patches whose keys lie in an interval form a
nearly regular lattice, whichever interval it is. A packet is an interval, and so is a run of packets: a burst of half of a
frame's packets takes no whole 2 x 2 block of patches (the tests check it).

A token is of use only when all its groups arrive, and what travels together is lost together. So a token's groups share a packet
if they fit, and follow one another in neighbouring packets if not: losses come in bursts, so neighbours share their fate.

Prefix tokens (class, distillation, register) have no place in the image and cannot be guessed from neighbours. Each of their
units travels in several packets, spread evenly. By default the first, the class token wherever there is one, is in all packets
of a small frame, so that any packet brings it; the others are in fewer.
"""

import math
from functools import lru_cache

import numpy as np

PLASTIC = 1.32471795724474602596      # the real root of x**3 = x + 1


@lru_cache(maxsize=32)       # asked for each part of each coded frame
def scattered_order(grid: tuple[int, int]) -> np.ndarray:
    """The patches of a `grid` (rows, columns) by their R2 rank: int64 [rows * columns], read-only, indices in row-major order."""
    i, j = np.mgrid[:grid[0], :grid[1]]
    order = np.argsort(np.mod(i / PLASTIC + j / PLASTIC**2, 1.0).ravel(), kind='stable')
    order.setflags(write=False)
    return order


def spread(units: int, copies: int, packets: int) -> list[list[int]]:
    """For each packet, which of the prefix `units` it carries: each unit in `copies` <= `packets` packets, at even distances."""
    carried: list[list[int]] = [[] for _ in range(packets)]
    for copy in range(copies):
        for unit in range(units):
            # Steps of packets / copies >= 1 between the copies of one unit, so no two fall into the same packet.
            carried[int((copy * units + unit + 0.5) * packets / (copies * units))].append(unit)
    return carried


def prefix_copies_of(prefix_tokens: int, patches: int, prefix_copies: int = 0) -> list[int]:
    """In how many packets each prefix token travels, at most all of them: int [prefix_tokens].

    :param prefix_copies: the same for each; 0 is automatic: the first in a quarter as many as there are patches, at least 24 (0.8
        ** 24 = 0.5 %), the others sharing half as many rows, at least 4 each
    """
    if prefix_copies or not prefix_tokens:
        return [prefix_copies] * prefix_tokens
    others = prefix_tokens - 1
    return [max(24, patches // 4)] + [max(4, patches // (8 * max(1, others)))] * others


def interleave(grid: tuple[int, int], prefix_tokens: int, groups: int, *, slots: int, min_packets: int,
               prefix_copies: int, patch_copies: int = 1) -> list[np.ndarray]:
    """Assign the units of a frame to packets.

    :param slots: units that fit into one packet, at least 1
    :param min_packets: cut no coarser than this, while there is a patch for each packet
    :param prefix_copies: packets that each prefix unit is in, 0: see `prefix_copies_of`; all packets where there are fewer
    :param patch_copies: packets that each patch's units are in, as far apart as the frame allows
    :return: for each packet, in sending order, the indices of its units, int64 [1..slots]
    """
    patches = grid[0] * grid[1]
    wanted = prefix_copies_of(prefix_tokens, patches, prefix_copies)
    packets = arrange([patches] * patch_copies, wanted, groups, slots=slots, min_packets=min_packets)
    laps = np.tile(units_of(prefix_tokens + scattered_order(grid), groups), patch_copies)   # so that copies are a lap apart
    return [np.concatenate([np.asarray(prefix, np.int64), laps[part]]) for prefix, part in packets]


def units_of(tokens: np.ndarray, groups: int) -> np.ndarray:
    """The units of `tokens` [n], a token's together: int64 [n * groups]."""
    return (tokens[:, None] * groups + np.arange(groups)).ravel()


def importance_laps(patches: np.ndarray, rank: np.ndarray, patch_copies: int) -> tuple[np.ndarray, list[int]]:
    """The order in which chosen patches travel, in laps, and how many are in each lap.

    A lap has them by `rank`, so that a packet is a scatter of what was chosen. Where there are several copies, the most important
    quarter is in one more lap than the others and the least important quarter in one less, which takes the same bytes (unequal
    error protection).

    :param patches: int64 [n], most important first
    :param rank: int64, the place of each patch in the scattered order
    :return: int64 [n * patch_copies], and the laps' lengths, descending
    """
    by_rank = np.argsort(rank[patches])
    ordered, quarter = patches[by_rank], len(patches) // 4 if patch_copies > 1 else 0
    laps = [ordered] * (patch_copies - 1) + [ordered[by_rank < len(patches) - quarter], ordered[by_rank < quarter]]
    laps = [lap for lap in laps if len(lap)]
    return np.concatenate([np.zeros(0, np.int64), *laps]), [len(lap) for lap in laps]


def arrange(laps: list[int], prefix_copies: list[int], groups: int, *, slots: int, min_packets: int) -> list[tuple[list[int], slice]]:
    """What each packet carries: its prefix units, and its part of a sequence of patches.

    :param laps: patches in each lap of the sequence, none more than the first
    :param prefix_copies: packets that each prefix token is in; all packets where there are fewer
    """
    # Where whole tokens fit, a packet is cut between tokens, else between units.
    item_units = groups if groups <= slots else 1
    items, once = sum(laps) * groups // item_units, (laps[0] if laps else 0) * groups // item_units
    copied = sum(prefix_copies) * groups
    fewest = max(math.ceil(items * item_units / slots), min(min_packets, once), min([*prefix_copies, 2]) if prefix_copies else 0,
                 len(laps))
    for packets in range(fewest, items * item_units + copied + 2):
        copies = [min(count, packets) for count in prefix_copies]
        if packets * slots < items * item_units + sum(copies) * groups:
            continue
        carried = _spread_prefix(copies, groups, packets)
        shares = _shares(items, item_units, [slots - len(units) for units in carried], [len(units) for units in carried])
        # A lap has each patch once, so a packet of at most a lap hardly takes one twice.
        if shares is not None and max(shares) <= once:
            ends = np.cumsum(shares) * item_units
            return [(units, slice(int(end) - share * item_units, int(end)))
                    for units, share, end in zip(carried, shares, ends, strict=True)]
    raise AssertionError('unreachable: with a packet for each unit and copy everything fits')


def _spread_prefix(copies: list[int], groups: int, packets: int) -> list[list[int]]:
    """For each packet the prefix units that it carries, where token t travels in `copies[t]` packets."""
    first = next((t for t in range(len(copies)) if copies[t] != copies[0]), len(copies))
    carried = spread(first * groups, copies[0], packets) if copies else [[] for _ in range(packets)]
    for token in range(first, len(copies)):     # the others go to the emptiest packets, as evenly spaced as that allows
        for unit in range(token * groups, (token + 1) * groups):
            for copy in range(copies[token]):
                aim = (copy + (token - first + 0.5) / (len(copies) - first)) * packets / copies[token]
                target = min((k for k in range(packets) if unit not in carried[k]),
                             key=lambda k, aim=aim: (len(carried[k]), abs(k + 0.5 - aim)))
                carried[target].append(unit)
    return carried


def _shares(items: int, item_units: int, room: list[int], loads: list[int]) -> list[int] | None:
    """How many of `items` each packet takes, so that packets fill evenly; None where they do not fit."""
    capacity = [max(space, 0) // item_units if space >= 0 else -1 for space in room]
    if min(capacity) < 0 or sum(capacity) < items:
        return None
    # Water-filling: the common level that the packets reach together, then the remainder dealt out evenly.
    packets = len(room)
    low, high = 0.0, float(max(loads) + items * item_units)
    for _ in range(60):
        level = (low + high) / 2
        filled = sum(min(max(0.0, (level - load) / item_units), cap) for load, cap in zip(loads, capacity, strict=True))
        low, high = (level, high) if filled < items else (low, level)
    ideal = [min(max(0.0, (high - load) / item_units), cap) for load, cap in zip(loads, capacity, strict=True)]
    shares, total, exact = [0] * packets, 0, 0.0
    for k in range(packets):
        exact += ideal[k]
        shares[k] = min(max(round(exact) - total, 0), capacity[k])
        total += shares[k]
    for k in range(packets):
        extra = min(items - total, capacity[k] - shares[k])
        shares[k] += extra
        total += extra
    return shares
