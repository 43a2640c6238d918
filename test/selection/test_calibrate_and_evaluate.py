"""`evitif calibrate` and `evitif evaluate selection`, on random models: what they write, and what they refuse."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from small_pair import CLASSES, LIGHT, images, write_model

from evitif.datasets import Sample
from evitif.model.build import ModelSpec
from evitif.protocol.frames.packetiser import packets_of_part
from evitif.protocol.wire.parameters import StreamParameters
from evitif.selection import load_selection
from evitif.selection.artifact import FILE
from evitif.selection.sending import copies_for, packets_for
from evitif_cli import main
from evitif_lab.evaluation.codecs import LOSSLESS, through
from evitif_lab.trials.front import Point, cheapest, pareto
from evitif_lab.trials.selection import Trial
from evitif_lab.trials.wire_bytes import SelectedFrames, answer_bytes, datagrams_with_parity, image_bytes_on_wire


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    for split, count, seed in (('train', 12, 0), ('val', 5, 1)):
        pictures = ((images(count * len(CLASSES), seed) + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy()
        for index, picture in enumerate(pictures):
            path = root / split / CLASSES[index % len(CLASSES)] / f'{index}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    return root


@pytest.fixture(scope='module')
def calibrated(pair, data, tmp_path_factory):
    """A copy of the light model's folder that was calibrated by the command."""
    folder = tmp_path_factory.mktemp('calibrated') / 'light'
    shutil.copytree(pair[0], folder)
    assert main(['calibrate', '--light', str(folder), '--large', str(pair[1]), '--data', str(data), '--held-out', '0.5', '--points', '100',
                 '--delta', '0.3', '0.8', '--quantisation', 'klt1', 'klt2']) == 0
    return folder


def test_calibration_writes_settings_and_expectations(calibrated):
    artifact = load_selection(calibrated / FILE)
    expected = artifact.description['expected']
    assert artifact.settings.delta == expected['delta'] and artifact.settings.quantisation == expected['quantisation']
    assert expected['images'] == 24 and 0 <= expected['top1'] <= 1 and expected['top1'] >= expected['top1_large'] - 1
    assert artifact.description['made_by']['command'].startswith('evitif calibrate --light')
    assert artifact.description['seed'] == 0


def test_calibrating_again_says_what_is_replaced(calibrated, pair, data, tmp_path, capsys):
    arguments = ['calibrate', '--light', str(calibrated), '--large', str(pair[1]), '--data', str(data), '--held-out', '0.5', '--points',
                 '100', '--delta', '0.3', '--quantisation', 'klt1', '--output', str(tmp_path)]
    assert main(arguments) == 0 and 'is replaced' not in capsys.readouterr().out
    assert main(arguments) == 0 and f'{tmp_path / FILE} is replaced\n' in capsys.readouterr().out
    assert main([*arguments, '--seed', '1']) == 0
    assert f'{tmp_path / FILE} is replaced: it is of another calibration (seed: 0 there, 1 now)' in capsys.readouterr().out


@pytest.mark.parametrize('arguments, message', [
    (['--points', '100'], 'left no images for calibration'),
    (['--held-out', '0.5', '--bytes', '1'], 'no setting takes at most 1 bytes for an image: expected at least'),
    (['--held-out', '0.5', '--delta', '0.3', '--quantisation', 'int8'], "quantisation of patches is 'int8'")])
def test_calibration_refuses_in_a_sentence(pair, data, arguments, message, capsys):
    assert main(['calibrate', '--light', str(pair[0]), '--large', str(pair[1]), '--data', str(data), '--delta', '0.5', *arguments]) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith('evitif: ') and message in error


def evaluate(light, large, data, *more):
    return main(['evaluate', 'selection', '--light', str(light), '--large', str(large), '--data', str(data), '--delta', '0.4', '1',
                 '--quantisation', 'pixels', 'klt1', '--seeds', '2', *more])


def test_evaluation_writes_figures_tables_and_a_plot(calibrated, pair, data, tmp_path, capsys, monkeypatch):
    file = tmp_path / 'result.json'
    assert evaluate(calibrated, pair[1], data, '--loss', '0.5', '--json', str(file)) == 0
    result = json.loads(file.read_text())
    assert result['images'] == 20 and len(result['front']) > 16
    everything = [row for row in result['front'] if row['delta'] == 1 and row['eta'] == 0 and row['quantisation'] == 'pixels']
    assert everything[0]['cost'] == 1 and everything[0]['top1'] == pytest.approx(result['top1']['large'])     # nothing was left out
    for row in result['front']:
        assert row['cost'] == pytest.approx(row['asked'] * row['patches'])
        assert (row['bytes'] > 0) == (row['quantisation'] != 'pixels' and row['asked'] > 0)
    lossy = result['loss']['0.5']
    assert lossy['copies'] == copies_for(0.5) > 1 and 0 <= lossy['patches_lost'] < 0.5 and len(lossy['runs']) == 2
    text = file.with_suffix('.md').read_text()
    for part in ('as calibrated', 'JPEG 30', 'at random', 'omission', 'min-entropy',
                 'scattered mosaics, WebP 70', 'WebP lossless', 'Made by `evitif evaluate'):
        assert part in text
    assert file.with_suffix('.png').stat().st_size > 10_000
    assert evaluate(calibrated, pair[1], data, '--eta', '0.5', '3', '--json', str(file)) == 1
    assert 'eta is 3: expected 0 to 2, the highest min-entropy of 4 classes' in capsys.readouterr().err


