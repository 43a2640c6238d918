"""Training a recovery: the same by pieces as at once, for every method, with or without room for all tokens."""

import json

import pytest
import torch
from safetensors.torch import load_file

from evitif_cli import main
from evitif_lab.training import recovery, token_cache


def train(small, output, *more):
    return main(['train', 'recovery', '--model', str(small / 'model'), '--data', str(small / 'images'), '--output',
                 str(output), '--batch-size', '8', '--budget', '0.5', '--no-code', *more])


def test_every_method_at_two_cuts_by_one_command(small, tmp_path, capsys):
    methods = ['surrogate', 'linear', 'srcnn', 'edsr', 'paldn', 'tuned-tail']
    assert train(small, tmp_path, '--cut', '1', '2', '--method', *methods, '--steps', '3') == 0
    for method in methods:
        for cut in (1, 2):
            description = json.loads((tmp_path / f'{method}-cut{cut}.json').read_text())
            assert (description['kind'], description['cut'], description['images']) == (method, cut, 20)
            assert description['made_by']['configuration']['method'] == method
    assert 'tuned-tail for model at cut 2' in capsys.readouterr().out
    before = (tmp_path / 'paldn-cut1.safetensors').stat().st_mtime_ns
    assert train(small, tmp_path, '--cut', '1', '2', '--method', *methods, '--steps', '3') == 0
    assert 'is there already' in capsys.readouterr().out
    assert (tmp_path / 'paldn-cut1.safetensors').stat().st_mtime_ns == before


def test_an_interrupted_training_goes_on(small, tmp_path, monkeypatch, capsys):
    assert train(small, tmp_path / 'whole', '--cut', '2', '--steps', '520') == 0
    losses, calls = recovery.recovery_losses, []

    def interrupted(step, *rest):
        calls.append(step)
        if step == 510 and calls.count(510) == 1:
            raise KeyboardInterrupt
        return losses(step, *rest)
    monkeypatch.setattr(recovery, 'recovery_losses', interrupted)
    assert train(small, tmp_path / 'parts', '--cut', '2', '--steps', '520') == 130
    assert train(small, tmp_path / 'parts', '--cut', '2', '--steps', '520') == 0
    assert calls.count(499) == 1 and calls.count(500) == 2
    whole, parts = (load_file(tmp_path / name / 'paldn-cut2.safetensors') for name in ('whole', 'parts'))
    for name, tensor in whole.items():
        torch.testing.assert_close(tensor, parts[name])
    assert not (tmp_path / 'parts' / 'paldn-cut2').exists()


def test_without_room_for_the_tokens_they_are_computed_as_they_are_drawn(small, tmp_path, monkeypatch, capsys):
    assert train(small, tmp_path / 'kept', '--cut', '2', '--steps', '3') == 0
    monkeypatch.setattr(token_cache, 'fits', lambda needed: False)
    assert train(small, tmp_path / 'drawn', '--cut', '2', '--steps', '3') == 0
    assert 'they are computed at every step instead' in capsys.readouterr().out
    kept, drawn = (load_file(tmp_path / name / 'paldn-cut2.safetensors') for name in ('kept', 'drawn'))
    for name, tensor in kept.items():
        torch.testing.assert_close(tensor.float(), drawn[name].float(), atol=5e-3, rtol=5e-2)    # kept as fp16


@pytest.mark.parametrize('arguments, expected', [
    (['--method', 'magic'], "'magic' is unknown (expected some of surrogate, linear"),
    (['--cut', '9'], 'cut 9 is out of range'),
    (['--initial', 'paldn.json'], 'initial is given, but method is paldn and memory_steps 0'),
    (['--views', '2', '2'], 'one number for each of the 1 data sets')])
def test_a_mistake_ends_in_one_sentence(small, tmp_path, capsys, arguments, expected):
    assert train(small, tmp_path, '--steps', '3', *arguments) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('evitif: ') and expected in error


def test_a_memory_is_added_to_a_paldn_that_there_is_and_changes_nothing_without_one(small, tmp_path):
    assert train(small, tmp_path / 'still', '--cut', '2', '--steps', '3', '--memory-steps', '0') == 0
    first = tmp_path / 'still' / 'paldn-cut2.json'
    more = ['--cut', '2', '--initial', str(first), '--memory-steps', '3', '--videos', '6']
    assert train(small, tmp_path / 'both', *more) == 0
    description = json.loads((tmp_path / 'both' / 'paldn-cut2.json').read_text())
    assert description['options']['memory'] and not json.loads(first.read_text())['options']['memory']
    assert description['initial']['images'] == 20
    still, both = (load_file(tmp_path / folder / 'paldn-cut2.safetensors') for folder in ('still', 'both'))
    for name, tensor in still.items():
        assert name == 'chance' or torch.equal(tensor, both[name])
    moved = [name for name in both if name.startswith('moving.') and 'restore' in name]
    assert any(both[name].abs().max() > 0 for name in moved)


def test_an_interrupted_memory_goes_on(small, tmp_path, monkeypatch):
    arguments = ['--cut', '2', '--steps', '3', '--memory-steps', '8', '--videos', '4']
    monkeypatch.setattr(recovery, 'MEMORY_SAVED_EVERY', 5)
    assert train(small, tmp_path / 'whole', *arguments) == 0
    losses, calls, stills = recovery.memory_losses, [], []

    def interrupted(step, *rest):
        calls.append(step)
        if step == 6 and calls.count(6) == 1:
            raise KeyboardInterrupt
        return losses(step, *rest)
    monkeypatch.setattr(recovery, 'memory_losses', interrupted)
    own = recovery.recovery_losses
    monkeypatch.setattr(recovery, 'recovery_losses', lambda step, *rest: stills.append(step) or own(step, *rest))
    assert train(small, tmp_path / 'parts', *arguments) == 130
    assert train(small, tmp_path / 'parts', *arguments) == 0
    assert (calls.count(4), calls.count(5), len(stills)) == (1, 2, 3)
    whole, parts = (load_file(tmp_path / name / 'paldn-cut2.safetensors') for name in ('whole', 'parts'))
    for name, tensor in whole.items():
        torch.testing.assert_close(tensor, parts[name])
    assert not (tmp_path / 'parts' / 'paldn-cut2').exists()
