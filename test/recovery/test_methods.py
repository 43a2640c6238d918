"""Every recovery leaves what arrived as it is, and makes nothing of what did not."""

import pytest
import torch

from evitif.recovery import METHODS, Omission, Paldn
from evitif.recovery.paldn import PaldnShape

TOKENS, PREFIX, CHANNELS = 10, 1, 6


def paldn() -> Paldn:
    torch.manual_seed(0)
    network = Paldn(PaldnShape(TOKENS, PREFIX, CHANNELS, width=16, depth=2, heads=2)).eval()
    for parameter in network.parameters():  # trained networks have no zeros to hide behind
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    return network


def methods():
    blank = torch.full((TOKENS, CHANNELS), 7.0)
    return [*(kind(blank, PREFIX) for kind in METHODS.values()), paldn()]


def some_lost(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tokens = torch.randn(batch, TOKENS, CHANNELS, generator=torch.Generator().manual_seed(1))
    received = torch.ones(batch, TOKENS, dtype=torch.bool)
    received[:, [2, 3, 8]] = False
    return tokens, received, torch.full((batch,), 0.3)


@pytest.mark.parametrize('method', methods(), ids=lambda method: method.name)
def test_without_loss_the_result_is_the_input_itself(method):
    tokens, received, rates = some_lost()
    recovered = method.recover(tokens, torch.ones_like(received), rates)
    assert recovered.tokens is tokens
    assert recovered.kept is None


@pytest.mark.parametrize('method', methods(), ids=lambda method: method.name)
def test_received_tokens_pass_untouched(method):
    tokens, received, rates = some_lost()
    recovered = method.recover(tokens, received, rates)
    assert torch.equal(recovered.tokens[received], tokens[received])


@pytest.mark.parametrize('method', methods(), ids=lambda method: method.name)
def test_what_lies_at_lost_places_has_no_influence(method):
    tokens, received, rates = some_lost()
    spoiled = tokens.clone()
    spoiled[~received] = 1e4
    first, second = (method.recover(values, received, rates) for values in (tokens, spoiled))
    if first.kept is not None:
        assert torch.equal(first.kept, second.kept)
        first, second = (r.tokens.gather(1, r.kept[:, :, None].expand(-1, -1, CHANNELS)) for r in (first, second))
    else:
        first, second = first.tokens, second.tokens
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize('method', methods(), ids=lambda method: method.name)
@pytest.mark.parametrize('arrived', [[], [0], [4]])
def test_almost_nothing_received_still_gives_finite_tokens(method, arrived):
    tokens, received, rates = some_lost(1)
    received[:] = False
    received[:, arrived] = True
    tokens[~received] = 0
    recovered = method.recover(tokens, received, torch.ones(1))
    assert torch.isfinite(recovered.tokens).all()
    if recovered.kept is not None:
        assert recovered.kept[0, 0] == 0
        assert recovered.kept.shape[1] >= 2


def test_baselines_fill_as_they_say():
    tokens, received, rates = some_lost()
    received[1, 0] = False
    blank = torch.full((TOKENS, CHANNELS), 7.0)
    filled = {name: kind(blank, PREFIX).recover(tokens[:2], received[:2], rates[:2]) for name, kind in METHODS.items()
              if name != 'omission'}
    assert torch.equal(filled['zero'].tokens[0, 2], torch.zeros(CHANNELS))
    torch.testing.assert_close(filled['mean'].tokens[0, 2], tokens[0, received[0]][PREFIX:].mean(0))
    for recovered in filled.values():
        assert torch.equal(recovered.tokens[1, 0], blank[0])


def test_omission_keeps_the_received_ones_and_the_prefix():
    tokens, received, rates = some_lost()
    received[:, 0] = False
    recovered = Omission(torch.full((TOKENS, CHANNELS), 7.0), PREFIX).recover(tokens, received, rates)
    assert recovered.kept[0].tolist() == [0, 1, 4, 5, 6, 7, 9]
    assert torch.equal(recovered.tokens[0, 0], torch.full((CHANNELS,), 7.0))


def test_omission_says_when_a_batch_lost_unequally():
    tokens, received, rates = some_lost()
    received[1, 5] = False
    with pytest.raises(ValueError, match=r'\[7, 6, 7\]'):
        Omission(torch.zeros(TOKENS, CHANNELS), PREFIX).recover(tokens, received, rates)


def test_paldn_uses_the_rate():
    network = paldn()
    tokens, received, _ = some_lost(1)
    low, high = (network.recover(tokens, received, torch.tensor([rate])).tokens for rate in (0.1, 0.9))
    assert not torch.allclose(low[~received], high[~received], atol=1e-4)
