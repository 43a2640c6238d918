"""The ideal erasure code: any k of n datagrams give the data back (Reed-Solomon), n tuned to the true loss.

A code that is really used does not know the loss that is to come, and sends more, or fails more often.
"""

from __future__ import annotations

import functools
import math
import struct

import numpy as np

from evitif.channel import transitions

FAILURE = 0.001             # share of the frames that may miss more datagrams than the parity makes good
MAX_DATAGRAMS = 255         # zfec's field has 256 elements
DATAGRAM_BYTES = 1200       # as evitif's
HEADER = struct.Struct('!IIBB')     # frame, bytes of data, k, index
_TRIALS = 20_000


@functools.lru_cache(4096)
def datagrams_needed(k: int, loss: float, burst: float = 1.0, failure: float = FAILURE) -> int:
    """
    The fewest datagrams of which k arrive but for `failure` of the frames; MAX_DATAGRAMS where more would be needed.

    :param burst: datagrams lost in a row on average; above 1 by simulation of Gilbert's channel, since there is no short formula
    """
    if loss <= 0:
        return k
    if burst > 1:
        return _simulated(k, loss, burst, failure)
    return next((n for n in range(k, MAX_DATAGRAMS) if failure_of(k, n, loss) <= failure), MAX_DATAGRAMS)


@functools.lru_cache(65536)
def failure_of(k: int, n: int, loss: float) -> float:
    """P(fewer than k of n arrive), losses independent."""
    return sum(math.comb(n, i) * (1 - loss) ** i * loss ** (n - i) for i in range(k))


def _simulated(k: int, loss: float, burst: float, failure: float) -> int:
    draw = np.random.default_rng(0).random((MAX_DATAGRAMS, _TRIALS), dtype=np.float32)
    to_bad, to_good = transitions(loss, burst)
    bad = draw[0] < loss
    arrived = (~bad).astype(np.int32)
    for n in range(1, MAX_DATAGRAMS):
        if n >= k and np.mean(arrived < k) <= failure:
            return n
        bad = np.where(bad, draw[n] >= to_good, draw[n] < to_bad)
        arrived += ~bad
    return MAX_DATAGRAMS


def data_datagrams(size: int) -> int:
    """k: datagrams that `size` bytes take without parity."""
    return max(1, math.ceil(size / (DATAGRAM_BYTES - HEADER.size)))


def protected_bytes(size: int, loss: float, burst: float = 1.0) -> tuple[int, int]:
    """Datagrams, and bytes of UDP payload in them, that carry `size` bytes over such a link."""
    k = data_datagrams(size)
    n = datagrams_needed(k, loss, burst)
    return n, n * (HEADER.size + math.ceil(size / k))
