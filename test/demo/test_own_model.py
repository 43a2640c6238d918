"""A user's own images from a folder to predictions over a lossy link, by the commands that the README gives."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('rclpy', reason='ROS 2 is not installed')
pytest.importorskip('evitif_msgs.msg', reason='the message package is not built: make build')

sys.path.insert(0, str(Path(__file__).parents[1]))

from ros_domains import own_domain, plain_node_sees

from benchmarks.images import default_environment

ROOT = Path(__file__).resolve().parents[2]
# Goldfish and tabby: ImageNet numbers them 1 and 281, and the camera does so too; the user's model numbers them 0 and 1.
CLASSES = {'n01443537': 170, 'n02123045': 0}
SMALL = ['--image-size', '32', '--model-kwargs', 'patch_size=8', 'embed_dim=24', 'depth=2', 'num_heads=2', '--epochs', '6',
         '--batch-size', '16', '--learning-rate', '0.002', '--warmup-epochs', '0.5', '--average-decay', '0.9',
         '--erase-probability', '0', '--shift-pixels', '0']


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, env=default_environment(**environment), capture_output=True,
                          text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '\r' not in done.stdout + done.stderr       # progress in a log: whole lines
    return done.stdout


def save(path: Path, brightness: int, random: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(brightness + random.integers(0, 80, (32, 32, 3), np.uint8)).save(path)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Two classes that a small network tells apart at once: bright and dark."""
    folder, random = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    for name, brightness in CLASSES.items():
        for index in range(48):
            save(folder / 'train' / name / f'{index}.png', brightness, random)
        for index in range(12):
            save(folder / 'val' / name / f'{index}.png', brightness, random)
    return folder


@pytest.fixture(scope='module')
def model(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp('artifacts') / 'mine'
    run('-m', 'evitif_cli', 'train', 'model', '--data', images, '--output', folder, *SMALL)
    run('-m', 'evitif_cli', 'train', 'recovery', '--model', folder, '--data', images, '--steps', '40', '--batch-size', '16')
    return folder


def demo(model: Path, images: Path, reports: Path) -> dict:
    with own_domain() as domain, plain_node_sees('/demo/prediction', 'bridge_node', domain):
        run('-m', 'scripts.demo', '--model', model, '--images', images, '--loss', '0.3', '--frames', '20', '--rate', '4',
            '--reports', reports, ROS_DOMAIN_ID=str(domain))
    assert 'no image on' not in (reports / 'logs' / 'edge.log').read_text()     # while the camera was not started yet
    return json.loads((reports / 'summary.json').read_text())


def test_a_user_s_own_model_is_trained_gets_a_recovery_and_answers_over_a_lossy_link(model, images, tmp_path):
    summary = demo(model, images, tmp_path)
    assert summary['frames_sent'] == 20
    assert summary['predictions'] >= 0.99 * summary['frames_sent']
    assert summary['model'] == 'mine'
    assert set(summary['answered_by']) <= {'split/paldn', 'split/none'}
    assert summary['quantisation'] == 'coded'    # the recovery's training fitted an entropy code as well
    assert set(summary['predicted']) == set(CLASSES)
    assert summary['accuracy'] >= 0.9 and summary['accuracy_lossless'] >= 0.9


def test_images_without_labels_are_answered_as_well(model, images, tmp_path):
    flat = tmp_path / 'flat'
    flat.mkdir()
    for index, name in enumerate(CLASSES):
        (flat / f'{index}.png').write_bytes((images / 'val' / name / '0.png').read_bytes())
    summary = demo(model, flat, tmp_path / 'reports')
    assert summary['frames_sent'] == 20
    assert summary['predictions'] >= 0.99 * summary['frames_sent']
    assert set(summary['predicted']) == set(CLASSES)
    assert summary['accuracy'] is None and summary['accuracy_lossless'] is None
