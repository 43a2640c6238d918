"""What protects a coded frame against loss: parity for the loss that is told, or for the one that the receiver reported.

A frame is cut into k equal blocks; Reed-Solomon parity makes n datagrams of them, of which any k give the frame back. k is as small as a
datagram allows, or chosen so that the frame takes the fewest bytes: more and smaller datagrams need less parity, until headers outweigh it.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from evitif.channel import arrivals, independent_burst
from evitif.transport.impairment import HEADER_BYTES
from evitif_lab.rivals.parity import FAILURE, HEADER, MAX_DATAGRAMS, data_datagrams

MOST_BLOCKS = 48                # k, where it is chosen
SMALLEST_BLOCK = 32             # bytes
PARITY_BYTES = HEADER.size + HEADER_BYTES       # of a datagram beside its block
WINDOW = 128                    # packets that a receiver measures the loss over
UNKNOWN_LOSS = 0.1              # until the first report


@functools.lru_cache(65536)
def datagrams_needed(k: int, loss: float, burst: float) -> int:
    """The fewest datagrams in a row of which k arrive but for FAILURE of the frames; MAX_DATAGRAMS where more would be needed."""
    if loss <= 0:
        return k
    likely = arrivals(loss, burst, MAX_DATAGRAMS)
    return next((n for n in range(k, MAX_DATAGRAMS) if likely[n, :k].sum() <= FAILURE), MAX_DATAGRAMS)


@functools.lru_cache(65536)
def cut(size: int, loss: float, burst: float, choose: bool) -> tuple[int, int, int]:
    """
    How a frame of `size` bytes travels: k, n, and the bytes of IP packets that it takes.

    :param choose: take the k of fewest bytes
    """
    least = data_datagrams(size)
    most = max(least, min(MOST_BLOCKS, size // SMALLEST_BLOCK)) if choose and loss > 0 else least
    found = []
    for k in range(least, most + 1):
        n = datagrams_needed(k, loss, burst)
        if n < MAX_DATAGRAMS or k == least:
            found.append((n * (PARITY_BYTES + math.ceil(size / k)), k, n))
    total, k, n = min(found)
    return k, n, total


@dataclass(frozen=True)
class Report:
    """What a receiver says of the packets so far."""

    loss: float
    burst: float


class Receiver:
    """Measures the loss over the last WINDOW packets; it knows from their numbers which are missing."""

    def __init__(self):
        self._lost = np.empty(0, bool)

    def take(self, lost: np.ndarray) -> Report | None:
        """The packets of one more frame; None before anything arrived. What comes after the last that arrived is not known to be lost."""
        self._lost = np.concatenate((self._lost, lost))
        arrived = np.flatnonzero(~self._lost)
        if not len(arrived):
            return None
        window = self._lost[max(arrived[-1] + 1 - WINDOW, 0):arrived[-1] + 1]
        runs = int(window[0]) + int((window[1:] & ~window[:-1]).sum())
        return Report(float(window.mean()), float(window.sum() / runs) if runs else 0.0)


def as_told(report: Report | None) -> tuple[float, float]:
    """Loss and burst to reckon with, rounded to figures that come again: bursts count where they are longer than chance makes them."""
    if report is None:
        return UNKNOWN_LOSS, 1.0
    loss = min(math.ceil(64 * report.loss) / 64, 0.95)
    return loss, float(round(report.burst)) if report.burst > 1.5 * independent_burst(loss) else 1.0
