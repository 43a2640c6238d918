"""A training does what was asked for, or stops with one sentence: numbers that are not finite, other data, full disks, torn files."""

import json
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from evitif.datasets import open_images
from evitif.files import parse_json, write_json
from evitif.model.build import ModelSpec, build_model
from evitif.model.errors import ModelError
from evitif.model.preprocess import Preprocessor
from evitif_cli import main
from evitif_lab.partition.subsets import similar_subsets
from evitif_lab.training import backbone, recovery, training_loop
from evitif_lab.trials.images import Normalise, load_images

KWARGS = ['--model-kwargs', 'patch_size=8', 'embed_dim=24', 'depth=2', 'num_heads=2']


def make_images(folder, classes=('c0', 'c1'), train=4, val=2, size=32):
    random = np.random.default_rng(0)
    for split, count in (('train', train), ('val', val)):
        for number, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                picture = (random.integers(0, 80, (size, size, 3)) + 170 * (number % 2)).astype(np.uint8)
                Image.fromarray(picture).save(folder / split / name / f'{index}.png')
    return folder


@pytest.fixture
def images(tmp_path):
    return make_images(tmp_path / 'images')


def train(images, output, *more, kwargs=KWARGS):
    size = [] if '--image-size' in more or any('img_size' in part for part in kwargs) else ['--image-size', '32']
    return main(['train', 'model', '--data', str(images), '--output', str(output), '--epochs', '2', '--batch-size', '4',
                 '--warmup-epochs', '0', *size, *more, *kwargs])


