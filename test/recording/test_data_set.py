"""A recording as a data set: its parts by time, its labels, and runs of frames that follow one another."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from evitif.datasets import DatasetError, judging_split, open_images, recorded_paths

sys.path.insert(0, str(Path(__file__).parent))
from bags import frames, message_of, stamp_of, store_of, write_bag

from evitif.image_transports import IMAGE


def test_the_first_part_trains_and_the_last_judges_and_what_lies_between_does_neither(tmp_path):
    images = frames(40)
    bag = str(write_bag(tmp_path / 'rover', 'mcap', images))
    said: list[str] = []
    training, judging = open_images(bag, 'train', say=said.append), open_images(bag, 'test', say=said.append)
    assert (training.split, judging.split, judging_split(bag)) == ('train', 'test', 'test')
    assert len(training) == 30 and len(judging) == 8
    assert all(np.array_equal(training[index].image, images[index]) for index in (0, 29))
    assert np.array_equal(judging[0].image, images[32]) and np.array_equal(judging[7].image, images[39])
    assert 'first three quarters' in said[0] and 'last fifth' in said[1]
    assert training[0].class_id == -1 and training.class_names == ()


def test_pictures_that_hardly_differ_are_left_out_and_counted(tmp_path):
    images = [image for image in frames(5) for _ in range(4)]
    said: list[str] = []
    assert len(open_images(str(write_bag(tmp_path / 'rover', 'sqlite3', images)), 'train', say=said.append)) == 4
    assert any('hardly differ' in sentence for sentence in said)


def test_labels_come_from_their_topic(tmp_path):
    from rosbags.rosbag2 import StoragePlugin, Writer
    kind, store = 'evitif_msgs/msg/LabelStamped', store_of('mcap')
    with Writer(tmp_path / 'rover', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        pictures, labels = (writer.add_connection(topic, type_, typestore=store) for topic, type_ in (('/image', IMAGE), ('/label', kind)))
        for index, image in enumerate(frames(8)):
            picture = message_of(store, 'mcap', IMAGE, index, image)
            writer.write(pictures, stamp_of(index), store.serialize_cdr(picture, IMAGE))
            label = store.types[kind](header=picture.header, class_id=index % 2, label=('cat', 'dog')[index % 2])
            writer.write(labels, stamp_of(index), store.serialize_cdr(label, kind))
    images = open_images(str(tmp_path / 'rover'), 'train')
    assert images.class_names == ('cat', 'dog')
    assert [(images[index].class_id, images[index].label) for index in range(3)] == [(0, 'cat'), (1, 'dog'), (0, 'cat')]


@pytest.mark.parametrize(('content', 'expected'), [
    ('time,label\n0,hall\n0.1,\n0.2,kitchen\n', ['hall'] * 4 + ['kitchen'] * 23),
    ('frame,label\n0,hall\n2, kitchen\n29,hall\n', ['hall', 'kitchen', 'hall'])])
def test_labels_come_from_a_file_and_images_without_one_are_left_out(tmp_path, content, expected):
    images, path = frames(40), tmp_path / 'labels.csv'
    path.write_text(content)
    training = open_images(str(write_bag(tmp_path / 'rover', 'mcap', images)), 'train', labels=str(path))
    assert training.class_names == ('hall', 'kitchen')
    assert [training[index].label for index in range(len(training))] == expected
    assert np.array_equal(training[len(training) - 1].image, images[29])


def test_the_part_that_judges_has_the_labels_of_its_own_frames(tmp_path):
    path = tmp_path / 'labels.csv'
    path.write_text('frame,label\n33,hall\n39,kitchen\n')
    judging = open_images(str(write_bag(tmp_path / 'rover', 'sqlite3', frames(40))), 'test', labels=str(path))
    assert [judging[index].label for index in range(len(judging))] == ['hall', 'kitchen']


@pytest.mark.parametrize(('content', 'words'), [
    ('', 'expected a first line time,label'), ('when,what\n0,a\n', "begin with 'when,what'"), ('time,label\n', 'have no label'),
    ('time,label\n-1,a\n', "line 2: expected time,label, got '-1,a'"), ('frame,label\n1.5,a\n', 'line 2'),
    ('time,label\n0,a,b\n', 'line 2'),
    ('time,label\n0,a\n0,b\n', 'time 0 has two labels')])
def test_bad_labels_get_a_sentence(tmp_path, content, words):
    path = tmp_path / 'labels.csv'
    path.write_text(content)
    bag = str(write_bag(tmp_path / 'rover', 'mcap', frames(3)))
    with pytest.raises(DatasetError) as error:
        open_images(bag, 'train', labels=str(path))
    assert words in str(error.value) and str(path) in str(error.value)
    with pytest.raises(DatasetError, match='no recording'):
        open_images('fashion-mnist', 'train', labels=str(path))


def test_a_bag_is_gone_through_once_before_its_images_are_read(tmp_path, monkeypatch):
    from evitif.recording.bag import Bag
    bag, passes, records = str(write_bag(tmp_path / 'rover', 'mcap', frames(20))), [], Bag.records
    monkeypatch.setattr(Bag, 'records', lambda self, *of: passes.append(1) or records(self, *of))
    assert len(list(recorded_paths(bag, 2, 4))) == 2
    assert len(passes) == 2


def test_runs_of_frames_follow_one_another(tmp_path):
    images = frames(40)
    bag = str(write_bag(tmp_path / 'rover', 'mcap', images))
    runs = list(recorded_paths(bag, 5, 4))
    assert len(runs) == 5 and all(len(run) == 4 for run in runs)
    for run in runs:
        first = next(index for index, image in enumerate(images) if np.array_equal(image, run[0]))
        assert first + 3 < 30 and all(np.array_equal(found, images[first + index]) for index, found in enumerate(run))
    with pytest.raises(DatasetError, match='expected at least 31'):
        list(recorded_paths(bag, 5, 31))


def test_what_is_wrong_with_a_recording_is_said_as_for_any_data_set(tmp_path):
    (tmp_path / 'rover.mcap').write_bytes(b'\x89MCAP0\r\n')
    with pytest.raises(DatasetError, match='rover.mcap cannot be read'):
        open_images(str(tmp_path / 'rover.mcap'))
