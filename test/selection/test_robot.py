"""The robot's half, from model folders; what does not fit together is refused with both values."""

import json

import numpy as np
import pytest
from small_pair import LIGHT, write_model

from evitif.model.errors import ArtifactError
from evitif.selection import Selection, Selector, load_selection, require_same_classes
from evitif.selection.artifact import FILE


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_an_unsure_robot_sends_the_patches_that_matter(pair):
    selector = Selector.load(str(pair[0]))
    decision = selector.decide(picture())
    assert not decision.sure and decision.patches.shape == (16, 192)
    assert decision.glance.probabilities.sum() == pytest.approx(1) and decision.glance.scores.sum() == pytest.approx(1)
    assert 1 <= len(decision.chosen) < 16
    fewer = selector.decide(picture(), budget_patches=2)
    assert np.array_equal(fewer.chosen, decision.chosen[:2])
    assert np.array_equal(selector.decide(picture(), budget_patches=16).chosen, decision.chosen)


def test_a_sure_robot_sends_nothing(pair):
    decision = Selector.load(str(pair[0]), eta=2.0).decide(picture())
    assert decision.sure and decision.patches is None and not len(decision.chosen)


def test_the_light_models_answer_is_a_prior(pair):
    selector = Selector.load(str(pair[0]))
    glance = selector.decide(picture()).glance
    ids, scores = np.array([2, 0, 1]), np.array([0.5, 0.3, 0.1])
    assert selector.fuse(glance, ids, scores)[0].tolist() == [2, 0, 1]
    selector.settings = Selection(classes=4, delta=0.5, eta=0.0, prior_weight=10.0)
    fused_ids, fused = selector.fuse(glance, ids, scores)
    assert fused_ids[0] == ids[glance.probabilities[ids].argmax()] and np.all(np.diff(fused) <= 0)


@pytest.mark.parametrize('change, message', [
    ({'delta': 1.5}, 'delta is 1.5: expected a share of the scores from 0 to 1'), ({'eta': 2.5}, 'eta is 2.5: expected 0 to 2'),
    ({'score_rule': 'x'}, "score rule 'x' is unknown"), ({'gate_rule': 'x'}, "gate rule 'x' is unknown"),
    ({'temperature': 0}, 'temperature is 0'), ({'prior_weight': -1}, 'prior_weight is -1'),
    ({'quantisation': 'int8'}, "'int8': expected one of klt2")])
def test_settings_out_of_range(pair, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        Selection(**{'classes': 4, 'delta': 0.5, 'eta': 0.5, **change})
    content = json.loads((pair[0] / FILE).read_text())
    content['settings'].update(change)
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=message):
        load_selection(tmp_path / FILE)


def test_a_users_own_thresholds_are_checked(pair):
    for own, message in (({'delta': -1}, 'delta is -1'), ({'eta': 3}, 'eta is 3: expected 0 to 2')):
        with pytest.raises(ValueError, match=message):
            Selector.load(str(pair[0]), **own)


def test_an_artifact_for_another_model_is_refused_with_both_values(pair, tmp_path):
    artifact = load_selection(pair[0] / FILE)
    for wrong, own in ((('f' * 64, None), artifact.light_fingerprint), ((None, 'f' * 64), artifact.large_fingerprint)):
        with pytest.raises(ArtifactError, match=f'fingerprint {own[:16]}…, this model has ffffffff'):
            load_selection(pair[0] / FILE, *wrong)
    other = write_model(tmp_path / 'other', LIGHT, 77)
    (other / FILE).write_text((pair[0] / FILE).read_text())
    with pytest.raises(ArtifactError, match='made for the model .*light.* with fingerprint .* this model has'):
        Selector.load(str(other))
    with pytest.raises(ArtifactError, match='has no selection.json: .*evitif calibrate --light'):
        Selector.load(str(pair[1]))


def test_other_classes_are_refused_with_both_values():
    require_same_classes('s', ('a', 'b'), 'l', ('a', 'b'))
    with pytest.raises(ArtifactError, match="'s' and the large model 'l' have 2 classes and 3 classes"):
        require_same_classes('s', ('a', 'b'), 'l', ('a', 'b', 'c'))
    with pytest.raises(ArtifactError, match="as class 1 'b' and 'c'"):
        require_same_classes('s', ('a', 'b'), 'l', ('a', 'c'))


@pytest.mark.parametrize('text', ['{', '[]', '{"format": 1, "kind": "paldn"}', '{"format": 1, "kind": "selection"}'])
def test_a_file_that_is_none(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ArtifactError, match='selection artifact .*selection.json: '):
        load_selection(tmp_path / FILE)
