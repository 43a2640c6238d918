"""In how many packets the chosen patches travel, and how often each of them.

A frame of chosen patches is small, so that headers are much of it: few packets while little is lost, and more with the
copies, which have to be lost independently of one another.
"""

from __future__ import annotations

import math

from evitif.protocol.statistics import sufficient_copies

LOST = 0.03             # share of the patches that may be lost before one more copy of each is sent
MOST_COPIES = 7


def copies_for(packet_error_rate: float, mean_burst: float = math.nan) -> int:
    """Packets that each patch travels in, at a measured packet error rate (0 to 1) and mean burst (packets, NaN: unknown)."""
    return sufficient_copies(packet_error_rate, LOST, 1, MOST_COPIES, mean_burst)


def packets_for(copies: int) -> int:
    """The packetiser's `min_packets` for frames whose patches travel so often; it takes fewer where few patches are sent."""
    return 2 * copies
