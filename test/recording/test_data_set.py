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
