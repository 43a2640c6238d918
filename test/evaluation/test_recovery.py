"""Accuracy over loss: what is written, what is gone on with, and what the methods are told."""

import json

import pytest
import torch

from evitif_cli import main
from evitif_lab.evaluation import recovery
from evitif_lab.evaluation.recovery import Measurement, RecoveryEvaluation, evaluate_recovery, recovered_logits
from evitif_lab.evaluation.report import _apart, plot

BASELINES = ['zero', 'mean', 'omission', 'interpolation']
FIGURES = ('top1_uncut', 'top1_lossless', 'top1', 'packets_lost', 'frames_unanswerable')


def evaluate(shipped, **more) -> dict:
    return evaluate_recovery(RecoveryEvaluation(**{'model': shipped.model, 'data': shipped.images, 'cut': 1, **more}))


@pytest.mark.parametrize('pattern', ['iid', 'burst', 'drift'])
def test_figures_table_and_plot_are_written(shipped, tmp_path, capsys, pattern):
    report = tmp_path / 'out' / 'figures.json'
    assert main(['evaluate', 'recovery', '--model', shipped.model, '--data', shipped.images, '--cut', '1', '--loss', '0', '0.6',
                 '--pattern', pattern, '--seeds', '2', '--json', str(report)]) == 0
    result = json.loads(report.read_text())
    assert result['images'] == 60 and result['pattern'] == pattern
    assert result['burst'] == (8 if pattern == 'burst' else 1)
    assert list(result['top1']) == [*BASELINES, 'linear', 'paldn']
    assert result['top1_uncut'] > 0.7
    for row in result['top1'].values():
        assert row['0']['mean'] == result['top1_lossless'] == pytest.approx(result['top1_uncut'], abs=0.05)
        assert row['0.6']['lost'] == pytest.approx(100 * (result['top1_uncut'] - row['0.6']['mean']))
        assert len(row['0.6']['runs']) == 2 and row['0.6']['interval95'] is not None
    assert result['packets_lost']['0.6'] == pytest.approx(0.38 if pattern == 'drift' else 0.6, abs=0.15)
    assert 17 * 28 < result['bytes_per_frame'] < 10_000
    assert result['torch'] == torch.__version__ and result['threads'] >= 1 and result['seconds'] >= 0
    table = report.with_suffix('.md').read_text()
    assert '| paldn |' in table and '| points lost |' in table and 'evitif evaluate recovery' in table
    assert '| paldn |' in capsys.readouterr().out
    pytest.importorskip('matplotlib')
    assert report.with_suffix('.png').read_bytes().startswith(b'\x89PNG')
    assert sorted(path.name for path in report.parent.iterdir()) == ['figures.json', 'figures.md', 'figures.png']


def test_without_matplotlib_a_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    assert 'no plot was drawn' in plot({}, tmp_path / 'x.png')
    assert not (tmp_path / 'x.png').exists()


def test_the_names_beside_the_lines_do_not_overlap():
    assert _apart([1.0, 5.0, 9.0], 2) == [1, 5, 9]
    assert _apart([4.0, 5.0, 5.0, 20.0], 2) == pytest.approx([8 / 3, 14 / 3, 20 / 3, 20])


def test_figures_of_another_measurement_are_not_replaced_without_a_word(shipped, tmp_path, capsys):
    path = tmp_path / 'figures.json'
    for seeds, told in ((1, False), (1, False), (2, True)):
        evaluate(shipped, loss=(0.5,), methods=('omission',), seeds=seeds, json=str(path))
        assert (f'{path} will be replaced: it is of another measurement (seeds: 1 there, 2 now)' in capsys.readouterr().out) is told


def test_an_interrupted_measurement_goes_on_with_equal_figures(shipped, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recovery, 'CHUNK', 25)
    more = {'loss': (0.5,), 'methods': ('omission', 'paldn'), 'pattern': 'burst', 'burst': 3.0, 'seeds': 2}
    whole = evaluate(shipped, **more)
    load, calls = recovery._load, []

    def interrupted(*values):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return load(*values)
    monkeypatch.setattr(recovery, '_load', interrupted)
    path = tmp_path / 'figures.json'
    with pytest.raises(KeyboardInterrupt):
        evaluate(shipped, **more, json=str(path))
    monkeypatch.setattr(recovery, '_load', load)
    assert not path.exists() and json.loads((tmp_path / 'figures.json.partial').read_text())['state']['next'] == 50
    parts = evaluate(shipped, **more, json=str(path))
    assert 'going on from 50' in capsys.readouterr().out
    assert {name: parts[name] for name in FIGURES} == {name: whole[name] for name in FIGURES}
    assert not (tmp_path / 'figures.json.partial').exists()


@pytest.mark.parametrize('partial', ['{"identity": {"cut": 2}, "state": {"next": 50}}', '[1]', 'torn'])
def test_what_another_measurement_left_is_not_gone_on_with(shipped, tmp_path, capsys, partial):
    (tmp_path / 'figures.json.partial').write_text(partial)
    evaluate(shipped, loss=(0.5,), methods=('zero',), images=10, json=str(tmp_path / 'figures.json'))
    assert 'starting afresh' in capsys.readouterr().out


