"""What is trained on: whole images or crops, from several folders, and never more than memory holds."""

import numpy as np
import pytest
import torch
from PIL import Image

from evitif_lab.trials import memory
from evitif_lab.trials.images import load_views


@pytest.fixture
def folders(tmp_path):
    """Two folders of 4 and 6 images, each of one grey of its own."""
    for name, count, first in (('a', 4, 0), ('b', 6, 100)):
        (tmp_path / name).mkdir()
        for index in range(count):
            Image.fromarray(np.full((40, 30, 3), first + index, np.uint8)).save(tmp_path / name / f'{index}.png')
    return [str(tmp_path / 'a'), str(tmp_path / 'b')]


def greys(images):
    return images[:, 0, 0, 0].tolist()


def test_whole_images_of_several_folders(folders):
    images = load_views(folders, 16)
    assert images.shape == (10, 3, 16, 16) and images.dtype == torch.uint8
    assert greys(images) == [0, 1, 2, 3, 100, 101, 102, 103, 104, 105]


def test_crops_and_limits_count_for_each_folder(folders):
    images = load_views(folders, 8, views=[3, 1], limits=[2, 5], seed=1)
    assert len(images) == 2 * 3 + 5
    values = greys(images)
    assert len(set(values[:6])) == 2 and max(values[:6]) < 4
    assert len(set(values[6:])) == 5 and min(values[6:]) >= 100
    assert torch.equal(images, load_views(folders, 8, views=[3, 1], limits=[2, 5], seed=1))


def test_a_crop_is_a_part_of_the_image(tmp_path):
    ramp = np.tile(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], (60, 1, 3))
    Image.fromarray(ramp).save(tmp_path / 'ramp.png')
    images = load_views([str(tmp_path)], 16, views=[30]).float()
    spans = (images[:, 0, 0, -1] - images[:, 0, 0, 0]).abs()
    assert spans.max() <= 240 and spans.min() < 150 < spans.max()       # some see half of it, some nearly all
    mirrored = (images[:, 0, 0, -1] < images[:, 0, 0, 0]).float().mean()
    assert 0.2 < mirrored < 0.8


@pytest.mark.parametrize('arguments', [{'views': [1]}, {'limits': [1, 2, 3]}])
def test_a_number_for_each_folder_is_expected(folders, arguments):
    with pytest.raises(ValueError, match='one number for each of the 2 data sets'):
        load_views(folders, 8, **arguments)


def test_too_little_memory_is_said_before_reading(folders, monkeypatch):
    monkeypatch.setattr(memory, 'available_bytes', lambda: 1000)
    with pytest.raises(MemoryError, match=r'10 images of 16x16 need 0\.0 GiB of memory; 0\.0 GiB are available'):
        load_views(folders, 16)


def test_available_memory_is_a_sensible_number():
    assert 1 << 20 < memory.available_bytes() < 1 << 50
    assert memory.fits(1 << 10) and not memory.fits(1 << 60)
