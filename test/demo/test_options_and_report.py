"""What the demo runs unless told otherwise, and the film that it leaves."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageSequence

pytest.importorskip('rclpy', reason='ROS 2 is not installed')
pytest.importorskip('evitif_msgs.msg', reason='the message package is not built: make build')

from sensor_msgs.msg import Image as ImageMessage

from evitif.pictures.ros_images import fill_image
from scripts.demo.options import parse_arguments
from scripts.demo.report import save_film


@pytest.mark.parametrize('words, images, model', [
    ('', 'moving-fashion', 'artifacts/moving_fashion'),
    ('--images fashion-mnist', 'fashion-mnist', 'artifacts/fashion_mnist'),
    ('--images moving_fashion', 'moving_fashion', 'artifacts/moving_fashion'),
    ('--images photographs', 'photographs', 'artifacts/fashion_mnist'),
    ('--strategy selection', 'fashion-mnist', 'artifacts/fashion_mnist'),
    ('--strategy selection --light-model none', 'moving-fashion', 'artifacts/moving_fashion'),
    ('--strategy selection --light-model none --images fashion-mnist', 'fashion-mnist', 'artifacts/fashion_mnist'),
    ('--strategy auto', 'fashion-mnist', 'artifacts/fashion_mnist'),
    ('--strategy partition', 'fashion-mnist', 'artifacts/fashion_mnist'),
    ('--model artifacts/fashion_mnist', 'fashion-mnist', 'artifacts/fashion_mnist'),
    ('--model artifacts/moving_fashion/', 'moving-fashion', 'artifacts/moving_fashion/'),
])
def test_the_model_fits_the_images(words, images, model):
    options = parse_arguments(words.split())
    assert (options.images, options.model) == (images, model)


def test_the_film_is_in_the_order_of_the_stamps(tmp_path):
    pictures = [(stamp, fill_image(ImageMessage(), np.full((40, 60, 3), 50 * stamp, np.uint8))) for stamp in (2, 1, 4, 3)]
    save_film(SimpleNamespace(film=pictures), 10.0, tmp_path / 'film.gif')
    film = Image.open(tmp_path / 'film.gif')
    assert film.size == (30, 20) and film.info['duration'] == 100
    assert [round(np.asarray(frame.convert('RGB')).mean(), -1) for frame in ImageSequence.Iterator(film)] == [50, 100, 150, 200]


def test_without_pictures_there_is_no_film(tmp_path):
    save_film(SimpleNamespace(film=[]), 10.0, tmp_path / 'film.gif')
    assert not (tmp_path / 'film.gif').exists()
