"""The losses that train and judge are those of whole packets."""

import pytest
import torch

from evitif.protocol import StreamParameters
from evitif.protocol.rate.statistics import RATE_WINDOW, SequenceTracker
from evitif_lab.loss_patterns import PacketLoss


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


def runs_of_losses(lost: torch.Tensor) -> float:
    """Mean length of the runs of True in a sequence."""
    begins = lost & ~torch.cat((torch.zeros(1, dtype=torch.bool), lost[:-1]))
    return float(lost.sum() / begins.sum())


def one_run(rates, burst=1.0, seed=0):
    return PacketLoss(parameters()).run(torch.as_tensor(rates), burst, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('burst', [1, 8, 32])
@pytest.mark.parametrize('rate', [0.2, 0.6, 0.9])
def test_a_run_has_the_rate_and_the_burst_length_across_frames(rate, burst):
    arrived, measured, unanswerable = one_run(torch.full((10_000,), rate), burst)
    independent = 1 / (1 - rate)
    spared = unanswerable / arrived.shape[1]
    assert float((~arrived).float().mean()) + spared == pytest.approx(rate, abs=0.025)
    assert float(measured[50:].mean()) == pytest.approx(rate, abs=0.025)
    if unanswerable == 0:
        assert runs_of_losses(~arrived.flatten()) == pytest.approx(max(burst, independent), rel=0.1)


def test_bursts_go_on_from_one_frame_into_the_next():
    arrived, _, _ = one_run(torch.full((4000,), 0.3), 16)
    last, first = ~arrived[:-1, -1], ~arrived[1:, 0]
    assert float(first[last].float().mean()) == pytest.approx(1 - 1 / 16, abs=0.03)
    assert float(first[~last].float().mean()) < 0.06


@pytest.mark.parametrize('burst', [1, 6])
def test_the_measured_rate_is_that_of_the_protocol_s_tracker(burst):
    arrived, measured, unanswerable = one_run(torch.full((60,), 0.4), burst)
    assert unanswerable == 0
    tracker, packets = SequenceTracker(), arrived.shape[1]
    for frame in range(len(arrived)):
        for packet in arrived[frame].nonzero()[:, 0].tolist():
            tracker.receive(frame * packets + packet)
        assert float(measured[frame]) == pytest.approx(tracker.packet_error_rate, abs=1e-6)


def test_the_measured_rate_lags_behind_a_jump():
    rates = torch.cat((torch.full((200,), 0.1), torch.full((200,), 0.7)))
    arrived, measured, _ = one_run(rates)
    frames = RATE_WINDOW // arrived.shape[1]
    assert float(measured[200]) < 0.2
    assert float(measured[200 + frames // 2]) == pytest.approx(0.4, abs=0.12)
    assert float(measured[200 + 2 * frames:].mean()) == pytest.approx(0.7, abs=0.05)


def test_frames_of_which_nothing_arrives_are_counted_and_spared_one_packet():
    arrived, measured, unanswerable = one_run(torch.full((3000,), 0.95))
    assert arrived.any(1).all()
    assert unanswerable == pytest.approx(0.95**arrived.shape[1], abs=0.03)
    assert float(measured[50:].mean()) == pytest.approx(0.95, abs=0.01)


def test_a_drifting_rate_is_followed_and_no_loss_is_none():
    rates = 0.9 * torch.sin(torch.pi * (torch.arange(2000) + 0.5) / 2000)
    arrived, _, _ = one_run(rates, 4)
    blocks = (~arrived).float().mean(1).view(10, 200).mean(1)
    assert torch.allclose(blocks, rates.view(10, 200).mean(1), atol=0.08)
    arrived, measured, unanswerable = one_run(torch.zeros(50), 8)
    assert arrived.all() and not measured.any() and unanswerable == 0


def test_a_burst_shorter_than_that_of_independent_losses_means_these():
    arrived = PacketLoss(parameters()).received_packets(torch.full((8000,), 0.8), 2, torch.Generator().manual_seed(0))
    lost = ~arrived
    assert float(lost.float().mean()) == pytest.approx(0.8, abs=0.02)
    assert float((lost[:, 1:] & lost[:, :-1]).sum() / lost[:, :-1].sum()) == pytest.approx(0.8, abs=0.02)


def test_a_long_run_is_drawn_quickly():
    import time
    pattern, began = PacketLoss(parameters()), time.process_time()
    pattern.run(torch.full((10_000,), 0.6), 8, torch.Generator().manual_seed(0))
    assert time.process_time() - began < 2
