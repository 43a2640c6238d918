"""Folders, videos, devices and data sets as sources of images."""

from __future__ import annotations

import struct

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


def test_every_unreadable_image_is_named_once_and_the_others_come(folder):
    (folder / 'cat' / 'b.ppm').write_bytes(b'P6\n24 2')
    (folder / 'cat' / 'c.png').write_bytes(b'\x89PNG\r\n\x1a\n\0\0\0\x0cIHDR' + bytes(16))
    (folder / 'dog' / 'a.heic').write_bytes(b'x')
    said = []
    source = open_source(str(folder), loop=True, say=said.append)
    assert numbers(source, 12) == [0, 1, 3, 4, 5] * 2 + [0, 1] and source.skipped == 4
    assert len(said) == 3 and '1 .heic' in said[0]
    assert all(name in sentence and sentence.endswith(': skipped') for name, sentence in zip(('b.ppm', 'c.png'), said[1:], strict=True))


def test_so_many_unreadable_images_are_named_and_no_more(tmp_path):
    for number in range(50):
        (tmp_path / f'{number:02}.png').write_bytes(b'no picture')
    Image.new('RGB', (4, 4)).save(tmp_path / 'last.png')
    said = []
    assert open_source(str(tmp_path), say=said.append).next_image().name == 'last.png'
    assert len(said) == 20 and 'no more of them are named' in said[-1]


def test_one_image_is_a_source(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (4, 6)).save(tmp_path / 'one.jpg', exif=exif)
    source = open_source(str(tmp_path / 'one.jpg'))
    image = source.next_image()
    assert image.image.shape == (4, 6, 3) and image.class_id is None and source.next_image() is None
    assert len(numbers(open_source(str(tmp_path / 'one.jpg'), loop=True), 5)) == 5


@pytest.mark.parametrize('bits', [12, 16])
def test_16_bit_files_and_the_bits_that_are_set(tmp_path, bits):
    Image.fromarray(np.linspace(0, (1 << bits) - 1, 24).astype(np.uint16).reshape(4, 6)).save(tmp_path / 'ramp.png')
    for source in (str(tmp_path), str(tmp_path / 'ramp.png')):
        image = open_source(source).next_image().image
        assert image.min() == 0 and image.max() == 255
        assert open_source(source, significant_bits=16).next_image().image.max() == 255 >> (16 - bits)


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


def test_a_film_of_a_phone_held_upright_is_upright(tmp_path):
    """MP4 whose header says to turn by a quarter: the matrix of the track (ISO/IEC 14496-12, 8.3.2)."""
    path = tmp_path / 'phone.mp4'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip('this OpenCV writes no MP4')
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:, :16] = 255             # left; upright it is at the top
    for _ in range(3):
        writer.write(frame)
    writer.release()
    content = bytearray(path.read_bytes())
    matrix = content.index(b'tkhd') + 44
    one = 1 << 16
    assert struct.unpack_from('>9i', content, matrix) == (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    struct.pack_into('>9i', content, matrix, 0, one, 0, -one, 0, 0, 48 * one, 0, 1 << 30)
    path.write_bytes(content)
    image = open_source(str(path)).next_image().image
    assert image.shape == (64, 48, 3) and image[:10].mean() > 200 and image[30:].mean() < 50


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_grey_films_of_8_and_16_bits(tmp_path, dtype):
    path = tmp_path / 'grey.avi'
    depth = cv2.CV_16U if dtype == np.uint16 else cv2.CV_8U
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*'FFV1'), 10, (64, 48),
                             [cv2.VIDEOWRITER_PROP_IS_COLOR, 0, cv2.VIDEOWRITER_PROP_DEPTH, depth])
    if not writer.isOpened():
        pytest.skip('this OpenCV writes no FFV1')
    for _ in range(3):
        writer.write(np.full((48, 64), 200 * (257 if dtype == np.uint16 else 1), dtype))
    writer.release()
    assert np.abs(open_source(str(path)).next_image().image.astype(int) - 200).max() <= 2


@pytest.mark.parametrize('name', ['/dev/video99', '99'])
def test_missing_device_is_named(name):
    with pytest.raises(SourceError, match='/dev/video99.* does not exist'):
        open_source(name)


def test_missing_source_is_named():
    with pytest.raises(SourceError, match="'/no/such' does not exist: expected fashion-mnist, moving-fashion, a folder"):
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
