"""Which tokens are lost when packets are: whole packets, laid out as the real packetiser lays them out."""

from __future__ import annotations

import torch

from evitif.protocol.datagram import UNIT_INDEX
from evitif.protocol.interleaving import interleave
from evitif.protocol.packetiser import MAX_DATAGRAM_BYTES, MIN_PACKETS, PREFIX_COPIES, row_capacity
from evitif.protocol.parameters import StreamParameters


class PacketLoss:
    """Draws masks of received tokens for frames of `parameters`.

    `burst` is the mean length of a run of lost packets: 1 for independent losses, else a Gilbert-Elliott channel
    (Gilbert, BSTJ 1960; Elliott, BSTJ 1963) that loses everything in its bad state and nothing in its good one.
    A frame of which no packet arrived is never answered, so at least one packet is always received.
    """

    def __init__(self, parameters: StreamParameters, *, max_datagram_bytes: int = MAX_DATAGRAM_BYTES,
                 min_packets: int = MIN_PACKETS, prefix_copies: int = PREFIX_COPIES):
        slots = row_capacity(max_datagram_bytes) // (UNIT_INDEX.itemsize + parameters.row_bytes)
        packets = interleave(parameters.grid, parameters.prefix_tokens, parameters.groups, slots=slots,
                             min_packets=min_packets, prefix_copies=prefix_copies)
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
        if burst <= 1:
            arrived = draws >= rates[:, None]
        else:
            leave = torch.full_like(rates, 1 / burst)                             # bad to good
            enter = (rates * leave / (1 - rates).clamp(min=1e-6)).clamp(max=1)    # good to bad: stationary rate
            lost = torch.empty(batch, packets, dtype=torch.bool)
            lost[:, 0] = draws[:, 0] < rates
            for index in range(1, packets):
                lost[:, index] = draws[:, index] < torch.where(lost[:, index - 1], 1 - leave, enter)
            arrived = ~lost
        spared = torch.randint(0, packets, (batch,), generator=generator)
        none = ~arrived.any(1)
        arrived[none, spared[none]] = True
        return arrived

    def received_tokens(self, arrived: torch.Tensor) -> torch.Tensor:
        """Packets bool [B, packets] to tokens bool [B, tokens]: a token is received when all its units are."""
        units = (arrived.float() @ self.carries) > 0
        return units.view(len(arrived), self.parameters.tokens, self.parameters.groups).all(2)
