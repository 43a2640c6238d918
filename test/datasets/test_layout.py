"""Folders that are divided, in whatever case, folders that are not, and what is refused."""

from __future__ import annotations

import pytest
from PIL import Image

from evitif.datasets import DatasetError, judging_split, open_images


def fill(root, *folders):
    for folder in folders:
        (root / folder).mkdir(parents=True)
        Image.new('RGB', (8, 6)).save(root / folder / 'x.png')
    return str(root)


@pytest.mark.parametrize('train', ['train', 'Train', 'TRAIN', 'training', 'Training'])
@pytest.mark.parametrize('judging, split', [('val', 'val'), ('Val', 'val'), ('valid', 'val'), ('Validation', 'val'), ('test', 'test'),
                                            ('Test', 'test'), ('Testing', 'test')])
def test_known_divisions(tmp_path, train, judging, split):
    source = fill(tmp_path, f'{train}/cat', f'{train}/dog', f'{judging}/cat', f'{judging}/dog')
    for name, expected in (('train', 'train'), ('test', split)):
        dataset = open_images(source, name)
        assert dataset.class_names == ('cat', 'dog') and dataset.split == expected
    assert dataset.folder == tmp_path / judging and judging_split(source) == split


def test_a_test_folder_judges_where_there_is_a_val_folder_too(tmp_path):
    said = []
    source = fill(tmp_path, 'train/a', 'valid/a', 'test/a')
    assert open_images(source, 'test', say=said.append).split == 'test'
    assert said == [f'{tmp_path}: judged by test/, not by valid/']


def test_a_folder_that_is_not_divided_says_so(tmp_path):
    source = fill(tmp_path, 'cat', 'dog')
    assert [open_images(source, split).split for split in ('train', 'test')] == ['all', 'all'] and judging_split(source) == 'all'


@pytest.mark.parametrize('folders, split, lacking', [
    (['train/cat', 'train/dog'], 'test', 'val/ or test/'), (['Train/cat', 'models/cat'], 'test', 'val/ or test/'),
    (['val/cat', 'val/dog'], 'train', 'train/')])
def test_a_part_that_is_not_there_is_refused_and_the_way_out_named(tmp_path, folders, split, lacking):
    with pytest.raises(DatasetError, match=f'no {lacking}.*evitif divide'):
        open_images(fill(tmp_path, *folders), split)


@pytest.mark.parametrize('folders', [
    ['training_set/cat', 'training_set/dog', 'test_set/cat'], ['Train images/cat', 'Test images/cat'], ['fold1/cat', 'fold2/cat'],
    ['train2017', 'val2017'], ['my-train/cat', 'my-dev/cat', 'other/cat'], ['split_0/cat']])
def test_unknown_divisions_are_refused_and_the_way_out_named(tmp_path, folders):
    for split in ('train', 'test'):
        with pytest.raises(DatasetError, match='look like parts of a data set.*evitif divide'):
            open_images(fill(tmp_path / split, *folders), split)


@pytest.mark.parametrize('folders', [
    ['bus', 'car', 'Train'], ['test', 'control'], ['valid', 'invalid'], ['test tube', 'beaker'], ['validated', 'rejected'],
    ['n01443537/images', 'n02123045/images'], ['detest', 'contest', 'retrain']])
def test_classes_with_such_names_are_classes(tmp_path, folders):
    dataset = open_images(fill(tmp_path, *folders), 'test')
    assert len(dataset.class_names or ()) in (len(folders), 1000) and dataset.split == 'all'


def test_two_folders_for_one_part_are_refused(tmp_path):
    with pytest.raises(DatasetError, match='has Train/ and training/'):
        open_images(fill(tmp_path, 'Train/a', 'training/a', 'val/a'), 'train')


def test_fashion_mnist_has_a_test():
    assert judging_split('fashion_mnist') == 'test'
