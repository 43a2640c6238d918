"""Which files and folders count, through links and whatever systems put beside them, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evitif.datasets import DatasetError, ImageFolder, open_images
from evitif_cli import main
from evitif_lab.data.divide import split_folder


def picture(path: Path, value: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (8, 6), (value, 0, 0)).save(path)
    return path


def names(dataset) -> list[str]:
    return [dataset[index].name for index in range(len(dataset))]


def test_linked_folders_are_classes_and_parts_of_classes(tmp_path):
    picture(tmp_path / 'all/a/1.png')
    picture(tmp_path / 'elsewhere/b/2.png')
    picture(tmp_path / 'elsewhere/more/deep/3.png')
    (tmp_path / 'all/b').symlink_to(tmp_path / 'elsewhere/b')
    (tmp_path / 'all/a/more').symlink_to('../../elsewhere/more')
    assert names(ImageFolder(tmp_path / 'all')) == ['a/1.png', 'a/more/deep/3.png', 'b/2.png']
    assert split_folder(tmp_path / 'all', tmp_path / 'out', 3) == {'train': 2, 'val': 1}
    assert (tmp_path / 'out/val/b/2.png').is_file()
    (tmp_path / 'linked').symlink_to(tmp_path / 'all')
    assert len(ImageFolder(tmp_path / 'linked')) == 3


def test_two_classes_may_share_a_folder_and_a_circle_ends(tmp_path):
    picture(tmp_path / 'shared/1.png')
    picture(tmp_path / 'all/c/2.png')
    for name in 'ab':
        (tmp_path / 'all' / name).symlink_to(tmp_path / 'shared')
    (tmp_path / 'all/c/up').symlink_to(tmp_path / 'all')
    (tmp_path / 'all/c/self').symlink_to('.')
    assert names(ImageFolder(tmp_path / 'all'))[:2] == ['a/1.png', 'b/1.png']
    (tmp_path / 'all/c/up').unlink()
    assert names(ImageFolder(tmp_path / 'all')) == ['a/1.png', 'b/1.png', 'c/2.png']


def test_a_link_that_leads_nowhere_is_named_and_not_dropped(tmp_path):
    picture(tmp_path / 'a/1.png')
    (tmp_path / 'a/2.png').symlink_to(tmp_path / 'gone.png')
    folder = ImageFolder(tmp_path)
    assert len(folder) == 2
    with pytest.raises(DatasetError, match='a/2.png: cannot be read as an image: No such file'):
        folder[1]


def test_hidden_files_and_systems_folders_are_no_images_and_no_classes(tmp_path):
    picture(tmp_path / 'a/1.png')
    picture(tmp_path / 'b/2.png')
    for name in ('a/._1.png', 'a/.ipynb_checkpoints/1-checkpoint.png', 'a/@eaDir/1.png', '.thumbnails/1.png', '__MACOSX/a/._1.png',
                 '__MACOSX/x.png', '@eaDir/3.png', '$RECYCLE.BIN/4.png', 'lost+found/5.png', '.git/6.png'):
        picture(tmp_path / name)
    for name in ('.DS_Store', 'a/Thumbs.db', 'a/desktop.ini', 'a/notes.txt'):
        (tmp_path / name).write_bytes(b'x')
    folder = ImageFolder(tmp_path)
    assert folder.class_names == ('a', 'b') and names(folder) == ['a/1.png', 'b/2.png']
    assert split_folder(tmp_path, tmp_path.parent / f'{tmp_path.name}-out', 2) == {'train': 1, 'val': 1}


def test_a_hidden_folder_that_is_named_is_opened(tmp_path):
    picture(tmp_path / '.cache/a/1.png')
    assert len(ImageFolder(tmp_path / '.cache')) == 1


def test_other_kinds_of_images_are_counted_in_one_sentence(tmp_path):
    picture(tmp_path / 'a/1.png')
    for name in ('a/2.heic', 'a/3.HEIC', 'a/4.jxl', 'a/5.CR2', 'a/labels.txt'):
        (tmp_path / name).write_bytes(b'x')
    said = []
    assert len(ImageFolder(tmp_path, say=said.append)) == 1
    assert len(said) == 1 and '1 .cr2, 2 .heic, 1 .jxl' in said[0] and str(tmp_path) in said[0]


def test_a_class_of_nothing_else_says_so(tmp_path):
    picture(tmp_path / 'a/1.png')
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b/2.heic').write_bytes(b'x')
    with pytest.raises(DatasetError, match='b holds no image, only 1 .heic'):
        ImageFolder(tmp_path)


def test_what_is_said_is_said_once_and_on_stderr(tmp_path, capsys):
    picture(tmp_path / 'a/1.png')
    (tmp_path / 'a/2.heic').write_bytes(b'x')
    for _ in range(2):
        open_images(str(tmp_path))
    captured = capsys.readouterr()
    assert captured.out == '' and captured.err.count('1 .heic') == 1


def test_gif_is_read_and_images_beside_classes_are_said(tmp_path):
    picture(tmp_path / 'a/1.gif', 255)
    picture(tmp_path / '2.png')
    said = []
    folder = ImageFolder(tmp_path, say=said.append)
    assert names(folder) == ['a/1.gif'] and folder[0].image[0, 0].tolist() == [255, 0, 0]
    assert '1 images that lie beside the class folders' in said[0]


BROKEN = {'p.ppm': b'P6\n24 2', 'header.png': b'\x89PNG\r\n\x1a\n\0\0\0\x0cIHDR' + bytes(16), 'lfs.jpg': b'version https://git-lfs',
          'e.webp': b'',
          'b.bmp': b'BM', 't.tiff': b'II*\0\xff\xff\xff\xff', 'g.gif': b'GIF89a'}


@pytest.mark.parametrize('name', BROKEN)
def test_a_broken_file_is_one_error_with_its_name(tmp_path, name):
    (tmp_path / name).write_bytes(BROKEN[name])
    with pytest.raises(DatasetError, match=rf'{name}: cannot be read as an image: \w'):
        ImageFolder(tmp_path)[0]


def test_a_link_to_itself_is_named(tmp_path):
    (tmp_path / 'loop.png').symlink_to('loop.png')
    with pytest.raises(DatasetError, match='loop.png: cannot be read as an image'):
        ImageFolder(tmp_path)[0]


def test_split_says_what_it_leaves_out(tmp_path, capsys):
    picture(tmp_path / 'in/a/1.png')
    picture(tmp_path / 'in/a/2.png')
    (tmp_path / 'in/a/3.heic').write_bytes(b'x')
    assert main(['divide', str(tmp_path / 'in'), str(tmp_path / 'out'), '--every', '2']) == 0
    captured = capsys.readouterr()
    assert '1 images to train, 1 to judge by' in captured.out and '1 .heic' in captured.err
    assert main(['divide', str(tmp_path / 'out'), str(tmp_path / 'again')]) == 1
    assert 'is divided already: it has train/, val/' in capsys.readouterr().err


def wide(path: Path, highest: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.linspace(0, highest, 48).astype(np.uint16).reshape(6, 8)).save(path)
    return path


def test_all_images_of_a_data_set_are_scaled_alike_whichever_is_read_first(tmp_path):
    for split in ('train', 'val'):
        wide(tmp_path / split / 'a/dark.png', 900)
        picture(tmp_path / split / 'b/usual.png')
    wide(tmp_path / 'train/a/bright.png', 4095)
    said = []
    train, val = (open_images(str(tmp_path), split, say=said.append) for split in ('train', 'test'))
    assert val[0].image.max() == 900 >> 4                   # as dark as in the training images
    assert [train[index].image.max() for index in (1, 0)] == [900 >> 4, 255]
    assert train.significant_bits == val.significant_bits == 12
    assert '12 are significant' in said[0] and '3 of them' in said[0]
    assert open_images(str(tmp_path), 'test', significant_bits=10)[0].image.max() == 900 >> 2


def test_a_folder_and_its_copy_in_16_bits_are_the_same_pictures(tmp_path):
    random = np.random.default_rng(0)
    for index in range(3):
        grey = random.integers(0, 256, (6, 8), np.uint8)
        grey[0, 0] = 255
        for name, image in (('eight', grey), ('sixteen', grey.astype(np.uint16) * 257)):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / name / f'{index}.png')
    eight, sixteen = (ImageFolder(tmp_path / name) for name in ('eight', 'sixteen'))
    for index in range(3):
        np.testing.assert_array_equal(eight[index].image, sixteen[index].image)
