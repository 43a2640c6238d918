"""How many packets carry the chosen patches, and how many copies of each.

A frame of chosen patches is small, so headers are much of it: it uses few packets at low loss, and more with the number of copies,
which should be lost independently. Edge and evaluation use the same numbers.
"""

from __future__ import annotations

import math

from evitif.protocol.frames.packetiser import MAX_PATCH_COPIES
from evitif.protocol.rate.copies import sufficient_copies

LOST = 0.03             # share of the patches that may be lost before one more copy of each is sent
MOST_COPIES = 7
NOTHING = 0.005         # share of the frames that may be lost whole


def copies_for(packet_error_rate: float, mean_burst: float = math.nan, patches: int | None = None) -> int:
    """Packets that each patch travels in, at a measured packet error rate (0 to 1) and mean burst (packets, NaN: unknown).

    :param patches: number that is sent; a frame has no more packets than patches or copies, so a few patches need more copies for one to
        arrive. None: many
    """
    copies, packets = sufficient_copies(packet_error_rate, LOST, 1, MOST_COPIES, mean_burst), _fewest(packet_error_rate, mean_burst)
    return copies if patches is None or patches >= packets else max(copies, packets)


def packets_for(copies: int, packet_error_rate: float = math.nan, mean_burst: float = math.nan) -> int:
    """The packetiser's `min_packets` for this number of copies; it makes fewer if few patches are sent."""
    return max(2 * copies, _fewest(packet_error_rate, mean_burst))


def _fewest(packet_error_rate: float, mean_burst: float) -> int:
    """Packets so that one arrives in all but NOTHING of the frames."""
    return sufficient_copies(packet_error_rate, NOTHING, 1, MAX_PATCH_COPIES, mean_burst)