def test_an_interrupted_evaluation_goes_on_with_equal_figures(calibrated, pair, data, tmp_path, monkeypatch, capsys):
    from evitif_lab.evaluation import selection
    whole, parts = tmp_path / 'whole.json', tmp_path / 'parts.json'
    assert evaluate(calibrated, pair[1], data, '--json', str(whole)) == 0
    with monkeypatch.context() as patch:
        def interrupt(self):
            raise KeyboardInterrupt
        patch.setattr(selection.Measurement, '_gates', interrupt)
        assert evaluate(calibrated, pair[1], data, '--json', str(parts)) == 130
    assert not parts.exists()
    assert evaluate(calibrated, pair[1], data, '--json', str(parts)) == 0
    assert 'going on from' in capsys.readouterr().out
    first, second = (json.loads(path.read_text()) for path in (whole, parts))
    for key in ('top1', 'front', 'loss', 'ablation', 'codecs', 'calibrated'):
        assert first[key] == second[key]


def test_models_that_do_not_belong_together(calibrated, pair, data, tmp_path, capsys):
    other = write_model(tmp_path / 'other', LIGHT, 4, ['a', 'b', 'c'])
    assert evaluate(other, pair[1], data) == 1
    assert 'have 3 classes and 4 classes: expected the same classes' in capsys.readouterr().err
    stranger = write_model(tmp_path / 'stranger', LIGHT, 5)
    assert evaluate(stranger, pair[1], data) == 1
    assert 'has no selection.json' in capsys.readouterr().err
    assert evaluate(stranger, pair[1], data, '--artifact', str(calibrated / FILE)) == 1
    assert 'was made for the model' in capsys.readouterr().err


def parameters(row_bytes=24, patches=64):
    return StreamParameters(model='m', fingerprint='a' * 64, cut=0, quantisation='klt1', image_size=(64, 64), tokens=patches,
                            prefix_tokens=0, grid=(8, 8), channels=192, groups=1, row_bytes=row_bytes, classes=10, code='b' * 64)


@pytest.mark.parametrize('rate, copies', [(0.0, 1), (0.3, 3), (0.6, 7)])
def test_a_selected_frame_has_every_chosen_patch_in_several_packets(rate, copies):
    assert copies_for(rate) == copies
    frames = SelectedFrames(parameters(), rate)
    chosen = np.random.default_rng(0).permutation(64)[:30]
    packets = frames.packets(chosen)
    counts = np.bincount(np.concatenate(packets), minlength=64)
    assert set(np.flatnonzero(counts)) == set(chosen) and len(packets) >= packets_of_part(packets_for(copies, rate), 30, 64)
    assert counts[chosen].sum() == 30 * copies and np.all(counts[chosen[:7]] >= counts[chosen[-7:]])
    assert frames.bytes(30) == sum(44 + 16 + 26 * len(units) for units in packets)      # header, seal, index and row of each


def test_a_few_patches_take_more_copies_lest_nothing_of_them_arrive():
    assert copies_for(0.6, patches=1) == copies_for(0.6, patches=10) == 11 and 0.6**11 < 0.005
    assert copies_for(0.6, patches=11) == copies_for(0.6) == 7
    assert copies_for(0.0, patches=1) == copies_for(math.nan, patches=1) == 1
    assert len(SelectedFrames(parameters(), 0.6).packets(np.array([5]))) == 11


def test_an_image_with_parity_takes_as_many_packets_as_a_loss_asks_for():
    assert image_bytes_on_wire(1000) == 1060 and image_bytes_on_wire(2000) == 2120
    assert datagrams_with_parity(1, 0.5) == 7           # 1 - 0.5 ** 7 = 0.992
    assert datagrams_with_parity(8, 0.6) > 8 / 0.4
    assert image_bytes_on_wire(1000, 0.5) == 7 * 1060
    assert answer_bytes(1000, 196) == answer_bytes(5, 196) > answer_bytes(5, 0)
    assert answer_bytes(10, 64, 0.6) > 2 * answer_bytes(10, 64)


def point(top1, cost, size):
    return Point(0.5, 'klt1', 0.1, 0.0, top1, cost, 0.5, 0.5, size, 0.0)


def test_only_what_nothing_beats_is_on_the_front():
    found = [point(0.7, 0.2, 100), point(0.8, 0.4, 200), point(0.75, 0.4, 150), point(0.6, 0.3, 90), point(0.8, 0.5, 300)]
    assert [entry.bytes for entry in pareto(found, 'bytes')] == [90, 100, 150, 200]
    assert [entry.top1 for entry in pareto(found, 'cost')] == [0.7, 0.8]
    assert cheapest(found, 0.75, 'bytes').bytes == 150 and cheapest(found, 0.9, 'bytes') is None


def test_a_codec_is_given_what_the_large_model_sees(calibrated, pair, tmp_path):
    """Of photographs larger than the model's input the codec's file is not of what is cropped away, and nothing is lost before it."""
    picture = (np.random.default_rng(0).random((48, 80, 3)) * 255).astype(np.uint8)
    dataset = [Sample(picture, 1, 'b', 'one'), Sample(picture[:32, :32].copy(), 2, 'c', 'two')]
    trial = Trial(ModelSpec(str(calibrated)), ModelSpec(str(pair[1])), dataset, [0, 1])
    views = trial.views()
    assert [view.shape for view in views] == [(32, 32, 3)] * 2 and np.array_equal(views[1], dataset[1].image)
    assert torch.allclose(trial.of_views(views), trial.images(trial.large), atol=1e-5)
    sent, size = through(views[0], 'WebP', LOSSLESS)
    assert np.array_equal(sent, views[0]) and size > through(views[0], 'WebP', 80)[1]
