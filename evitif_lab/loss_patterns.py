"""Which tokens are lost when packets are: whole packets, laid out as the real packetiser lays them out."""

from __future__ import annotations

from typing import NamedTuple

import torch

from evitif.channel import independent_burst, transitions
from evitif.protocol.frames.interleaving import interleave
from evitif.protocol.frames.packetiser import MAX_DATAGRAM_BYTES, MIN_PACKETS, PREFIX_COPIES, patch_copies_of, row_capacity
from evitif.protocol.rate.statistics import RATE_WINDOW
from evitif.protocol.wire.datagram import UNIT_INDEX
from evitif.protocol.wire.parameters import StreamParameters


class LossRun(NamedTuple):
    """What a link did to consecutive frames of one stream."""

    arrived: torch.Tensor       # bool [n, packets]
    measured: torch.Tensor      # float32 [n]: the packet error rate as the receiving side knows it when a frame is complete
    unanswerable: float         # share of the frames of which nothing arrived, and one packet was spared


class PacketLoss:
    """Draws masks of received tokens for frames of `parameters`.

    `burst` is the mean length of a run of lost packets (see `evitif.channel`); one shorter than that of independent losses, such as 1,
    means independent losses. A frame of which no packet arrived is never answered, so at least one packet is always received.
    """

    def __init__(self, parameters: StreamParameters, *, max_datagram_bytes: int = MAX_DATAGRAM_BYTES,
                 min_packets: int = MIN_PACKETS, prefix_copies: int = PREFIX_COPIES, patch_copies: int = 0):
        self.patch_copies = patch_copies_of(parameters, patch_copies, max_datagram_bytes=max_datagram_bytes,
                                            min_packets=min_packets, prefix_copies=prefix_copies)
        slots = row_capacity(max_datagram_bytes) // (UNIT_INDEX.itemsize + parameters.row_bytes)
        packets = interleave(parameters.grid, parameters.prefix_tokens, parameters.groups, slots=slots,
                             min_packets=min_packets, prefix_copies=prefix_copies, patch_copies=self.patch_copies)
        self.parameters = parameters
        self.carries = torch.zeros(len(packets), parameters.units)  # [packets, units], 1 where a packet has a unit
        for index, units in enumerate(packets):
            self.carries[index, torch.from_numpy(units.astype('int64'))] = 1

    @property
    def packets(self) -> int:
        """Packets of a frame."""
        return len(self.carries)

    def received_packets(self, rates: torch.Tensor, burst: float, generator: torch.Generator) -> torch.Tensor:
        """Rates [B] in 0..1 to bool [B, packets]."""
        batch, packets = len(rates), self.packets
        draws = torch.rand(batch, packets, generator=generator)
        arrived = ~_lost(draws, rates[:, None].expand(batch, packets), burst)
        _spare_one(arrived, generator)
        return arrived

    def run(self, rates: torch.Tensor, burst: float, generator: torch.Generator) -> LossRun:
        """Consecutive frames of one stream: the channel's state goes on from frame to frame.

        `rates` [n] is the channel's packet error rate, 0..1, during each frame. What is measured is what a
        `SequenceTracker` of the receiving side says of the last datagrams up to the frame's last arrival; it lags behind
        a rate that changes. A spared packet counts in its own frame's measurement only.
        """
        frames, packets = len(rates), self.packets
        draws = torch.rand(frames * packets, generator=generator)
        lost = _lost(draws[None], rates.float().repeat_interleave(packets)[None], burst)[0]
        seen = torch.cat((torch.zeros(1, dtype=torch.long), (~lost).long().cumsum(0)))    # arrivals before each packet
        arrived = ~lost.view(frames, packets)
        none = _spare_one(arrived, generator)
        last_in_frame = packets - 1 - arrived.flip(1).int().argmax(1)
        end = torch.arange(frames) * packets + last_in_frame + 1                          # of the window, exclusive
        start = (end - RATE_WINDOW).clamp(min=0)
        measured = 1 - (seen[end] - seen[start] + none).float() / (end - start)
        return LossRun(arrived, measured, float(none.float().mean()))

    def received_tokens(self, arrived: torch.Tensor) -> torch.Tensor:
        """Packets bool [B, packets] to tokens bool [B, tokens]: a token is received when all its units are."""
        units = (arrived.float() @ self.carries) > 0
        return units.view(len(arrived), self.parameters.tokens, self.parameters.groups).all(2)


def _spare_one(arrived: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Let one packet of each frame of `arrived` [n, packets] through of which none came; return which frames [n] those are."""
    spared = torch.randint(0, arrived.shape[1], (len(arrived),), generator=generator)
    none = ~arrived.any(1)
    arrived[none, spared[none]] = True
    return none


def _lost(draws: torch.Tensor, rates: torch.Tensor, burst: float) -> torch.Tensor:
    """Uniform draws and rates, both [streams, packets in sending order], to what a Gilbert-Elliott channel loses.

    A packet is lost with probability 1 - to_good after a lost one and to_bad after another, to_bad <= rate <= 1 - to_good. So a draw below
    to_bad or above 1 - to_good decides by itself, and any other repeats the packet before: no loop over packets.
    """
    to_bad, to_good = transitions(rates, independent_burst(rates).clamp(min=burst))
    lost = draws < to_bad.nan_to_num(1.0)                   # not a number at a rate of 1
    decided = lost | (draws >= 1 - to_good)
    lost[:, 0], decided[:, 0] = draws[:, 0] < rates[:, 0], True
    places = torch.arange(draws.shape[1]).expand_as(draws)
    return lost.gather(1, torch.where(decided, places, 0).cummax(1).values)
