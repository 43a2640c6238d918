"""Moving-fashion: the same video for the same seed, whichever frame is asked for; labels and masks that fit the pictures."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from evitif.datasets import DatasetError, MovingFashion, fashion_mnist, is_named, judging_split, open_images
from evitif_edge_node.image_sources import open_source
from evitif_lab.data.identity import digest_of

sys.path.insert(0, str(Path(__file__).parent))

from small_fashion_mnist import expect, write

BACKGROUND = MovingFashion.mask_names.index('background')


@pytest.fixture
def garments(tmp_path, monkeypatch):
    """A folder of ten garments, where `open_images` looks for Fashion-MNIST."""
    expect(monkeypatch)
    folder = write(tmp_path / 'garments', brightest={'train': 250, 'test': 120})
    monkeypatch.setenv(fashion_mnist.ENVIRONMENT_VARIABLE, str(folder))
    return folder


def assert_same(one, other):
    assert one.class_id == other.class_id and (one.image == other.image).all() and (one.mask == other.mask).all()


def test_a_frame_is_the_same_alone_and_in_its_video(garments):
    video = list(MovingFashion('test').video(2, 80))
    again = MovingFashion('test')
    for number in (79, 3, 40):
        assert_same(again.frame(2, number), video[number])
    assert_same(next(itertools.islice(MovingFashion('test').video(2), 79, None)), video[79])      # without an end


@pytest.mark.parametrize('other', [{'seed': 1}, {'split': 'train', 'rate': 30.0}, {'clip': 3}])
def test_seed_split_and_number_decide_the_clip(garments, other):
    clip = other.pop('clip', 2)
    one, different = MovingFashion('test').frame(2, 5), MovingFashion(**{'split': 'test', **other}).frame(clip, 5)
    assert (one.mask != different.mask).mean() > 0.05


def test_garments_to_judge_by_are_none_of_those_to_train_with(garments, tmp_path):
    before = {split: MovingFashion(split).frame(0, 0).image for split in ('train', 'test')}
    write(garments, brightest={'train': 250, 'test': 200})
    assert (MovingFashion('train').frame(0, 0).image == before['train']).all()
    assert (MovingFashion('test').frame(0, 0).image != before['test']).any()


@pytest.mark.parametrize('size', [64, 96])
def test_the_class_in_view_is_one_of_the_mask_s_and_most_of_what_is_in_the_middle(garments, size):
    dataset = MovingFashion('test', size=size)
    middle = slice(3 * size // 8, 5 * size // 8)
    shares = []
    for clip, number in itertools.product(range(10), (0, 60)):
        image, class_id, mask = dataset.frame(clip, number)
        assert image.shape == (size, size, 3) and image.dtype == mask.dtype == np.uint8 and mask.shape == (size, size)
        assert mask.max() <= BACKGROUND and class_id in mask
        shares.append((mask[middle, middle] == class_id).mean())
    assert np.median(shares) > 0.6


def test_the_mask_is_where_the_garment_is(garments):
    """Where a garment covers the background in one of two clips that differ in nothing else, and nowhere else."""
    one = MovingFashion('test').frame(4, 10)
    write(garments, brightest={'train': 250, 'test': 250})
    changed = (np.abs(MovingFashion('test').frame(4, 10).image.astype(int) - one.image) > 4).any(2)
    assert changed[one.mask == BACKGROUND].mean() < 0.05 and changed[one.mask != BACKGROUND].mean() > 0.5


def test_frames_follow_each_other_smoothly_and_the_view_changes(garments):
    dataset = MovingFashion('test')
    for clip in range(4):
        frames = [dataset.frame(clip, number).image.astype(float) for number in (*range(30), 90)]
        spread = frames[0].var()
        assert max(((a - b)**2).mean() for a, b in itertools.pairwise(frames[:30])) < 0.4 * spread
        assert ((frames[0] - frames[-1])**2).mean() > 0.4 * spread
        assert all((a != b).mean() > 0.3 for a, b in itertools.pairwise(frames[:5]))       # the sensor's noise


def test_it_opens_by_its_name_as_a_data_set_of_clips_in_order(garments):
    test, train = (open_images('Moving_Fashion', split) for split in ('test', 'train'))
    assert is_named('moving_fashion') and judging_split('moving-fashion') == test.split == 'test' and train.split == 'train'
    assert len(test) == 10_000 and len(train) == 60_000
    sample = test[2 * test.length + 5]
    assert_same(sample, test.frame(2, 5))
    assert sample.label == test.class_names[sample.class_id] and sample.name == 'test-0002-00005'
    with pytest.raises(IndexError):
        test[len(test)]


def test_a_camera_plays_clips_in_any_order_and_frames_in_theirs(garments):
    source = open_source('moving-fashion', shuffle=True, seed=3)
    names = [source.next_image().name.rsplit('-', 1) for _ in range(401)]
    assert source.labelled and len({clip for clip, _ in names[:200]}) == 1
    assert [int(number) for _, number in names] == [*range(200), *range(200), 0]
    assert [clip for clip, _ in names[::200]] != ['test-0000', 'test-0001', 'test-0002']


def test_its_identity_tells_other_clips_and_other_garments(garments):
    known = {digest_of(MovingFashion('test')), digest_of(MovingFashion('train')), digest_of(MovingFashion('test', seed=1)),
             digest_of(MovingFashion('test', size=96)), digest_of(MovingFashion('test').garments)}
    assert len(known) == 5 and digest_of(MovingFashion('test')) in known
    write(garments, brightest={'train': 250, 'test': 200})
    assert digest_of(MovingFashion('test')) not in known


@pytest.mark.parametrize('values, sentence', [
    ({'split': 'val'}, "splits train and test, not 'val'"),
    ({'size': 4}, 'size of moving-fashion is 4: expected 16 to 1024'),
    ({'length': -1}, 'length of moving-fashion is -1: expected 1 to'),
    ({'length': 0}, 'length of moving-fashion is 0: expected 1 to'),
    ({'rate': float('nan')}, 'rate of moving-fashion is nan'),
])
def test_a_bad_value_is_named(garments, values, sentence):
    with pytest.raises(DatasetError, match=sentence):
        MovingFashion(**values)


def test_without_fashion_mnist_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv(fashion_mnist.ENVIRONMENT_VARIABLE, str(tmp_path))
    with pytest.raises(DatasetError, match='FASHION_MNIST_DIR.*train-images'):
        open_images('moving-fashion')
