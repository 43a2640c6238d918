"""Where Fashion-MNIST is looked for, and how its files are read."""

import gzip
import struct

import numpy as np
import pytest

from evitif.datasets import DatasetError, FashionMnist, fashion_mnist
from evitif.model.timm_import import repair_torchvision
from evitif_lab.data.download import fetch_fashion_mnist


def write(folder, count=3, magic=2051, cut=0):
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(count * 784, dtype=np.uint32).astype(np.uint8).tobytes()
    for images, labels, _ in fashion_mnist.FILES.values():
        body = struct.pack('>IIII', magic, count, 28, 28) + pixels
        (folder / images).write_bytes(gzip.compress(body[:len(body) - cut]))
        (folder / labels).write_bytes(gzip.compress(struct.pack('>II', 2049, count) + bytes(range(count))))
    return folder


@pytest.fixture
def three_images(monkeypatch):
    monkeypatch.setattr(fashion_mnist, 'FILES', {split: (images, labels, 3)
                                                 for split, (images, labels, _) in fashion_mnist.FILES.items()})


def test_the_named_folder_is_read(tmp_path, monkeypatch, three_images):
    monkeypatch.setenv('FASHION_MNIST_DIR', str(write(tmp_path / 'd')))
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
        FashionMnist('test', write(tmp_path, **damage))
