"""Folders, videos, devices and data sets as sources of images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from evitif.datasets import DatasetError
from evitif_edge_node.image_sources import SourceError, open_source


@pytest.fixture
def folder(tmp_path):
    """Two classes of three pictures; the red channel numbers the picture."""
    for number, name in enumerate(['cat/a.png', 'cat/b.png', 'cat/c.png', 'dog/a.png', 'dog/b.png', 'dog/c.png']):
        path = tmp_path / 'pictures' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 6, 3), (number, 0, 0), np.uint8)).save(path)
    return tmp_path / 'pictures'


@pytest.fixture
def video(tmp_path):
    path = tmp_path / 'film.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10, (32, 24))
    for number in range(4):
        writer.write(np.full((24, 32, 3), (0, 0, 60 * number), np.uint8))  # BGR: growing red
    writer.release()
    return path


def numbers(source, limit=100):
    found = []
    while len(found) < limit and (image := source.next_image()) is not None:
        found.append(int(image.image[0, 0, 0]))
    return found


def test_folder_once_in_order_with_labels(folder):
    source = open_source(str(folder))
    first = source.next_image()
    assert (first.class_id, first.label, first.name) == (0, 'cat', 'cat/a.png')
    assert first.image.shape == (4, 6, 3) and first.image.dtype == np.uint8
    assert numbers(source) == [1, 2, 3, 4, 5]
    assert source.labelled and '6 images' in source.description


def test_start_index_and_loop(folder):
    assert numbers(open_source(str(folder), start_index=4)) == [4, 5]
    assert numbers(open_source(str(folder), start_index=4, loop=True), 8) == [4, 5, 0, 1, 2, 3, 4, 5]


def test_shuffle_is_decided_by_the_seed(folder):
    one, again, other = (numbers(open_source(str(folder), shuffle=True, seed=seed)) for seed in (1, 1, 2))
    assert one == again and sorted(one) == list(range(6)) and one != other


def test_flat_folder_has_no_labels(folder):
    source = open_source(str(folder / 'dog'))
    assert source.next_image().class_id is None and not source.labelled


def test_unreadable_image_is_skipped_and_counted(folder):
    (folder / 'cat' / 'b.png').write_bytes(b'no picture')
    source = open_source(str(folder))
    assert numbers(source) == [0, 2, 3, 4, 5] and source.skipped == 1


def test_loop_over_nothing_readable_ends(folder):
    for path in folder.rglob('*.png'):
        path.write_bytes(b'no picture')
    with pytest.raises(DatasetError, match='cannot be read'):
        open_source(str(folder), loop=True).next_image()


def test_start_index_beyond_the_end(folder):
    with pytest.raises(SourceError, match='start_index 6 .* expected 0 to 5'):
        open_source(str(folder), start_index=6)


def test_video_once_and_looping(video):
    source = open_source(str(video))
    reds = numbers(source)
    assert len(reds) == 4 and reds == sorted(reds) and not source.labelled
    assert len(numbers(open_source(str(video), loop=True), 10)) == 10


@pytest.mark.parametrize('name', ['/dev/video99', '99'])
def test_missing_device_is_named(name):
    with pytest.raises(SourceError, match='/dev/video99.* does not exist'):
        open_source(name)


def test_missing_source_is_named():
    with pytest.raises(SourceError, match="'/no/such' does not exist: expected fashion-mnist, a folder"):
        open_source('/no/such')


def test_file_that_is_no_video(tmp_path):
    path = tmp_path / 'film.mp4'
    path.write_bytes(b'nothing of the kind')
    with pytest.raises(SourceError, match='film.mp4.* cannot be read'):
        open_source(str(path))


def test_empty_folder(tmp_path):
    with pytest.raises(DatasetError, match='holds no image'):
        open_source(str(tmp_path))


def test_fashion_mnist():
    try:
        source = open_source('fashion_mnist', start_index=1)
    except DatasetError as reason:
        pytest.skip(str(reason))
    image = source.next_image()
    assert image.image.shape == (28, 28, 3) and image.label == 'Pullover' and image.class_id == 2