def sentence(capsys):
    """The last line of the errors, which is the only one that names the command."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith('evitif: ')]
    assert len(lines) == 1
    return lines[0]


def unread(monkeypatch):
    """No image is to be read from here on."""
    def read(*_, **__):
        raise AssertionError('an image was read')
    monkeypatch.setattr(backbone, 'load_images', read)


# Numbers that are not finite

@pytest.mark.parametrize('rate', ['1e3', '1e12'])
def test_a_loss_that_is_not_finite_stops_the_training(images, tmp_path, capsys, rate):
    assert train(images, tmp_path / 'o', '--learning-rate', rate) == 1
    told = sentence(capsys)
    assert 'nan at step' in told and 'smaller learning rate' in told
    assert not (tmp_path / 'o' / 'model.json').exists() and not (tmp_path / 'o' / 'model.safetensors').exists()


def test_the_state_before_it_is_kept(images, tmp_path, capsys, monkeypatch):
    step, calls = training_loop.require_finite_step, []

    def later(title, place, checkpoint, **values):
        calls.append(place)
        step(title, place, checkpoint, **({name: float('nan') for name in values} if 'epoch 2' in place else values))
    monkeypatch.setattr(training_loop, 'require_finite_step', later)
    assert train(images, tmp_path / 'o') == 1
    assert f'the last good state is kept in {tmp_path / "o" / "checkpoint.pt"}' in sentence(capsys)
    monkeypatch.setattr(training_loop, 'require_finite_step', step)
    assert train(images, tmp_path / 'o') == 0
    assert json.loads((tmp_path / 'o' / 'model.json').read_text())['history'][0]['epoch'] == 1


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp('model')
    images = make_images(folder / 'images')
    assert train(images, folder / 'model') == 0
    return folder


def test_the_recovery_stops_as_well(model, tmp_path, capsys):
    capsys.readouterr()
    assert main(['train', 'recovery', '--model', str(model / 'model'), '--data', str(model / 'images'), '--output', str(tmp_path),
                 '--no-code', '--steps', '9', '--batch-size', '4', '--learning-rate', '1e12']) == 1
    assert 'paldn cut 1: the loss' in sentence(capsys)
    assert not list(tmp_path.glob('*.json'))


def test_the_partition_stops_as_well(model, tmp_path, capsys):
    capsys.readouterr()
    assert main(['train', 'partition', '--model', str(model / 'model'), '--data', str(model / 'images'), '--output', str(tmp_path),
                 '--devices', '2', '--reduction', '1.5', '--steps', '4', '--fusion-steps', '2', '--batch-size', '4',
                 '--calibration-images', '4', '--learning-rate', '1e12', '--matrix-rate', '1e6']) == 1
    assert 'retraining: the loss' in sentence(capsys)
    assert not (tmp_path / 'partition.json').exists()


def test_weights_that_are_not_finite_are_refused_by_every_command(model, tmp_path, capsys):
    folder = tmp_path / 'spoilt'
    folder.mkdir()
    (folder / 'model.json').write_bytes((model / 'model' / 'model.json').read_bytes())
    weights = load_file(model / 'model' / 'model.safetensors')
    weights['blocks.1.mlp.fc1.weight'][0, 0] = float('nan')
    save_file(weights, folder / 'model.safetensors')
    with pytest.raises(ModelError, match='blocks.1.mlp.fc1.weight'):
        build_model(ModelSpec(str(folder)))
    data = ['--data', str(model / 'images')]
    for command in (['train', 'recovery', '--model', str(folder)], ['train', 'code', '--model', str(folder)],
                    ['evaluate', 'recovery', '--model', str(folder)],
                    ['train', 'partition', '--model', str(folder), '--output', str(tmp_path / 'p')]):
        capsys.readouterr()
        assert main([*command, *data]) == 1
        told = sentence(capsys)
        assert str(folder / 'model.safetensors') in told and 'blocks.1.mlp.fc1.weight' in told


def test_classes_are_not_grouped_by_confusions_that_are_not_finite():
    with pytest.raises(ValueError, match='not finite'):
        similar_subsets(np.full((4, 4), np.nan), 2)


def test_json_is_strict_and_whole(tmp_path):
    write_json(tmp_path / 'a.json', {'figures': {'loss': 1.0}})
    with pytest.raises(ValueError, match=r'figures.losses\[1\] is nan'):
        write_json(tmp_path / 'a.json', {'figures': {'losses': [1.0, float('nan')]}})
    assert [path.name for path in tmp_path.iterdir()] == ['a.json']
    assert json.loads((tmp_path / 'a.json').read_text()) == {'figures': {'loss': 1.0}}
    with pytest.raises(ValueError, match='NaN'):
        parse_json('{"loss": NaN}')


# Data

def test_a_class_renamed_before_a_training_goes_on_is_refused(images, tmp_path, monkeypatch, capsys):
    interrupt_second_epoch(monkeypatch, lambda: train(images, tmp_path / 'o'))
    for split in ('train', 'val'):
        (images / split / 'c0').rename(images / split / 'z_c0')
    capsys.readouterr()
    unread(monkeypatch)
    assert train(images, tmp_path / 'o') == 1
    told = sentence(capsys)
    assert "'c0'" in told and "'z_c0'" in told and '--overwrite' in told


def test_a_class_added_or_another_image_is_refused(images, tmp_path, monkeypatch, capsys):
    interrupt_second_epoch(monkeypatch, lambda: train(images, tmp_path / 'o'))
    for split in ('train', 'val'):
        (images / split / 'c2').mkdir()
        Image.new('RGB', (32, 32)).save(images / split / 'c2' / '0.png')
    capsys.readouterr()
    assert train(images, tmp_path / 'o') == 1
    assert 'classes' in sentence(capsys)
    for split in ('train', 'val'):
        (images / split / 'c2' / '0.png').unlink()
        (images / split / 'c2').rmdir()
    Image.new('RGB', (32, 32), 'red').save(images / 'train' / 'c0' / '0.png')
    assert train(images, tmp_path / 'o') == 1
    assert 'digest' in sentence(capsys)
    assert train(images, tmp_path / 'o', '--overwrite') == 0


def test_a_recovery_begun_on_other_images_is_refused(model, tmp_path, monkeypatch, capsys):
    loop, losses = recovery.TrainingLoop, recovery.recovery_losses
    monkeypatch.setattr(recovery, 'TrainingLoop', lambda *values, **more: loop(*values, **{**more, 'save_every': 2}))
    arguments = ['train', 'recovery', '--model', str(model / 'model'), '--output', str(tmp_path / 'o'), '--no-code', '--steps', '6',
                 '--batch-size', '4', '--data', str(make_images(tmp_path / 'images'))]

    def interrupted(step, *rest):
        if step == 3:
            raise KeyboardInterrupt
        return losses(step, *rest)
    monkeypatch.setattr(recovery, 'recovery_losses', interrupted)
    assert main(arguments) == 130
    monkeypatch.setattr(recovery, 'recovery_losses', losses)
    Image.new('RGB', (32, 32), 'red').save(tmp_path / 'images' / 'train' / 'c0' / '0.png')
    capsys.readouterr()
    assert main(arguments) == 1
    assert 'is of another training (data: ' in sentence(capsys)
    assert main([*arguments, '--overwrite']) == 0


def test_a_measurement_of_other_images_is_not_gone_on_with(images, model, tmp_path, capsys):
    arguments = ['evaluate', 'recovery', '--model', str(model / 'model'), '--data', str(images), '--loss', '0.5', '--json',
                 str(tmp_path / 'r.json')]
    assert main(arguments) == 0
    result = json.loads((tmp_path / 'r.json').read_text())
    state = {'next': 4, 'uncut': 4, 'lossless': 4, 'seconds': 1.0, 'right': {name: [4] for name in result['top1']}}
    write_json(tmp_path / 'r.json.partial', {'identity': result['identity'], 'state': state})
    Image.new('RGB', (32, 32), 'red').save(images / 'val' / 'c0' / '0.png')
    capsys.readouterr()
    assert main(arguments) == 0
    assert 'is of another measurement (pictures: ' in capsys.readouterr().out


def interrupt_second_epoch(monkeypatch, command):
    top1, calls = backbone.top1, []

    def interrupted(*values):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return top1(*values)
    monkeypatch.setattr(backbone, 'top1', interrupted)
    assert command() == 130
    monkeypatch.setattr(backbone, 'top1', top1)


# What is asked for

def test_a_finished_training_is_left_as_it_is(images, tmp_path, capsys):
    assert train(images, tmp_path / 'o') == 0
    (tmp_path / 'o' / 'paldn-cut1.json').write_text('{}')
    before = (tmp_path / 'o' / 'model.safetensors').stat().st_mtime_ns
    assert train(images, tmp_path / 'o') == 0
    assert 'is there already' in capsys.readouterr().out
    assert train(images, tmp_path / 'o', '--learning-rate', '2e-3') == 1
    assert 'learning_rate: 0.001 there, 0.002 now' in sentence(capsys)
    assert (tmp_path / 'o' / 'model.safetensors').stat().st_mtime_ns == before
    assert train(images, tmp_path / 'o', '--learning-rate', '2e-3', '--overwrite') == 0
    assert (tmp_path / 'o' / 'retired-1' / 'paldn-cut1.json').is_file() and not (tmp_path / 'o' / 'paldn-cut1.json').exists()


@pytest.mark.parametrize('more, kwargs, expected', [
    (['--default-cut', '99'], KWARGS, '--default-cut is 99: expected 0 to 2'),
    (['--shift-pixels', '32'], KWARGS, '--shift-pixels is 32: expected less than 32'),
    (['--image-size', '32'], [*KWARGS, 'img_size=64'], '--image-size is 32 and img_size of --model-kwargs is 64'),
    ([], [*KWARGS, 'img_size=[32,64,3]'], 'image_size is [32, 64, 3]: expected a side such as 224, or height and width'),
    (['--image-size', '16'], ['--model-kwargs', 'depth=1'], '1 patches of 16x16: expected at least 4'),
    ([], [*KWARGS, 'num_classes=7'], 'num_classes'),
    (['--device', 'meta'], KWARGS, "'meta'"), (['--device', 'hpu'], KWARGS, "'hpu'"), (['--device', 'cuda:99'], KWARGS, "'cuda:99'"),
    (['--held-out', '0.01'], KWARGS, 'held_out is 0.01')])
def test_what_cannot_be_is_said_before_an_image_is_read(images, tmp_path, monkeypatch, capsys, more, kwargs, expected):
    unread(monkeypatch)
    assert train(images, tmp_path / 'o', *more, kwargs=kwargs) == 1
    assert expected in sentence(capsys)
    assert not (tmp_path / 'o').exists()


@pytest.mark.parametrize('output', ['/dev/null/model', '/proc/none/model', '{images}/train/c0/0.png'])
def test_an_output_that_cannot_be_written(images, monkeypatch, capsys, output):
    unread(monkeypatch)
    path = output.format(images=images)
    assert train(images, path) == 1
    assert f'{path} cannot be written' in sentence(capsys)


def test_the_image_size_follows_the_architecture(images, tmp_path):
    assert train(images, tmp_path / 'o', '--epochs', '1', kwargs=[*KWARGS, 'img_size=16']) == 0
    assert json.loads((tmp_path / 'o' / 'model.json').read_text())['model_kwargs']['img_size'] == 16


def test_a_model_of_one_channel_is_trained_on_what_it_is_given_later(images, tmp_path):
    assert train(images, tmp_path / 'o', kwargs=[*KWARGS, 'in_chans=1']) == 0
    built = build_model(ModelSpec(str(tmp_path / 'o')))
    dataset = open_images(str(images), 'test')
    trained_on = Normalise(built.data_config)(load_images(dataset, 32)[0][:1])
    torch.testing.assert_close(trained_on, Preprocessor(built.data_config)(dataset[0].image))
    assert main(['evaluate', 'recovery', '--model', str(tmp_path / 'o'), '--data', str(images), '--loss', '0.5']) == 0


def test_a_cut_without_a_tail_is_refused(model, tmp_path, capsys):
    capsys.readouterr()
    assert main(['train', 'recovery', '--model', str(model / 'model'), '--data', str(model / 'images'), '--cut', '2', '--output',
                 str(tmp_path)]) == 1
    assert 'cut 2 leaves the tail without a block' in sentence(capsys)


def test_a_message_about_many_classes_is_short(tmp_path, capsys):
    for split, count in (('train', 400), ('val', 399)):
        for number in range(count):
            folder = tmp_path / split / f'a_class_with_a_name_{number:04d}'
            folder.mkdir(parents=True)
            (folder / '0.png').touch()
    assert train(tmp_path, tmp_path / 'o') == 1
    told = sentence(capsys)
    assert 'a_class_with_a_name_0399' in told and len(told) < 500


def test_images_that_are_all_alike_have_no_code(model, tmp_path, capsys):
    (tmp_path / 'same').mkdir()
    for index in range(6):
        Image.new('RGB', (32, 32), 'grey').save(tmp_path / 'same' / f'{index}.png')
    capsys.readouterr()
    assert main(['train', 'code', '--model', str(model / 'model'), '--data', str(tmp_path / 'same'), '--output', str(tmp_path / 'o')]) == 1
    assert 'a code cannot be fitted to 6 images' in sentence(capsys)
    assert not list(tmp_path.glob('o/*'))


# Disks and interruptions

@pytest.mark.parametrize('kept', [0, 20, 0.5, 0.99])
def test_a_torn_checkpoint_is_named(images, tmp_path, monkeypatch, capsys, kept):
    interrupt_second_epoch(monkeypatch, lambda: train(images, tmp_path / 'o'))
    path = tmp_path / 'o' / 'checkpoint.pt'
    content = path.read_bytes()
    path.write_bytes(content[:int(kept * len(content)) if isinstance(kept, float) else kept])
    capsys.readouterr()
    unread(monkeypatch)
    assert train(images, tmp_path / 'o') == 1
    told = sentence(capsys)
    assert str(path) in told and 'damaged' in told and '--overwrite' in told


def test_a_full_disk_ends_in_a_sentence_and_leaves_nothing_half_written(images, tmp_path, monkeypatch, capsys):
    interrupt_second_epoch(monkeypatch, lambda: train(images, tmp_path / 'o'))
    before = (tmp_path / 'o' / 'checkpoint.pt').read_bytes()
    capsys.readouterr()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        status = train(images, tmp_path / 'o')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert status == 1
    assert f'{tmp_path / "o" / "checkpoint.pt"} cannot be written' in sentence(capsys)
    assert [path.name for path in (tmp_path / 'o').iterdir()] == ['checkpoint.pt']
    assert (tmp_path / 'o' / 'checkpoint.pt').read_bytes() == before


@pytest.mark.parametrize('number, status', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_training_with_a_sentence(images, tmp_path, number, status):
    command = [sys.executable, '-m', 'evitif_cli', 'train', 'model', '--data', str(images), '--output', str(tmp_path / 'o'), '--image-size',
               '32', '--epochs', '100000', '--batch-size', '4', *KWARGS]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith('epoch 2:'):
            break
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == status
    assert 'Traceback' not in told and 'run the same command again to go on' in told
    assert (tmp_path / 'o' / 'checkpoint.pt').is_file()
