"""How the next frame travels: which quantisation, in how many copies, and how many of its patches, within what it may take.

What a coarser quantisation saves goes into copies of each patch, so where the rate is not the limit the choice is between few
exact tokens and nearly all tokens, coarse; which is better depends on the loss alone.

The cost of a choice is measured, not guessed (`rate_table`): the divergence that the quantisation costs, and that of the share of
the patches that will be missing, because they are not sent or because no copy of them is likely to arrive. Of the choices that
fit into the frame's share of the allowed rate the cheapest one is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from evitif.pipeline.configuration import EdgeRuntimeConfig
from evitif.pipeline.rate_table import RateTable, patches_lost
from evitif.pipeline.split_stream import SplitStream
from evitif.protocol.interleaving import arrange, prefix_copies_of, scattered_order
from evitif.protocol.pacing import IP_UDP_BYTES
from evitif.protocol.packetiser import MAX_PATCH_COPIES, packets_of_part, row_capacity
from evitif.protocol.parameters import StreamParameters

HYSTERESIS = 0.8        # a new choice has to cost less than this share of what the present one does
SHARES = (0.85, 0.7, 0.55, 0.4, 0.25)       # of the patches; more than one copy of a part of them is never better than more of them
NO_ANSWER = 2.0             # times the divergence of an answer without patches


@dataclass(frozen=True)
class Setting:
    """One way to send a frame."""

    quantisation: str
    patch_copies: int
    share: float            # of the patches
    packets: int
    bytes: int              # of a frame, IP and UDP headers included


def settings_of(parameters: StreamParameters, *, max_datagram_bytes: int, min_packets: int, prefix_copies: int, patch_copies: int = 0,
                seal_bytes: int = 0) -> list[Setting]:
    """All ways to send a frame that take no more bytes than int8 rows sent once, or than the smallest.

    :param max_datagram_bytes: without the seal
    :param patch_copies: only with as many; 0: any number
    """
    found = []
    for kind in parameters.row_formats:
        p = parameters.in_format(kind)
        choices = [(copies, 1.0) for copies in ([patch_copies] if patch_copies else range(1, MAX_PATCH_COPIES + 1))]
        found += [_setting(p, copies, share, max_datagram_bytes, min_packets, prefix_copies, seal_bytes)
                  for copies, share in choices + [(patch_copies or 1, share) for share in SHARES]]
    once = [setting.bytes for setting in found if setting.quantisation == 'int8' and setting.share == 1.0]
    most = min(once, default=max(setting.bytes for setting in found))
    return [setting for setting in found if setting.bytes <= max(most, min(other.bytes for other in found))]


def _setting(p: StreamParameters, copies: int, share: float, max_datagram_bytes: int, min_packets: int, prefix_copies: int,
             seal_bytes: int) -> Setting:
    patches = max(1, round(share * p.grid[0] * p.grid[1]))
    slots = max(1, row_capacity(max_datagram_bytes) // (2 + p.row_bytes))
    packets = arrange([patches] * copies, prefix_copies_of(p.prefix_tokens, patches, prefix_copies), p.groups, slots=slots,
                      min_packets=packets_of_part(min_packets, patches, p.grid[0] * p.grid[1]) if share < 1 else min_packets)
    units = sum(len(prefix) + part.stop - part.start for prefix, part in packets)
    fixed = max_datagram_bytes - row_capacity(max_datagram_bytes) + seal_bytes + IP_UDP_BYTES
    return Setting(p.quantisation, copies, share, len(packets), len(packets) * fixed + units * (2 + p.row_bytes))


class SendingChoice:
    """Chooses among `settings` by `table`; only the quantisations that both know count."""

    def __init__(self, table: RateTable, settings: list[Setting]):
        self.settings = [setting for setting in settings if setting.quantisation in table.coding]
        if not self.settings:
            raise ValueError(f'the table knows {", ".join(table.coding)}; expected one of the quantisations of the settings')
        self._coding = np.array([table.coding[setting.quantisation] for setting in self.settings])
        self._bytes = np.array([setting.bytes for setting in self.settings])
        self._packets = np.array([setting.packets for setting in self.settings])
        self._shares, self._divergences = zip(*table.lost, strict=True)

    def costs(self, packet_error_rate: float, mean_burst: float = math.nan) -> np.ndarray:
        """The divergence to expect of each of `settings`, nats: float [settings]."""
        arrived = [setting.share * (1 - patches_lost(packet_error_rate, mean_burst, setting.patch_copies, setting.packets))
                   for setting in self.settings]
        cost = self._coding + np.interp(1 - np.array(arrived), self._shares, self._divergences)
        # Nothing at all arrives, not even the class token (`sufficient_copies` has the formula): as bad as without an answer.
        p = packet_error_rate
        stays = max(p, 1 - 1 / mean_burst) if mean_burst >= 1 else p
        nothing = p * stays ** (self._packets - 1)
        return (1 - nothing) * cost + nothing * NO_ANSWER * self._divergences[-1]

    def choose(self, frame_bytes: float, packet_error_rate: float, mean_burst: float = math.nan, present: Setting | None = None) -> Setting:
        """The setting that costs least within `frame_bytes`; the smallest where none fits.

        :param packet_error_rate: 0 to 1, as measured; NaN counts as none
        :param mean_burst: datagrams lost in a row on average; NaN where it is unknown: independent losses
        :param present: kept while it fits and costs little more than the best
        """
        costs = self.costs(0.0 if math.isnan(packet_error_rate) else packet_error_rate, mean_burst)
        fits = self._bytes <= frame_bytes
        if not fits.any():
            return self.settings[int(self._bytes.argmin())]
        least = costs[fits].min()
        good = np.flatnonzero(fits & (costs <= least))
        best = good[self._bytes[good].argmin()]
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


def sending_choice(stream: SplitStream, config: EdgeRuntimeConfig) -> SendingChoice | None:
    """The choice of an edge; None where frames travel in one quantisation only."""
    if stream.rates is None:
        return None
    return SendingChoice(stream.rates, settings_of(
        stream.parameters, max_datagram_bytes=config.unsealed_datagram_bytes, min_packets=config.min_packets,
        prefix_copies=config.prefix_copies, patch_copies=config.patch_copies,
        seal_bytes=config.max_datagram_bytes - config.unsealed_datagram_bytes))
