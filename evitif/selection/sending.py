"""In how many packets the chosen patches travel, and how often each of them.

A frame of chosen patches is small, so that headers are much of it: few packets while little is lost, and more with the
copies, which have to be lost independently of one another. Edge and evaluation go by the same numbers.
"""

from __future__ import annotations

import math

from evitif.protocol.frames.packetiser import MAX_PATCH_COPIES
from evitif.protocol.rate.copies import sufficient_copies

LOST = 0.03             # share of the patches that may be lost before one more copy of each is sent
MOST_COPIES = 7
NOTHING = 0.005         # share of the frames of which nothing may arrive


def copies_for(packet_error_rate: float, mean_burst: float = math.nan, patches: int | None = None) -> int:
    """Packets that each patch travels in, at a measured packet error rate (0 to 1) and mean burst (packets, NaN: unknown).

    :param patches: that are sent; a frame has no more packets than patches or than copies, so that a few patches take more
        copies, lest nothing of them arrive. None: as for many
    """
    copies, packets = sufficient_copies(packet_error_rate, LOST, 1, MOST_COPIES, mean_burst), _fewest(packet_error_rate, mean_burst)
    return copies if patches is None or patches >= packets else max(copies, packets)


def packets_for(copies: int, packet_error_rate: float = math.nan, mean_burst: float = math.nan) -> int:
    """The packetiser's `min_packets` for frames whose patches travel so often; it takes fewer where few patches are sent."""
    return max(2 * copies, _fewest(packet_error_rate, mean_burst))


def _fewest(packet_error_rate: float, mean_burst: float) -> int:
    """Packets of which one arrives but for NOTHING of the frames."""
    return sufficient_copies(packet_error_rate, NOTHING, 1, MAX_PATCH_COPIES, mean_burst)
