"""Folders of images, labelled or not, and what is said of the ones that are no good."""

import numpy as np
import pytest
from PIL import Image

from evitif.datasets import DatasetError, ImageFolder, open_images
from evitif_lab.data.divide import split_folder


def picture(path, value=100, mode='RGB'):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8, 3), value, np.uint8)).convert(mode).save(path)


def test_classes_are_the_folders_in_order(tmp_path):
    for name in ('b/2.png', 'b/1.png', 'a/deep/3.jpg'):
        picture(tmp_path / name)
    folder = ImageFolder(tmp_path)
    assert folder.class_names == ('a', 'b')
    assert [(folder[i].class_id, folder[i].label, folder[i].name) for i in range(3)] == [
        (0, 'a', 'a/deep/3.jpg'), (1, 'b', 'b/1.png'), (1, 'b', 'b/2.png')]
    assert folder[1].image.shape == (6, 8, 3)
    assert folder[1].image.dtype == np.uint8


def test_the_list_of_imagenets_classes_is_timms():
    from evitif.datasets.imagenet import wordnet_ids
    from evitif.model.timm_import import timm
    assert wordnet_ids() == tuple(timm.data.ImageNetInfo().label_names())


def test_wordnet_ids_are_imagenets_classes_not_ranks(tmp_path):
    for name in ('n01443537', 'n02123045'):  # goldfish, tabby
        picture(tmp_path / name / 'x.png')
    folder = ImageFolder(tmp_path)
    assert [sample.class_id for sample in (folder[0], folder[1])] == [1, 281]
    assert folder.class_names[281] == 'n02123045'


def test_a_flat_folder_has_no_labels(tmp_path):
    picture(tmp_path / 'x.png', mode='L')
    folder = ImageFolder(tmp_path)
    assert (folder[0].class_id, folder[0].label, folder.class_names) == (-1, '', ())
    assert folder[0].image.shape == (6, 8, 3)


def test_splits_are_folders_of_that_name(tmp_path):
    picture(tmp_path / 'train/a/x.png')
    picture(tmp_path / 'val/a/y.png')
    assert open_images(str(tmp_path), 'train')[0].name == 'a/x.png'
    assert open_images(str(tmp_path), 'test')[0].name == 'a/y.png'
    with pytest.raises(DatasetError, match="not 'dev'"):
        open_images(str(tmp_path), 'dev')


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(DatasetError, match="'/nowhere/at/all' does not exist"):
        ImageFolder('/nowhere/at/all')
    with pytest.raises(DatasetError, match='holds no image'):
        ImageFolder(tmp_path)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DatasetError, match='empty holds no image'):
        ImageFolder(tmp_path)


def test_an_unreadable_image_is_named(tmp_path):
    (tmp_path / 'bad.jpg').write_bytes(b'not a picture')
    with pytest.raises(DatasetError, match='bad.jpg: cannot be read'):
        ImageFolder(tmp_path)[0]


def test_classes_are_numbered_as_a_model_numbers_them(tmp_path):
    for name in ('n02123045', 'n01443537'):
        (tmp_path / name).mkdir()
        Image.new('RGB', (4, 4)).save(tmp_path / name / 'x.png')
    assert [sample.class_id for sample in (ImageFolder(tmp_path, ranked=True)[i] for i in (0, 1))] == [0, 1]
    folder = ImageFolder(tmp_path, class_names=('n02123045', 'else', 'n01443537'))
    assert [(folder[i].class_id, folder[i].label) for i in (0, 1)] == [(2, 'n01443537'), (0, 'n02123045')]
    with pytest.raises(DatasetError, match="'n01443537' is none of the model's 1 classes"):
        ImageFolder(tmp_path, class_names=('n02123045',))


def test_a_folder_is_divided_the_same_way_every_time(tmp_path):
    for index in range(7):
        (tmp_path / 'all' / f'c{index % 2}').mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (4, 4), (index, 0, 0)).save(tmp_path / 'all' / f'c{index % 2}' / f'{index}.png')
    assert split_folder(tmp_path / 'all', tmp_path / 'a', 3) == {'train': 5, 'val': 2}
    split_folder(tmp_path / 'all', tmp_path / 'b', 3)
    parts = [{str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob('*.png')} for name in 'ab']
    assert parts[0] == parts[1] and len(parts[0]) == 7
    for every, folder, output in ((1, 'all', 'c'), (3, 'none', 'c'), (3, 'all', 'a')):
        with pytest.raises(DatasetError):
            split_folder(tmp_path / folder, tmp_path / output, every)
