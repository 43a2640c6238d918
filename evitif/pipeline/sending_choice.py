"""How the next frame travels: in which quantisation, in how many copies, and how many of its patches.

A coarser quantisation leaves room for more copies of each patch. If the rate is not the limit, the choice is between few exact
tokens and nearly all tokens, coarse; only the loss decides which is better.

The cost of a choice is measured (`rate_table`): the accuracy lost to the quantisation, and to the patches that will be missing,
because they are not sent or because no copy arrives. The cost rises faster than the share of missing patches, and bursts make that
share vary; so the cost is averaged over all numbers of packets that may arrive. The cheapest choice that fits the frame's share of
the allowed rate wins.

At a low rate overhead counts: every datagram carries headers and the class token. A frame then travels in fewer datagrams than
`min_packets` if that makes enough room, although losing one then loses more of the frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from evitif.channel import arrivals, memory
from evitif.pipeline.cut_model import CutModel
from evitif.pipeline.loading import datagram_room
from evitif.pipeline.rate_table import RateTable, patches_missing
from evitif.protocol.frames.interleaving import arrange, prefix_copies_of, scattered_order
from evitif.protocol.frames.packetiser import MAX_PATCH_COPIES, SOURCE_FRAME_RESERVE, packets_of_part, row_capacity
from evitif.protocol.rate.pacing import IP_UDP_BYTES
from evitif.protocol.wire.parameters import StreamParameters
from evitif.settings import SplitEdgeSettings
from evitif.vocabulary import Quantisation

HYSTERESIS = 0.95       # a new choice has to cost less than this share of what the present one does
FEWER_PACKETS_SAVE = 0.8        # fewer packets than usual have to cut the cost to at most this share
SHARES = (0.25, 0.4, 0.55, 0.7, 0.85)       # of the patches; more of them are always better than several copies of a part
FEWER_PACKETS = (2 / 3, 1 / 2, 1 / 3, 1 / 4, 1 / 6)     # of `min_packets`
NO_ANSWER = 1.0             # cost in top-1 of a frame of which nothing arrives


@dataclass(frozen=True)
class Setting:
    """One way to send a frame."""

    quantisation: Quantisation
    patch_copies: int
    share: float            # of the patches
    packets: int
    bytes: int              # of a frame, IP and UDP headers included, with room for SOURCE_FRAME_RESERVE bytes of name in each packet
    min_packets: int = 0    # fewer than the edge's; 0: the edge's


def settings_of(parameters: StreamParameters, *, max_datagram_bytes: int, min_packets: int, prefix_copies: int, patch_copies: int = 0,
                seal_bytes: int = 0) -> list[Setting]:
    """All ways to send a frame that take no more bytes than int8 rows sent once, or than the smallest.

    :param max_datagram_bytes: without the seal
    :param patch_copies: the only number to consider; 0: any
    """
    def setting(kind: Quantisation, copies: int, share: float, fewest: int) -> Setting:
        return _setting(parameters.in_format(kind), copies, share, max_datagram_bytes, fewest, prefix_copies, seal_bytes)

    least, most = patch_copies or 1, patch_copies or MAX_PATCH_COPIES
    kinds = parameters.row_formats
    limit = setting(Quantisation.INT8, least, 1.0, min_packets).bytes if Quantisation.INT8 in kinds else math.inf
    fewer = dict.fromkeys(max(2, round(part * min_packets)) for part in FEWER_PACKETS)
    found = []
    for kind in kinds:
        # In ascending order of size, so that the first beyond the limit ends the search.
        for copies, share in [(least, share) for share in SHARES] + [(copies, 1.0) for copies in range(least, most + 1)]:
            usual = setting(kind, copies, share, min_packets)
            if usual.bytes > limit and found:
                break
            ways = {usual.packets: replace(usual, min_packets=0)}
            for fewest in fewer:
                way = setting(kind, copies, share, fewest)
                if way.packets in ways:
                    break                  # the rows take as many datagrams as this
                ways[way.packets] = way
            found += ways.values()
    return found


def _setting(p: StreamParameters, copies: int, share: float, max_datagram_bytes: int, min_packets: int, prefix_copies: int,
             seal_bytes: int) -> Setting:
    patches = max(1, round(share * p.grid[0] * p.grid[1]))
    slots = max(1, row_capacity(max_datagram_bytes) // (2 + p.row_bytes))
    packets = arrange([patches] * copies, prefix_copies_of(p.prefix_tokens, patches, prefix_copies), p.groups, slots=slots,
                      min_packets=packets_of_part(min_packets, patches, p.grid[0] * p.grid[1]) if share < 1 else min_packets)
    units = sum(len(prefix) + part.stop - part.start for prefix, part in packets)
    fixed = max_datagram_bytes - row_capacity(max_datagram_bytes) + seal_bytes + IP_UDP_BYTES
    return Setting(p.quantisation, copies, share, len(packets), len(packets) * fixed + units * (2 + p.row_bytes), min_packets)


class SendingChoice:
    """Chooses among `settings` by `table`, in the quantisations that both know."""

    def __init__(self, table: RateTable, settings: list[Setting]):
        self.settings = [setting for setting in settings if setting.quantisation in table.coding]
        if not self.settings:
            raise ValueError(f'the table knows {", ".join(table.coding)}; expected one of the quantisations of the settings')
        self._bytes = np.array([setting.bytes for setting in self.settings])
        self._packets = np.array([setting.packets for setting in self.settings])
        self._fewer = np.array([setting.min_packets > 0 for setting in self.settings])
        shares, lost = zip(*table.lost, strict=True)
        # Cost of each setting by how many of its packets arrive: any of them, or some in a row.
        self._scattered, self._in_a_row = np.zeros((2, len(self.settings), int(self._packets.max()) + 1))
        for index, setting in enumerate(self.settings):
            both = patches_missing(setting.patch_copies, setting.packets)
            for costs, missing in zip((self._scattered, self._in_a_row), both, strict=True):
                gone = np.interp(1 - setting.share * (1 - missing), shares, lost)
                costs[index, :setting.packets + 1] = table.coding[setting.quantisation] + gone
                costs[index, 0] = NO_ANSWER

    def costs(self, packet_error_rate: float, mean_burst: float = math.nan) -> np.ndarray:
        """The expected loss of top-1 with each of `settings`, 0 to 1: float [settings]."""
        likely = arrivals(packet_error_rate, mean_burst, self._scattered.shape[1] - 1)[self._packets]
        in_a_row = memory(packet_error_rate, mean_burst)        # weight between scattered losses (0) and one contiguous burst (1)
        return (likely * ((1 - in_a_row) * self._scattered + in_a_row * self._in_a_row)).sum(1)

    def choose(self, frame_bytes: float, packet_error_rate: float, mean_burst: float = math.nan, present: Setting | None = None,
               name_bytes: int = SOURCE_FRAME_RESERVE) -> Setting:
        """The setting that costs least within `frame_bytes`; the smallest if none fits.

        It uses fewer packets than usual only if that saves a fifth: the next loss may be greater than the last.

        :param packet_error_rate: 0 to 1, as measured; NaN counts as none
        :param mean_burst: datagrams lost in a row on average; NaN where it is unknown: independent losses
        :param present: kept while it fits and costs little more than the best
        :param name_bytes: of the source frame's name, which is in each datagram
        """
        costs = self.costs(0.0 if math.isnan(packet_error_rate) else packet_error_rate, mean_burst)
        costs = np.where(self._fewer, costs / FEWER_PACKETS_SAVE, costs)
        sizes = self._bytes - (SOURCE_FRAME_RESERVE - name_bytes) * self._packets
        fits = sizes <= frame_bytes
        if fits[~self._fewer].all():         # the rate is not the limit
            fits &= ~self._fewer
        if not fits.any():
            return self.settings[int(sizes.argmin())]
        least = costs[fits].min()
        good = np.flatnonzero(fits & (costs <= least))
        best = good[sizes[good].argmin()]
        if present in self.settings:
            now = self.settings.index(present)
            if fits[now] and least > HYSTERESIS * costs[now]:
                return present
        return self.settings[int(best)]


def chosen_tokens(parameters: StreamParameters, share: float) -> np.ndarray | None:
    """The tokens of a frame that carries this share of its patches, scattered; None: all of them."""
    if share >= 1.0:
        return None
    order = scattered_order(parameters.grid)
    patches = order[:max(1, round(share * len(order)))]
    return np.concatenate([np.arange(parameters.prefix_tokens), parameters.prefix_tokens + patches])


def sending_choice(stream: CutModel, config: SplitEdgeSettings) -> SendingChoice | None:
    """An edge's choice; None if its frames travel in one quantisation only."""
    if stream.rates is None:
        return None
    return SendingChoice(stream.rates, settings_of(
        stream.parameters, max_datagram_bytes=datagram_room(config), min_packets=config.min_packets,
        prefix_copies=config.prefix_copies, patch_copies=config.patch_copies,
        seal_bytes=config.max_datagram_bytes - datagram_room(config)))
