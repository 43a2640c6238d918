"""Gilbert's channel, which loses datagrams in bursts.

A Markov chain of two states (Gilbert, "Capacity of a burst-noise channel", 1960; Elliott, "Estimates of error rates for codes on
burst-noise channels", 1963; both Bell System Technical Journal): in the bad state every datagram is lost, in the good state none.
Two figures describe it: the packet error rate p, and the mean length b of a burst, in datagrams.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

Number = Any        # a float, or an array or tensor of floats


def transitions(loss: Number, burst: Number) -> tuple[Number, Number]:
    """P(good → bad) = p / ((1 - p) b) and P(bad → good) = 1 / b, so that p of the datagrams are lost; for p below 1."""
    return loss / ((1 - loss) * burst), 1 / burst


def shortest_burst(loss: float) -> float:
    """The shortest mean burst that a chain with this loss rate can have: every good datagram is followed by a burst."""
    return loss / (1 - loss)


def independent_burst(loss: Number) -> Number:
    """The mean burst of independent losses, 1 / (1 - p)."""
    return 1 / (1 - loss)


def memory(packet_error_rate: float, mean_burst: float) -> float:
    """m, by which a datagram at a distance d after a lost one is lost with probability p + (1 - p) m^d: 1 - 1 / (b (1 - p)); 0 for
    independent losses and for NaN."""
    return max(0.0, 1 - 1 / (mean_burst * max(1 - packet_error_rate, 1e-9))) if mean_burst >= 1 else 0.0


def arrivals(packet_error_rate: float, mean_burst: float, most: int) -> np.ndarray:
    """How likely it is that k of n datagrams in a row arrive: float64 [most + 1, most + 1], row n, column k.

    A burst shorter than that of independent losses, or NaN, is taken for theirs.
    """
    burst = mean_burst if mean_burst >= 1 else 1.0
    return _arrivals(round(512 * min(max(packet_error_rate, 0.0), 1.0)) / 512, round(burst, 1 if burst < 20 else 0), most)


@lru_cache(maxsize=64)
def _arrivals(p: float, mean_burst: float, most: int) -> np.ndarray:
    table = np.zeros((most + 1, most + 1))
    if p >= 1.0:
        table[:, 0] = 1.0
        return table
    to_bad, to_good = transitions(p, max(mean_burst, independent_burst(p)))
    good, bad = np.zeros(most + 1), np.zeros(most + 1)      # by how many arrived so far, in the state that the next packet meets
    good[0], bad[0] = 1 - p, p
    table[0] = good + bad
    for n in range(1, most + 1):
        arrived = np.concatenate(([0.0], good[:-1]))
        good, bad = arrived * (1 - to_bad) + bad * to_good, arrived * to_bad + bad * (1 - to_good)
        table[n] = good + bad
    table.setflags(write=False)
    return table