def test_the_identity_changes_with_the_artifact(shipped, tmp_path):
    from pathlib import Path
    from shutil import copy

    from safetensors.torch import load_file, save_file
    configuration = {'model': shipped.model, 'data': shipped.images, 'cut': 1, 'methods': ('paldn',)}
    before = Measurement(RecoveryEvaluation(**configuration)).identity
    copy(Path(shipped.model) / 'paldn-cut1.json', tmp_path / 'other.json')
    weights = load_file(Path(shipped.model) / 'paldn-cut1.safetensors')
    save_file({**weights, 'mean': weights['mean'] + 1}, tmp_path / 'other.safetensors')
    after = Measurement(RecoveryEvaluation(**configuration, recovery_artifact=str(tmp_path / 'other.json'))).identity
    assert {key for key in before if before[key] != after[key]} == {'methods'}


def test_methods_are_told_the_measured_rate(shipped, monkeypatch):
    told = []

    def note(stream, method, tokens, received, measured, lossless):
        told.append(measured)
        return lossless
    monkeypatch.setattr(recovery, 'recovered_logits', note)
    evaluate(shipped, loss=(0.8,), pattern='drift', methods=('zero',))
    assert len(told[0]) == 60 and told[0].unique().numel() > 10
    assert float(told[0][0]) < 0.2


def test_each_image_gets_the_logits_that_it_would_get_alone(shipped):
    measurement = Measurement(RecoveryEvaluation(model=shipped.model, data=shipped.images, cut=1))
    stream = measurement.stream
    tokens = torch.randn(12, stream.parameters.tokens, stream.parameters.channels, generator=torch.Generator().manual_seed(0))
    pattern = measurement.patterns[stream.parameters.quantisation]
    received = pattern.received_tokens(pattern.run(
        torch.linspace(0, 0.9, 12), 1, torch.Generator().manual_seed(0)).arrived)
    assert received[0].all() and not received[-1].all()
    for method in measurement.methods.values():
        together = recovered_logits(stream, method, tokens, received, torch.full((12,), 0.5))
        alone = [recovered_logits(stream, method, tokens[i:i + 1], received[i:i + 1], torch.tensor([0.5])) for i in range(12)]
        assert torch.allclose(together, torch.cat(alone), atol=1e-4)
        assert torch.allclose(together[:1], stream.split.tail(tokens[:1]), atol=1e-4)


@pytest.mark.parametrize(('arguments', 'expected'), [
    (['--methods', 'magic'], "'magic' is unknown (expected some of zero, "),
    (['--methods', 'srcnn'], 'srcnn-cut1.json was looked for; `evitif train recovery --model'),
    (['--pattern', 'burst', '--burst', '0.5'], 'burst is 0.5: expected a mean length of at least 1'),
    (['--pattern', 'iid', '--burst', '4'], 'expected pattern burst'),
    (['--loss', '1'], 'loss 1: expected at least 0 and less than 1'),
    (['--data', 'nowhere/at/all'], "'nowhere/at/all' does not exist"),
    (['--cut', '2', '--methods', 'paldn'], 'paldn-cut2.json was looked for'),
])
def test_a_mistake_ends_in_one_sentence(shipped, arguments, expected, capsys):
    assert main(['evaluate', 'recovery', '--model', shipped.model, '--data', shipped.images, '--cut', '1', *arguments]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('evitif: ') and expected in error


def test_an_artifact_beside_of_other_weights_is_left_out_but_not_where_it_was_asked_for(shipped, tmp_path, capsys):
    from shutil import copytree

    from safetensors.torch import load_file, save_file
    model = copytree(shipped.model, tmp_path / 'other')
    weights = load_file(model / 'model.safetensors')
    save_file({**weights, 'head.bias': weights['head.bias'] + 1}, model / 'model.safetensors')
    arguments = ['evaluate', 'recovery', '--model', str(model), '--data', shipped.images, '--cut', '1', '--images', '5',
                 '--quantisation', 'int8']
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert 'method paldn is left out' in told and '| paldn |' not in told
    assert main([*arguments, '--methods', 'paldn']) == 1


def test_the_recoveries_of_a_timm_model_are_found_by_its_name(tmp_path, monkeypatch):
    from evitif.model.folder import artifact_beside
    folder = tmp_path / 'artifacts' / 'vit_small_patch32_224.augreg_in21k_ft_in1k'
    folder.mkdir(parents=True)
    (folder / 'paldn-cut4.json').write_text('{}')
    monkeypatch.chdir(tmp_path)
    for name in ('vit_small_patch32_224', folder.name):
        assert artifact_beside(name, 4).resolve() == folder / 'paldn-cut4.json'
        assert artifact_beside(name, 5) is None and artifact_beside(name, 4, 'linear') is None
    assert artifact_beside('vit_small_patch32_384', 4) is None
    assert artifact_beside('no_such_model', 4) is None
