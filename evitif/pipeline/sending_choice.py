"""How the next frame travels: which quantisation, in how many copies, and how many of its patches, within what it may take.

What a coarser quantisation saves goes into copies of each patch, so where the rate is not the limit the choice is between few
exact tokens and nearly all tokens, coarse; which is better depends on the loss alone.

The cost of a choice is measured, not guessed (`rate_table`): the accuracy that the quantisation costs, and what the share of the
patches costs that will be missing, because they are not sent or because no copy of them arrives. How many packets of a frame
arrive varies, most of all in bursts, and the cost rises faster than what is missing: so it is averaged over all that may
happen. Of the choices that fit into the frame's share of the allowed rate the cheapest one is taken.

Where the rate is low, what is sent beside the tokens counts: every datagram has headers and the class token. A frame then travels
in fewer datagrams than `min_packets`, where that makes room for enough: each of them that is lost is a greater part of the frame.
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
FEWER_PACKETS_SAVE = 0.8        # so much, at most, has to be the cost of a frame in fewer packets than usual
SHARES = (0.25, 0.4, 0.55, 0.7, 0.85)       # of the patches; more than one copy of a part of them is never better than more of them
FEWER_PACKETS = (2 / 3, 1 / 2, 1 / 3, 1 / 4, 1 / 6)     # of `min_packets`
NO_ANSWER = 1.0             # what a frame costs of which nothing arrives, in top-1


@dataclass(frozen=True)
class Setting:
    """One way to send a frame."""

    quantisation: Quantisation
    patch_copies: int
    share: float            # of the patches
    packets: int
    bytes: int              # of a frame, IP and UDP headers included, with room for SOURCE_FRAME_RESERVE bytes of name in each packet
    min_packets: int = 0    # fewer than the edge's; 0: not so


def settings_of(parameters: StreamParameters, *, max_datagram_bytes: int, min_packets: int, prefix_copies: int, patch_copies: int = 0,
                seal_bytes: int = 0) -> list[Setting]:
    """All ways to send a frame that take no more bytes than int8 rows sent once, or than the smallest.

    :param max_datagram_bytes: without the seal
    :param patch_copies: only with as many; 0: any number
    """
    def setting(kind: Quantisation, copies: int, share: float, fewest: int) -> Setting:
        return _setting(parameters.in_format(kind), copies, share, max_datagram_bytes, fewest, prefix_copies, seal_bytes)

    least, most = patch_copies or 1, patch_copies or MAX_PATCH_COPIES
    kinds = parameters.row_formats
    limit = setting(Quantisation.INT8, least, 1.0, min_packets).bytes if Quantisation.INT8 in kinds else math.inf
    fewer = dict.fromkeys(max(2, round(part * min_packets)) for part in FEWER_PACKETS)
    found = []
    for kind in kinds:
        # Ever larger ones, so that the first beyond the limit is the last.
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
    """Chooses among `settings` by `table`; only the quantisations that both know count."""

    def __init__(self, table: RateTable, settings: list[Setting]):
        self.settings = [setting for setting in settings if setting.quantisation in table.coding]
        if not self.settings:
            raise ValueError(f'the table knows {", ".join(table.coding)}; expected one of the quantisations of the settings')
        self._bytes = np.array([setting.bytes for setting in self.settings])
        self._packets = np.array([setting.packets for setting in self.settings])
        self._fewer = np.array([setting.min_packets > 0 for setting in self.settings])
        shares, lost = zip(*table.lost, strict=True)
        # Cost of each setting where so many of its packets arrive: any of them, and some in a row.
        self._scattered, self._in_a_row = np.zeros((2, len(self.settings), int(self._packets.max()) + 1))
        for index, setting in enumerate(self.settings):
            both = patches_missing(setting.patch_copies, setting.packets)
            for costs, missing in zip((self._scattered, self._in_a_row), both, strict=True):
                gone = np.interp(1 - setting.share * (1 - missing), shares, lost)
                costs[index, :setting.packets + 1] = table.coding[setting.quantisation] + gone
                costs[index, 0] = NO_ANSWER

    def costs(self, packet_error_rate: float, mean_burst: float = math.nan) -> np.ndarray:
        """The loss of top-1 to expect of each of `settings`, 0 to 1: float [settings]."""
        likely = arrivals(packet_error_rate, mean_burst, self._scattered.shape[1] - 1)[self._packets]
        in_a_row = memory(packet_error_rate, mean_burst)        # weight between scattered losses (0) and one contiguous burst (1)
        return (likely * ((1 - in_a_row) * self._scattered + in_a_row * self._in_a_row)).sum(1)

    def choose(self, frame_bytes: float, packet_error_rate: float, mean_burst: float = math.nan, present: Setting | None = None,
               name_bytes: int = SOURCE_FRAME_RESERVE) -> Setting:
        """The setting that costs least within `frame_bytes`; the smallest where none fits.

        Fewer packets than usual are taken where that saves a fifth: what is lost next may be more than what was lost last.

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
    """The tokens of which a frame consists that carries so many of its patches, a scatter; None: all of them."""
    if share >= 1.0:
        return None
    order = scattered_order(parameters.grid)
    patches = order[:max(1, round(share * len(order)))]
    return np.concatenate([np.arange(parameters.prefix_tokens), parameters.prefix_tokens + patches])


def sending_choice(stream: CutModel, config: SplitEdgeSettings) -> SendingChoice | None:
    """The choice of an edge; None where frames travel in one quantisation only."""
    if stream.rates is None:
        return None
    return SendingChoice(stream.rates, settings_of(
        stream.parameters, max_datagram_bytes=datagram_room(config), min_packets=config.min_packets,
        prefix_copies=config.prefix_copies, patch_copies=config.patch_copies,
        seal_bytes=config.max_datagram_bytes - datagram_room(config)))
