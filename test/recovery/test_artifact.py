"""An artifact works with the model that it was trained for, and with no other."""

import copy
import json

import pytest
import torch

from evitif.model.build import ModelSpec, build_model
from evitif.model.split import SplitModel
from evitif.recovery import ArtifactError, Paldn, Sequence, load_recovery, save_recovery
from evitif_lab.baselines import LEARNED
from evitif_lab.trials.closed_form import fit_closed_form

FINGERPRINT = 'ab' * 32
OPTIONS = {'paldn': {'width': 8, 'depth': 1, 'heads': 2}, 'srcnn': {'width': 8}, 'edsr': {'width': 8}}


def split(cut: int = 3, prefix_tokens: int = 1) -> SplitModel:
    arguments = {'embed_dim': 6, 'depth': 4, 'num_heads': 2, 'img_size': 32, 'num_classes': 5}
    if prefix_tokens == 0:
        arguments.update(class_token=False, global_pool='avg')
    return SplitModel(build_model(ModelSpec('vit_tiny_patch16_224', random_seed=0, model_kwargs=arguments)).module, cut)


def network_for(model: SplitModel, kind: str):
    torch.manual_seed(0)
    network = LEARNED[kind](Sequence(model.grid, model.prefix_tokens, model.channels), **OPTIONS.get(kind, {}))
    network.attach(model)
    fit_closed_form(network, torch.randn(20, model.tokens, model.channels))
    for parameter in network.parameters():
        parameter.data.add_(torch.randn(parameter.shape))
        parameter.data.copy_(parameter.half())          # what can be written
    return network.eval()


def save(folder, kind: str = 'paldn', model: SplitModel | None = None):
    network = network_for(model or split(), kind)
    path = folder / f'{kind}-cut3.json'
    save_recovery(path, network, {'model': 'm', 'fingerprint': FINGERPRINT, 'cut': 3, 'loss_range': [0.1, 0.9]})
    return path, network


@pytest.mark.parametrize('prefix_tokens', [0, 1])
@pytest.mark.parametrize('kind', LEARNED)
@torch.no_grad()
def test_what_was_saved_is_loaded(tmp_path, kind, prefix_tokens):
    model = split(prefix_tokens=prefix_tokens)
    path, network = save(tmp_path, kind, model)
    loaded, description = load_recovery(path, FINGERPRINT, model)
    assert description['loss_range'] == [0.1, 0.9]
    assert type(loaded) is LEARNED[kind] and not loaded.training
    tokens, received = torch.randn(2, model.tokens, 6), torch.tensor([[1, 0, 1, 1, 0]] * 2).bool()[:, :model.tokens]
    first, second = (n.recover(tokens, received, torch.ones(2)) for n in (loaded, network))
    assert torch.equal(first.tokens, second.tokens)
    assert (first.key_bias is None) == (second.key_bias is None) == (kind != 'paldn')
    logits = [(recovered.tail or model).tail(recovered.tokens, key_bias=recovered.key_bias) for recovered in (first, second)]
    assert torch.equal(*logits)


@torch.no_grad()
def test_a_tuned_tail_on_disk_is_the_tail_and_the_surrogate(tmp_path):
    from safetensors import safe_open
    model = split()
    path, network = save(tmp_path, 'tuned-tail', model)
    with safe_open(path.with_suffix('.safetensors'), 'pt') as file:
        names = {name.removeprefix('tuned.') for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    of_tail = {name for name in model.module.state_dict() if name.startswith(('blocks.3.', 'norm.', 'fc_norm.', 'head.'))}
    assert names == {'mean', 'scale', 'surrogate', *of_tail}
    loaded, _ = load_recovery(path, FINGERPRINT, model)
    tokens, received = torch.randn(2, 5, 6), torch.tensor([[1, 0, 1, 1, 0]] * 2).bool()
    recovered = loaded.recover(tokens, received, torch.ones(2))
    assert not torch.allclose(recovered.tail.tail(recovered.tokens), model.tail(recovered.tokens), atol=1e-2)
    twin = copy.deepcopy(loaded)        # as the moving average of a training is
    for parameter in twin.parameters():
        parameter.data.zero_()
    assert (twin(tokens, received, torch.ones(2)).tail.tail(tokens) == 0).all()
    assert torch.equal(loaded(tokens, received, torch.ones(2)).tail.tail(tokens), recovered.tail.tail(tokens))


def test_a_tuned_tail_without_a_model_says_so():
    with pytest.raises(RuntimeError, match='attached'):
        LEARNED['tuned-tail'](Sequence((2, 2), 1, 6)).recover(torch.zeros(1, 5, 6), torch.zeros(1, 5).bool(), torch.ones(1))


@pytest.mark.parametrize('fingerprint, cut, expected', [
    ('cd' * 32, 3, "made for the model 'm' with fingerprint abab.*, this model has cdcd"),
    (FINGERPRINT, 2, 'trained for cut 3, the model is cut after block 2')])
def test_another_model_or_cut_is_refused_with_both_values(tmp_path, fingerprint, cut, expected):
    path, _ = save(tmp_path)
    with pytest.raises(ArtifactError, match=expected):
        load_recovery(path, fingerprint, split(cut))


def changed(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize('spoil', [
    lambda path: path.unlink(),
    lambda path: path.write_text('['),
    lambda path: path.write_text('[]'),
    lambda path: path.with_suffix('.safetensors').unlink(),
    lambda path: path.with_suffix('.safetensors').write_bytes(b'no'),
    lambda path: changed(path, format=1),
    lambda path: changed(path, kind='alchemy'),
    lambda path: changed(path, kind='linear'),
    lambda path: changed(path, sequence={'tokens': 5}),
    lambda path: changed(path, sequence={'grid': [2, 3], 'prefix_tokens': 1, 'channels': 6}),
    lambda path: changed(path, options={'width': 9, 'heads': 2}),
    lambda path: changed(path, options={'width': 16, 'depth': 1, 'heads': 2}),
])
def test_a_broken_artifact_is_named(tmp_path, spoil):
    path, network = save(tmp_path)
    assert isinstance(network, Paldn)
    spoil(path)
    with pytest.raises(ArtifactError, match='paldn-cut3'):
        load_recovery(path, FINGERPRINT, split())
