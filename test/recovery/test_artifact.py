"""An artifact works with the model that it was trained for, and with no other."""

import json

import pytest
import torch

from evitif.recovery import ArtifactError, Paldn, load_paldn, save_paldn
from evitif.recovery.paldn import PaldnShape

FINGERPRINT = 'ab' * 32


def save(folder):
    network = Paldn(PaldnShape(5, 1, 6, width=8, depth=1, heads=2)).eval()
    path = folder / 'paldn-cut3.json'
    save_paldn(path, network, {'model': 'm', 'fingerprint': FINGERPRINT, 'cut': 3, 'loss_range': [0.1, 0.9]})
    return path, network


def test_what_was_saved_is_loaded(tmp_path):
    path, network = save(tmp_path)
    loaded, description = load_paldn(path, FINGERPRINT, 3)
    assert description['loss_range'] == [0.1, 0.9]
    tokens, received = torch.randn(2, 5, 6), torch.tensor([[1, 0, 1, 1, 0]] * 2).bool()
    assert torch.equal(loaded(tokens, received, torch.ones(2)), network(tokens, received, torch.ones(2)))


@pytest.mark.parametrize('fingerprint, cut, expected', [
    ('cd' * 32, 3, "trained for the model 'm' with fingerprint abab.*, this model has cdcd"),
    (FINGERPRINT, 2, 'trained for cut 3, the model is cut after block 2')])
def test_another_model_or_cut_is_refused_with_both_values(tmp_path, fingerprint, cut, expected):
    path, _ = save(tmp_path)
    with pytest.raises(ArtifactError, match=expected):
        load_paldn(path, fingerprint, cut)


@pytest.mark.parametrize('spoil', [
    lambda path: path.unlink(),
    lambda path: path.write_text('['),
    lambda path: path.write_text('[]'),
    lambda path: path.with_suffix('.safetensors').unlink(),
    lambda path: path.with_suffix('.safetensors').write_bytes(b'no'),
    lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), 'shape': {'tokens': 5}})),
    lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), 'shape': {
        **json.loads(path.read_text())['shape'], 'width': 10}})),
])
def test_a_broken_artifact_is_named(tmp_path, spoil):
    path, _ = save(tmp_path)
    spoil(path)
    with pytest.raises(ArtifactError, match='paldn-cut3'):
        load_paldn(path, FINGERPRINT, 3)
