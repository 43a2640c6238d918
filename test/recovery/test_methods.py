"""Every recovery leaves what arrived as it is, and makes nothing of what did not."""

import numpy as np
import pytest
import torch

from evitif.model.build import ModelSpec, build_model
from evitif.model.split import SplitModel
from evitif.recovery import METHODS, Interpolation, LinearCompletion, Omission, Paldn, Sequence
from evitif.vocabulary import RecoveryName
from evitif_lab.baselines import LEARNED, TunedTail, sized
from evitif_lab.trials.closed_form import fit_closed_form

GRID, PREFIX, CHANNELS = (3, 3), 1, 6
TOKENS = PREFIX + 9
SEQUENCE = Sequence(GRID, PREFIX, CHANNELS)
OPTIONS = {'paldn': {'width': 16, 'heads': 2}, 'srcnn': {'width': 8}, 'edsr': {'width': 8, 'blocks': 2}}


def split() -> SplitModel:
    return SplitModel(build_model(ModelSpec('vit_tiny_patch16_224', random_seed=3, model_kwargs={
        'embed_dim': CHANNELS, 'depth': 3, 'num_heads': 2, 'img_size': 48, 'num_classes': 5})).module, 1)


def smooth_fields(count: int, seed: int = 2) -> torch.Tensor:
    """Tokens [n, N, D] whose channels are waves over the grid with a prefix token that is their mean."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.cartesian_prod(torch.arange(GRID[0]), torch.arange(GRID[1])).float()
    frequency, phase = torch.rand(count, CHANNELS, 2, generator=generator), torch.rand(count, CHANNELS, 1, generator=generator)
    patches = torch.sin(frequency @ places.T + 6 * phase).transpose(1, 2)
    return torch.cat((patches.mean(1, keepdim=True), patches), 1)


def learned(name: str):
    torch.manual_seed(0)
    network = LEARNED[name](SEQUENCE, **OPTIONS.get(name, {}))
    network.attach(split())
    fit_closed_form(network, smooth_fields(50))
    for parameter in network.parameters():      # trained networks have no zeros to hide behind
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    return network.eval()


def methods():
    blank = torch.full((TOKENS, CHANNELS), 7.0)
    return [*(kind(blank, PREFIX, GRID) for kind in METHODS.values()), *(learned(name) for name in LEARNED)]


def some_lost(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tokens = torch.randn(batch, TOKENS, CHANNELS, generator=torch.Generator().manual_seed(1))
    received = torch.ones(batch, TOKENS, dtype=torch.bool)
    received[:, [2, 3, 8]] = False
    return tokens, received, torch.full((batch,), 0.3)


def test_the_names_are_known_wherever_one_is_chosen_or_sent():
    assert set(RecoveryName.values()) == {'none', *METHODS, *LEARNED}


@pytest.mark.parametrize('method', methods(), ids=lambda method: method.name)
def test_without_loss_the_result_is_the_input_itself(method):
    tokens, received, rates = some_lost()
    recovered = method.recover(tokens, torch.ones_like(received), rates)
    assert recovered.tokens is tokens
    assert recovered.kept is recovered.key_bias is recovered.tail is None


@pytest.mark.parametrize('method', methods(), ids=lambda method: method.name)
def test_received_tokens_pass_untouched(method):
    tokens, received, rates = some_lost()
    recovered = method.recover(tokens, received, rates)
    assert torch.equal(recovered.tokens[received], tokens[received])
    if recovered.key_bias is not None:
        assert (recovered.key_bias[received] == 0).all()


@pytest.mark.parametrize('method', methods(), ids=lambda method: method.name)
def test_what_lies_at_lost_places_has_no_influence(method):
    tokens, received, rates = some_lost()
    received[:, 0] = method.name != 'interpolation'
    spoiled = tokens.clone()
    spoiled[~received] = 1e4
    first, second = (method.recover(values, received, rates) for values in (tokens, spoiled))
    if first.key_bias is not None:
        torch.testing.assert_close(first.key_bias, second.key_bias)
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
    if recovered.key_bias is not None:
        assert torch.isfinite(recovered.key_bias).all()
    if recovered.kept is not None:
        assert recovered.kept[0, 0] == 0
        assert recovered.kept.shape[1] >= 2


def test_baselines_fill_as_they_say():
    tokens, received, rates = some_lost()
    received[1, 0] = False
    blank = torch.full((TOKENS, CHANNELS), 7.0)
    filled = {name: kind(blank, PREFIX, GRID).recover(tokens[:2], received[:2], rates[:2]) for name, kind in METHODS.items()
              if name != 'omission'}
    assert torch.equal(filled['zero'].tokens[0, 2], torch.zeros(CHANNELS))
    torch.testing.assert_close(filled['mean'].tokens[0, 2], tokens[0, received[0]][PREFIX:].mean(0))
    for recovered in filled.values():
        assert torch.equal(recovered.tokens[1, 0], blank[0])


def test_omission_keeps_the_received_ones_and_the_prefix():
    tokens, received, rates = some_lost()
    received[:, 0] = False
    recovered = Omission(torch.full((TOKENS, CHANNELS), 7.0), PREFIX, GRID).recover(tokens, received, rates)
    assert recovered.kept[0].tolist() == [0, 1, 4, 5, 6, 7, 9]
    assert torch.equal(recovered.tokens[0, 0], torch.full((CHANNELS,), 7.0))


def test_omission_says_when_a_batch_lost_unequally():
    tokens, received, rates = some_lost()
    received[1, 5] = False
    with pytest.raises(ValueError, match=r'\[7, 6, 7\]'):
        Omission(torch.zeros(TOKENS, CHANNELS), PREFIX, GRID).recover(tokens, received, rates)


def test_interpolation_of_a_constant_field_is_that_field():
    grid, generator = (7, 9), torch.Generator().manual_seed(0)
    method = Interpolation(torch.full((63, 4), 7.0), 0, grid)
    tokens = torch.randn(20, 1, 4, generator=generator).expand(-1, 63, -1)
    received = torch.rand(20, 63, generator=generator) < torch.linspace(0.03, 0.9, 20)[:, None]
    received[:, 40] = True
    recovered = method.recover(tokens, received, torch.zeros(20))
    torch.testing.assert_close(recovered.tokens, tokens, rtol=0, atol=2e-6)


def test_interpolation_prefers_what_is_near_and_knows_nothing_without_patches():
    method = Interpolation(torch.full((TOKENS, CHANNELS), 7.0), PREFIX, GRID)
    tokens = torch.zeros(2, TOKENS, CHANNELS)
    tokens[:, PREFIX + 8] = 1.0                 # the last corner; the first has 0
    received = torch.zeros(2, TOKENS, dtype=torch.bool)
    received[0, [0, PREFIX, PREFIX + 8]] = True
    first, second = method.recover(tokens, received, torch.zeros(2)).tokens[:, :, 0]
    assert first[PREFIX + 1] < 0.1 and first[PREFIX + 7] > 0.9
    assert first[PREFIX + 4] == pytest.approx(0.5)
    assert (second == 7).all()


def test_paldn_uses_the_rate():
    network = learned('paldn')
    tokens, received, _ = some_lost(1)
    low, high = (network.recover(tokens, received, torch.tensor([rate])).tokens for rate in (0.1, 0.9))
    assert not torch.allclose(low[~received], high[~received], atol=1e-4)


def test_linear_completion_is_ridge_regression():
    network = LinearCompletion(SEQUENCE)
    training = smooth_fields(200).double()
    fit_closed_form(network, training.float())
    tokens, received, rates = smooth_fields(1, seed=9), torch.ones(1, TOKENS, dtype=torch.bool), torch.zeros(1)
    received[0, [0, 2, 3, 7]] = False
    recovered = network.recover(tokens, received, rates).tokens[0]

    mean = training.mean(0).numpy()
    scale = np.sqrt(np.square(training.numpy() - mean).mean((0, 1)))
    samples = ((training.numpy() - mean) / scale).transpose(0, 2, 1).reshape(-1, TOKENS)    # one for each image and channel
    here, gone = received[0].numpy(), ~received[0].numpy()
    gram = samples[:, here].T @ samples[:, here] / len(samples) + float(network.ridge) * np.eye(here.sum())
    weights = np.linalg.solve(gram, samples[:, here].T @ samples[:, gone] / len(samples))
    expected = (weights.T @ ((tokens[0].numpy() - mean) / scale)[here]) * scale + mean[gone]
    np.testing.assert_allclose(recovered[gone].numpy(), expected, atol=1e-4)


def test_on_smooth_fields_linear_completion_is_better_than_interpolation_and_that_than_the_mean():
    network = LinearCompletion(SEQUENCE)
    fit_closed_form(network, smooth_fields(500))
    tokens = smooth_fields(200, seed=5)
    received = torch.rand(200, TOKENS, generator=torch.Generator().manual_seed(0)) > 0.5
    received[:, 0], received[:, 5] = True, True
    blank = torch.zeros(TOKENS, CHANNELS)
    errors = [float((method.recover(tokens, received, torch.zeros(200)).tokens - tokens).square().mean())
              for method in (network, METHODS['interpolation'](blank, PREFIX, GRID), METHODS['mean'](blank, PREFIX, GRID))]
    assert errors[0] < errors[1] < errors[2]
    assert errors[0] < 0.5 * errors[2]


def test_the_surrogate_is_one_vector_at_every_patch_over_the_place_s_mean():
    network = learned('surrogate')
    tokens, received, rates = some_lost(1)
    received[0, 0] = False
    recovered = network.recover(tokens, received, rates).tokens[0]
    offsets = (recovered - network.mean) / network.scale
    torch.testing.assert_close(offsets[[2, 3, 8]], network.surrogate[-1].detach().expand(3, -1))
    torch.testing.assert_close(offsets[0], network.surrogate[0].detach())


@pytest.mark.parametrize('name', ['srcnn', 'edsr'])
def test_a_convolution_starts_from_the_mean_and_learns_from_neighbours(name):
    tokens, received, rates = some_lost(1)
    fresh = LEARNED[name](SEQUENCE, width=8)
    fit_closed_form(fresh, smooth_fields(50))
    assert torch.equal(fresh.recover(tokens, received, rates).tokens[~received], fresh.mean[~received[0]])
    network, moved = learned(name), tokens.clone()
    moved[0, 1] += 1.0
    first, second = (network.recover(values, received, rates).tokens[0, 2] for values in (tokens, moved))
    assert not torch.allclose(first, second, atol=1e-4)


@pytest.mark.parametrize('name', LEARNED)
@pytest.mark.parametrize('sequence', [Sequence((7, 7), 1, 192), Sequence((8, 8), 0, 192), Sequence((14, 14), 1, 192)],
                         ids=lambda sequence: f'{sequence.grid[0]}x{sequence.grid[1]}')
@pytest.mark.parametrize('blocks', [1, 3, 8])
def test_a_recovery_keeps_to_its_budget_and_uses_it(name, sequence, blocks):
    n, d = sequence.tokens, sequence.channels
    budget = 0.1 * blocks * (12 * n * d**2 + 2 * n**2 * d)
    if name in ('linear', 'paldn') and LinearCompletion(sequence).multiply_adds() > 0.9 * budget:
        pytest.skip('a tail of one block is too little for a closed form over so many tokens')
    network = sized(LEARNED[name], sequence, budget)
    assert network.multiply_adds() <= budget
    if name in ('srcnn', 'edsr', 'paldn'):
        assert network.multiply_adds() > 0.3 * budget
        assert network.options['width'] % 8 == 0 or network.options['width'] < 8
        wider = {**network.options, 'width': network.options['width'] + 8}
        assert type(network)(sequence, **wider).multiply_adds() > budget


def test_too_small_a_budget_gives_the_smallest():
    sequence = Sequence((7, 7), 1, 192)
    paldn = sized(Paldn, sequence, 0)
    assert (paldn.options['width'], paldn.options['depth'], paldn.options['heads']) == (16, 1, 4)
    assert sized(LEARNED['srcnn'], sequence, 0).options['width'] == sized(LEARNED['edsr'], sequence, 0).options['width'] == 1


@pytest.mark.parametrize('architecture, arguments', [
    ('vit_tiny_patch16_224', {}), ('deit_tiny_distilled_patch16_224', {}), ('vit_medium_patch16_gap_240', {}),
    ('vit_base_patch16_siglip_224', {'num_classes': 7}), ('vit_little_patch16_reg4_gap_256', {}),
    ('vit_small_patch16_dinov3', {'num_classes': 7}), ('beit_base_patch16_224', {}), ('cait_xxs24_224', {'depth_token_only': 1})])
@pytest.mark.parametrize('cut', [0, 2, 4])
def test_a_tuned_tail_holds_the_tail_and_leaves_the_model_as_it_was(architecture, arguments, cut):
    module = build_model(ModelSpec(architecture, random_seed=3, model_kwargs={
        'embed_dim': 48, 'depth': 4, 'num_heads': 3, 'img_size': 64, **arguments})).module.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    original = SplitModel(module, cut)
    network = TunedTail(Sequence(original.grid, original.prefix_tokens, 48))
    network.attach(original)
    tokens, received = torch.randn(2, original.tokens, 48), torch.rand(2, original.tokens) > 0.5
    recovered = network(tokens, received, torch.ones(2))
    answer_before = recovered.tail.tail(recovered.tokens)
    torch.testing.assert_close(answer_before, original.tail(recovered.tokens))      # untrained, it is the same tail
    answer_before.square().sum().backward()
    unused = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert unused == []
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert not torch.allclose(network(tokens, received, torch.ones(2)).tail.tail(recovered.tokens), answer_before, atol=1e-3)


@pytest.mark.parametrize('kind', [LinearCompletion, Paldn])
@pytest.mark.parametrize('certainty', [True, False])
@pytest.mark.parametrize('lost', [[0], [3, 4, 5], [0, 2, 3, 4, 5, 6, 7, 8, 9], [1, 9]])
def test_a_frame_alone_is_recovered_as_in_a_batch(kind, certainty, lost):
    torch.manual_seed(3)
    sequence = Sequence((3, 3), 1, CHANNELS)
    network = kind(sequence, width=16, depth=2, heads=2, certainty=certainty) if kind is Paldn else kind(sequence)
    fit_closed_form(network, torch.randn(200, TOKENS, CHANNELS) + torch.randn(200, 1, CHANNELS))
    for parameter in network.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    tokens, received = torch.randn(2, TOKENS, CHANNELS), torch.ones(2, TOKENS, dtype=torch.bool)
    received[:, lost] = False
    rates = torch.tensor([0.4, 0.7])
    batch = network.eval().recover(tokens, received, rates)
    for index in range(2):
        alone = network.recover(tokens[index:index + 1], received[index:index + 1], rates[index:index + 1])
        torch.testing.assert_close(alone.tokens[0], batch.tokens[index], atol=1e-4, rtol=1e-4)
        if batch.key_bias is None:
            assert alone.key_bias is None
        else:
            torch.testing.assert_close(alone.key_bias[0], batch.key_bias[index], atol=1e-4, rtol=1e-4)


def test_a_network_whose_weights_change_recovers_by_the_new_ones():
    network, other = learned('paldn'), learned('paldn')
    for parameter in other.parameters():
        parameter.data.add_(0.1)
    tokens, received, rates = some_lost(1)
    before = network.recover(tokens, received, rates).tokens
    network.load_state_dict(other.state_dict())
    torch.testing.assert_close(network.recover(tokens, received, rates).tokens, other.recover(tokens, received, rates).tokens)
    network.load_state_dict(learned('paldn').state_dict())
    network.train()
    for parameter in network.parameters():
        parameter.data.add_(0.1)
    trained = network.recover(tokens, received, rates).tokens
    torch.testing.assert_close(trained, other.recover(tokens, received, rates).tokens)
    assert not torch.allclose(trained, before, atol=1e-4)
