"""The losses that train and judge are those of whole packets."""

import pytest
import torch

from evitif.protocol import StreamParameters
from evitif.recovery.loss_patterns import PacketLoss


def parameters(channels: int = 64, groups: int = 1) -> StreamParameters:
    return StreamParameters(model='m', fingerprint='0' * 64, cut=1, quantisation='int8', image_size=(64, 64),
                            tokens=65, prefix_tokens=1, grid=(8, 8), channels=channels, groups=groups,
                            row_bytes=4 + channels // groups, classes=3)


@pytest.mark.parametrize('burst', [1, 4])
@pytest.mark.parametrize('rate', [0.2, 0.6])
def test_the_rate_and_the_burst_length_are_those_asked_for(rate, burst):
    pattern = PacketLoss(parameters())
    arrived = pattern.received_packets(torch.full((4000,), rate), burst, torch.Generator().manual_seed(0))
    lost = ~arrived
    assert abs(float(lost.float().mean()) - rate) < 0.02
    stay = float((lost[:, 1:] & lost[:, :-1]).sum() / lost[:, :-1].sum())
    assert abs(stay - (rate if burst == 1 else 1 - 1 / burst)) < 0.03


def test_at_least_one_packet_always_arrives():
    pattern = PacketLoss(parameters())
    arrived = pattern.received_packets(torch.ones(500), 1, torch.Generator().manual_seed(0))
    assert (arrived.sum(1) == 1).all()
    assert arrived.float().mean(0).std() < 0.03  # any packet may be the one


def test_a_token_of_several_groups_is_received_when_all_its_units_are():
    pattern = PacketLoss(parameters(channels=2048, groups=2))
    assert pattern.packets >= 130
    everything = torch.ones(1, pattern.packets, dtype=torch.bool)
    assert pattern.received_tokens(everything).all()
    unit = 2 * 9 + 1  # the second half of token 9
    without = everything & (pattern.carries[:, unit] == 0)
    received = pattern.received_tokens(without)
    assert not received[0, 9]
    assert received.sum() == 64
