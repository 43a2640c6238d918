"""Two classes of one name are never taken for one another."""


import numpy as np
import pytest
from PIL import Image

from evitif.datasets import DatasetError
from evitif.datasets.class_names import ids_by_name, told_apart
from evitif.datasets.image_folder import ImageFolder
from scripts.demo.class_ids import id_of

NAMES = ('ant', 'crane', 'bee', 'crane')


@pytest.mark.parametrize(('name', 'number', 'expected'), [
    ('bee', 0, 2), ('crane', 1, 1), ('crane', 3, 3), ('crane', 0, -1), ('crane', -1, -1), ('cat', 1, -1)])
def test_the_number_decides_among_classes_of_one_name_and_only_there(name, number, expected):
    assert id_of(name, number, ids_by_name(NAMES)) == expected


def test_people_see_the_id_behind_a_name_that_two_classes_have():
    assert told_apart(NAMES) == ('ant', 'crane (1)', 'bee', 'crane (3)')


def test_a_folder_that_may_be_either_class_is_refused(tmp_path):
    for name in ('ant', 'crane'):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name / '1.png')
    with pytest.raises(DatasetError, match="class folder 'crane' may be any of the model's classes 1, 3"):
        ImageFolder(tmp_path, NAMES)
    assert ImageFolder(tmp_path, ('crane', 'ant')).items[0][1] == 1


def test_the_demo_counts_classes_and_not_names():
    messages = pytest.importorskip('evitif_msgs.msg', reason='the messages are not built')
    from scripts.demo.summary import predicted_classes
    answers = [messages.Prediction(labels=[label], class_ids=[class_id]) for label, class_id in (
        ('crane', 1), ('crane', 3), ('crane', 3), ('ant', 0))]
    assert predicted_classes(answers) == {'crane (3)': 2, 'crane (1)': 1, 'ant': 1}
