"""The console command from a folder of images to a judged recovery, on a small scale."""

import json

import numpy as np
import pytest
from PIL import Image

from evitif.datasets import open_images
from evitif.pipeline.cut_model import CutModel
from evitif.pipeline.split_bridge import choose_recovery
from evitif.protocol.sealing.keys import read_key_file
from evitif.recovery import Paldn
from evitif.settings import bridge_settings
from evitif_cli import main

ARCHITECTURE = ['--architecture', 'vit_tiny_patch16_224', '--image-size', '32', '--model-kwargs', 'patch_size=8',
                'embed_dim=24', 'depth=2', 'num_heads=2']


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Two classes that a small network tells apart at once: bright and dark."""
    folder = tmp_path_factory.mktemp('images')
    random = np.random.default_rng(0)
    for split, count in (('train', 48), ('val', 12)):
        for name, brightness in (('bright', 170), ('dark', 0)):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                picture = brightness + random.integers(0, 80, (32, 32, 3), np.uint8)
                Image.fromarray(picture).save(folder / split / name / f'{index}.png')
    return folder


@pytest.fixture(scope='module')
def model(images, tmp_path_factory):
    output = tmp_path_factory.mktemp('artifacts') / 'small'
    assert main(['train', 'model', '--data', str(images), '--output', str(output), *ARCHITECTURE, '--epochs', '6',
                 '--batch-size', '16', '--erase-probability', '0', '--shift-pixels', '0', '--warmup-epochs', '0.5',
                 '--average-decay', '0.9', '--learning-rate', '0.002']) == 0
    return output


def test_a_model_is_trained_and_says_how(model):
    description = json.loads((model / 'model.json').read_text())
    assert description['class_names'] == ['bright', 'dark']
    assert description['figures']['test_top1'] >= 0.9
    assert description['made_by']['command'].startswith('evitif train model --data')
    assert not (model / 'checkpoint.pt').exists()


def test_what_was_judged_by_its_own_training_images_is_called_no_test(images, tmp_path, capsys):
    assert main(['train', 'model', '--data', str(images / 'val'), '--output', str(tmp_path / 'm'), *ARCHITECTURE, '--epochs', '1',
                 '--batch-size', '16', '--warmup-epochs', '0.5']) == 0
    printed = capsys.readouterr().out
    assert 'accuracy on the training images themselves' in printed and 'test accuracy' not in printed
    figures = json.loads((tmp_path / 'm' / 'model.json').read_text())['figures']
    assert figures['judged_by'] == 'all' and figures['training_images'] == 24 and not any(name.startswith('test') for name in figures)


def test_recovery_is_trained_without_labels_and_judged(model, images, tmp_path, capsys):
    flat = tmp_path / 'flat'
    flat.mkdir()
    for index in range(24):
        source = images / 'train' / ('bright', 'dark')[index % 2] / f'{index}.png'
        (flat / f'{index}.png').write_bytes(source.read_bytes())
    assert main(['train', 'recovery', '--model', str(model), '--data', str(flat), '--steps', '30', '--batch-size', '16']) == 0
    stream = CutModel.load(bridge_settings(model=str(model)))
    recovery, note = choose_recovery(bridge_settings(model=str(model)), stream)
    assert isinstance(recovery, Paldn)
    assert 'trained for 5 to 97 % loss' in note
    capsys.readouterr()
    report = tmp_path / 'out' / 'recovery.json'
    assert main(['evaluate', 'recovery', '--model', str(model), '--data', str(images), '--loss', '0', '0.6',
                 '--seeds', '2', '--json', str(report)]) == 0
    result = json.loads(report.read_text())
    assert result['images'] == 24
    assert set(result['top1']) == {'zero', 'mean', 'omission', 'interpolation', 'paldn'}
    for row in result['top1'].values():
        assert row['0']['mean'] == pytest.approx(result['top1_uncut'], abs=0.05)
        assert 0 <= row['0.6']['mean'] <= 1
    assert '| paldn |' in capsys.readouterr().out


def test_training_goes_on_where_it_was_interrupted(images, tmp_path, monkeypatch, capsys):
    from evitif_lab.training import backbone
    arguments = ['train', 'model', '--data', str(images), *ARCHITECTURE, '--epochs', '2', '--batch-size', '16']
    assert main([*arguments, '--output', str(tmp_path / 'whole')]) == 0
    top1, calls = backbone.top1, []

    def interrupted(*values):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return top1(*values)
    monkeypatch.setattr(backbone, 'top1', interrupted)
    assert main([*arguments, '--output', str(tmp_path / 'parts')]) == 130
    assert 'run the same command again' in capsys.readouterr().err
    monkeypatch.setattr(backbone, 'top1', top1)
    assert main([*arguments, '--output', str(tmp_path / 'parts')]) == 0
    whole, parts = (json.loads((tmp_path / name / 'model.json').read_text()) for name in ('whole', 'parts'))
    assert [entry['loss'] for entry in whole['history']] == [entry['loss'] for entry in parts['history']]
    assert (tmp_path / 'whole/model.safetensors').read_bytes() == (tmp_path / 'parts/model.safetensors').read_bytes()


@pytest.mark.parametrize('arguments, expected', [
    (['train', 'model', '--data', '/nowhere/at/all', '--output', 'x'], "'/nowhere/at/all' does not exist"),
    (['train', 'recovery', '--model', 'none/here', '--data', 'x'], "'none/here' does not exist"),
    (['train', 'recovery', '--model', 'vit_tiny_patch16_224', '--data', 'x', '--output', 'x'], 'exactly one source of weights'),
    (['train', 'recovery', '--model', 'vit_tiny_patch16_224', '--pretrained', '--data', '{images}'],
     'expected --output'),
    (['train', 'model', '--data', '{images}', '--output', '{tmp}', '--device', 'toaster'], "'toaster' is unknown"),
    (['evaluate', 'recovery', '--model', '{model}', '--data', '{images}', '--cut', '9'], 'cut 9 is out of range'),
    (['evaluate', 'recovery', '--model', '{model}', '--data', '{images}', '--methods', 'magic'], "'magic' is unknown"),
])
def test_a_mistake_ends_in_one_sentence(arguments, expected, images, model, tmp_path, capsys):
    filled = [part.format(images=images, model=model, tmp=tmp_path) for part in arguments]
    assert main(filled) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('evitif: ')
    assert expected in error


def test_a_new_key_is_written_once_and_not_shown(tmp_path, capsys):
    path = tmp_path / 'rover.key'
    assert main(['key', 'new', str(path)]) == 0
    content = path.read_text()
    read_key_file(path)
    assert main(['key', 'new', str(path)]) == 1
    assert path.read_text() == content
    told = capsys.readouterr()
    assert 'is there already' in told.err and str(path) in told.out
    assert content.strip() not in told.out + told.err


@pytest.mark.parametrize('arguments', [['evaluate', 'recovery', '--model', 'm', '--data', 'd', '--loss', '1.5'],
                                       ['train', 'model', '--data', 'd', '--output', 'o', '--epochs', '0'],
                                       ['train', 'model', '--data', 'd', '--output', 'o', '--model-kwargs', 'depth'],
                                       ['dance']])
def test_the_parser_refuses_bad_values(arguments, capsys):
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert 'Traceback' not in capsys.readouterr().err


def test_training_on_unlabelled_images_is_refused(tmp_path, capsys):
    for split in ('train', 'val'):
        (tmp_path / split).mkdir()
        Image.new('RGB', (8, 8)).save(tmp_path / split / 'x.png')
    assert main(['train', 'model', '--data', str(tmp_path), '--output', str(tmp_path / 'o')]) == 1
    assert 'training needs labels' in capsys.readouterr().err
    assert open_images(str(tmp_path), 'test').class_names == ()
