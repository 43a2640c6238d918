"""The bridge takes the recovery that was asked for, says which, and refuses what cannot work in one sentence."""

import re

import pytest
import torch

from evitif.pipeline.cut_model import CutModel
from evitif.pipeline.split_bridge import SplitBridge, choose_recovery
from evitif.recovery import METHODS, ArtifactError
from evitif.recovery.artifact import LEARNED as KNOWN
from evitif.settings import RecoverySettings, bridge_settings, settings_of
from evitif_lab.baselines import LEARNED


@pytest.mark.parametrize('name', [*METHODS, *LEARNED])
def test_every_name_is_found_and_answers(folder, train, name):
    if name in LEARNED:
        train(name)
    pipeline = SplitBridge(bridge_settings(model=str(folder), cut=1, recovery=name))
    assert pipeline.recovery.name == name
    outcomes = []
    pipeline.answer_batch, answer_batch = lambda frames: outcomes.extend(answer_batch(frames)), pipeline.answer_batch
    assert pipeline.warm_up() == 1
    assert outcomes[0].recovery == ('omission' if name == 'memory' else name)      # nothing is remembered yet
    assert sum(outcomes[0].scores) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize('name', LEARNED)
def test_what_was_not_trained_is_refused(folder, train, name):
    config = bridge_settings(model=str(folder), cut=1, recovery=name)
    with pytest.raises(ArtifactError, match=f'recovery {name} .* none was trained for .* at cut 1: .*--method {name}'):
        choose_recovery(config, CutModel.load(config))


@pytest.mark.parametrize('name', ['surrogate', 'srcnn', 'edsr', 'tuned-tail'])
def test_a_bridge_without_the_laboratory_says_that_a_baseline_is_one(folder, train, monkeypatch, name):
    path = train(name)
    for kind in ('surrogate', 'srcnn', 'edsr', 'tuned-tail'):
        monkeypatch.delitem(KNOWN, kind)
    stream = CutModel.load(bridge_settings(model=str(folder), cut=1))
    for asked in ({'recovery': name}, {'recovery_artifact': str(path)}):
        with pytest.raises(ArtifactError, match=f'recovery {name} is a baseline for `evitif evaluate recovery` .* expected auto or one of '
                                                'zero, mean, omission, interpolation, memory, paldn, linear$'):
            choose_recovery(bridge_settings(model=str(folder), cut=1, **asked), stream)


def test_the_parameter_says_which_words_are_no_use_to_a_bridge():
    (recovery,) = (each for each in settings_of(RecoverySettings) if each.name == 'recovery')
    told = recovery.description.rpartition('; ')[2]
    assert set(re.findall(r'[\w-]+', told)) & set(recovery.choices) == set(LEARNED) - {'paldn', 'linear'}


def test_auto_is_paldn_where_there_is_one_and_what_an_artifact_says(folder, train):
    auto = bridge_settings(model=str(folder), cut=1)
    stream = CutModel.load(auto)
    linear = train('linear')
    assert choose_recovery(auto, stream)[0].name == 'memory'
    assert choose_recovery(bridge_settings(model=str(folder), cut=1, memory_limit=0), stream)[0].name == 'omission'
    train('paldn')
    recovery, note = choose_recovery(auto, stream)
    assert recovery.name == 'paldn' and 'trained for 5 to 95 % loss' in note
    named = bridge_settings(model=str(folder), cut=1, recovery_artifact=str(linear))
    assert choose_recovery(named, stream)[0].name == 'linear'


def test_an_artifact_of_another_kind_is_refused_with_both(folder, train):
    config = bridge_settings(model=str(folder), cut=1, recovery='paldn', recovery_artifact=str(train('linear')))
    with pytest.raises(ArtifactError, match="of the kind linear, but recovery is 'paldn'"):
        choose_recovery(config, CutModel.load(config))


def test_certainties_need_a_tail_that_takes_them(folder, train, monkeypatch):
    config = bridge_settings(model=str(folder), cut=1)
    stream = CutModel.load(config)
    monkeypatch.setattr(type(stream.split), 'takes_key_bias', False)
    train('paldn', width=16)
    with pytest.raises(ArtifactError, match='take no bias on a token: set recovery to omission'):
        choose_recovery(config, stream)
    train('paldn', width=16, certainty=False)
    assert choose_recovery(config, stream)[0].name == 'paldn'


def test_the_tail_of_a_recovery_goes_on_and_its_certainties_arrive(folder, train):
    train('tuned-tail')
    train('paldn', width=16)
    for name in ('tuned-tail', 'paldn'):
        config = bridge_settings(model=str(folder), cut=1, recovery=name)
        stream = CutModel.load(config)
        recovery, _ = choose_recovery(config, stream)
        tokens, received = torch.randn(1, 10, 24), torch.tensor([[True, False] * 5])
        recovered = recovery.recover(tokens, received, torch.tensor([0.5]))
        assert abs(stream.tail(recovered) - stream.tail(recovered.tokens)).max() > 1e-5


def test_what_ships_for_other_weights_of_an_architecture_is_passed_over(folder, train, tmp_path, monkeypatch):
    shipped = tmp_path / 'artifacts' / 'vit_tiny_patch16_224.augreg_in21k_ft_in1k'
    shipped.mkdir(parents=True)
    for path in (train('paldn'), train('paldn').with_suffix('.safetensors')):
        (shipped / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    config = bridge_settings(model='vit_tiny_patch16_224', random_seed=1, cut=1)
    stream = CutModel.load(config)
    recovery, note = choose_recovery(config, stream)
    assert recovery.name == 'memory'
    assert 'fingerprint' in note and 'recovery by the last known tokens' in note
    with pytest.raises(ArtifactError, match='fingerprint'):
        choose_recovery(bridge_settings(model='vit_tiny_patch16_224', random_seed=1, cut=1, recovery='paldn'), stream)
