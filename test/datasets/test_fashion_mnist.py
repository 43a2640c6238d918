"""Where Fashion-MNIST is looked for, and how its files are read."""

import sys
from pathlib import Path

import pytest

from evitif.datasets import DatasetError, FashionMnist, fashion_mnist
from evitif.model.timm_import import repair_torchvision
from evitif_lab.data.download import fetch_fashion_mnist

sys.path.insert(0, str(Path(__file__).parent))

from small_fashion_mnist import expect, write


@pytest.fixture
def three_images(monkeypatch):
    expect(monkeypatch, 3)


def test_the_named_folder_is_read(tmp_path, monkeypatch, three_images):
    monkeypatch.setenv('FASHION_MNIST_DIR', str(write(tmp_path / 'd', 3)))
    dataset = FashionMnist('test')
    assert len(dataset) == 3
    assert dataset[2].label == 'Pullover'
    assert dataset[0].image.shape == (28, 28, 3)
    assert dataset[0].image[0, 5].tolist() == [5, 5, 5]


def test_a_named_folder_without_the_files_is_an_error_even_if_others_have_them(tmp_path, monkeypatch):
    monkeypatch.setenv('FASHION_MNIST_DIR', str(tmp_path))
    with pytest.raises(DatasetError, match=f'FASHION_MNIST_DIR={tmp_path}.*train-images'):
        fetch_fashion_mnist()


def test_nowhere_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv('FASHION_MNIST_DIR', raising=False)
    monkeypatch.setattr(fashion_mnist, 'DEBIAN_FOLDER', tmp_path / 'none')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match='evitif fetch fashion-mnist.*FASHION_MNIST_DIR'):
        FashionMnist('test')


def test_fetching_reports_every_source_that_failed(tmp_path, monkeypatch):
    monkeypatch.delenv('FASHION_MNIST_DIR', raising=False)
    monkeypatch.setattr(fashion_mnist, 'DEBIAN_FOLDER', tmp_path / 'none')
    monkeypatch.setenv('PATH', str(tmp_path))
    repair_torchvision()
    monkeypatch.setattr('torchvision.datasets.FashionMNIST', _refuse)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match='apt-get is not installed.*no network here.*FASHION_MNIST_DIR'):
        fetch_fashion_mnist()


def _refuse(*arguments, **options):
    raise RuntimeError('no network here')


@pytest.mark.parametrize('damage, expected', [({'magic': 7}, 'magic number 2051'), ({'cut': 5}, 'truncated'),
                                              ({'count': 2}, 'expected 3 images')])
def test_damaged_files_are_named(tmp_path, damage, expected, three_images):
    with pytest.raises(DatasetError, match=expected):
        FashionMnist('test', write(tmp_path, **{'count': 3, **damage}))
