"""Bags of all formats give the same images and stamps; those that are damaged give what is there and a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evitif.image_transports import COMPRESSED, FFMPEG, FOXGLOVE, IMAGE
from evitif.recording import Recording, RecordingError, is_recording, split_source
from evitif.recording.bag import open_bag

sys.path.insert(0, str(Path(__file__).parent))
from bags import DELAY_NS, FORMATS, TOPICS, cut, frames, message_of, stamp_of, store_of, write_bag, write_sparse_bag

LOSS = {IMAGE: 0, COMPRESSED: 4, FFMPEG: 10, FOXGLOVE: 10}          # mean absolute difference of 8-bit samples


def read(source, say=None, **options) -> list:
    with Recording.open(str(source), say=say or (lambda sentence: pytest.fail(sentence))) as recording:
        return list(recording.images(**options))


@pytest.mark.parametrize('format', FORMATS)
@pytest.mark.parametrize('kind', LOSS)
def test_each_format_and_each_kind_of_message_gives_the_same_images(tmp_path, format, kind):
    images = frames()
    bag = write_bag(tmp_path / ('rover.bag' if format == 'ros1' else 'rover'), format, images, (kind,))
    found = read(bag)
    assert [image.stamp_ns for image in found] == [stamp_of(index) for index in range(len(images))]
    assert [image.received_ns for image in found] == [stamp_of(index) + DELAY_NS for index in range(len(images))]
    assert {image.frame_id for image in found} == {'camera'}
    for image, given in zip(found, images, strict=True):
        assert image.image.shape == given.shape
        assert np.abs(image.image.astype(int) - given).mean() <= LOSS[kind]


def test_a_bag_that_is_taken_away_while_it_is_read_gives_what_was_read_and_a_sentence(tmp_path):
    bag = cut(write_sparse_bag(tmp_path / 'rover.mcap', 12, 48, 64), 0.9)
    with Recording.open(str(bag), say=lambda sentence: None) as recording:
        images = recording.images()
        first = next(images)
        bag.rename(tmp_path / 'gone.mcap')
        assert first.number == 0 and len(list(images)) > 5      # the file that is open stays
        with pytest.raises(RecordingError, match='cannot be read any more after 0 messages: No such file'):
            next(recording.images())


def test_stamps_and_clocks_that_jump_back_are_as_recorded(tmp_path):
    images, store = frames(6), store_of('mcap')
    from rosbags.rosbag2 import StoragePlugin, Writer
    with Writer(tmp_path / 'rover', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/image', IMAGE, typestore=store)
        for at, of in enumerate((3, 4, 5, 0, 1, 2)):        # ten thousand a second
            message = message_of(store, 'mcap', IMAGE, of, images[of])
            writer.write(connection, stamp_of(0) + 100_000 * at, store.serialize_cdr(message, IMAGE))
    found = read(tmp_path / 'rover')
    assert [image.stamp_ns for image in found] == [stamp_of(of) for of in (3, 4, 5, 0, 1, 2)]
    assert [image.received_ns - stamp_of(0) for image in found] == [100_000 * at for at in range(6)]


READ = '''
import resource, sys
from evitif.recording import Recording
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with Recording.open(sys.argv[1]) as recording:
    first, last, count = recording.extent()
    seen = sum(1 for image in recording.images(every=int(sys.argv[2])) if image.image.shape == (1080, 1920, 3))
print(count, seen, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
'''


def test_memory_is_bounded_however_large_a_bag_is(tmp_path):
    """`LARGE_BAG_MESSAGES=3300` makes it 20 GB."""
    messages = int(os.environ.get('LARGE_BAG_MESSAGES', '150'))
    bag = write_sparse_bag(tmp_path / 'large.mcap', messages)
    assert bag.stat().st_size > messages * 6_000_000
    done = subprocess.run([sys.executable, '-c', READ, str(bag), '75'], capture_output=True, text=True, check=True)
    count, seen, grown_mib = map(int, done.stdout.split())
    assert (count, seen) == (messages, messages // 75) and grown_mib < 150


@pytest.mark.parametrize('compression', ['file', 'message', 'storage'])
@pytest.mark.parametrize('format', ['mcap', 'sqlite3'])
def test_compressed_bags_are_read(tmp_path, format, compression):
    if (format, compression) == ('sqlite3', 'storage'):
        pytest.skip('sqlite3 has no compression of its own')
    images = frames(4)
    bag = write_bag(tmp_path / 'rover', format, images, compression=compression)
    assert all(np.array_equal(image.image, given) for image, given in zip(read(bag), images, strict=True))


def test_a_file_of_a_bag_is_read_without_its_folder(tmp_path):
    bag = write_bag(tmp_path / 'rover', 'mcap', frames(3))
    assert len(read(next(bag.glob('*.mcap')))) == 3


def test_a_part_of_a_recording_and_every_nth_image(tmp_path):
    bag = write_bag(tmp_path / 'rover', 'mcap', frames(12), (IMAGE, FFMPEG))
    for kind in (IMAGE, FFMPEG):
        source = f'{bag}:{TOPICS[kind]}'
        assert [image.stamp_ns for image in read(source, start_s=0.1, duration_s=0.2)] == [stamp_of(index) for index in range(4, 10)]
        assert len(read(source, every=5)) == 3


def test_the_raw_topic_is_taken_where_a_camera_has_several_transports(tmp_path):
    bag = write_bag(tmp_path / 'rover', 'mcap', frames(2), (COMPRESSED, IMAGE))
    with Recording.open(str(bag)) as recording:
        assert recording.topic.name == TOPICS[IMAGE]


def test_a_topic_may_be_named_without_its_slash(tmp_path):
    bag = write_bag(tmp_path / 'rover', 'mcap', frames(2), (COMPRESSED, IMAGE))
    assert len(read(f'{bag}:camera/image_raw/compressed')) == 2
    assert split_source(f'{bag}:/camera/image_raw') == (bag, '/camera/image_raw')


@pytest.mark.parametrize('format', FORMATS)
def test_a_bag_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path, format):
    images = frames(400)
    bag = write_bag(tmp_path / ('rover.bag' if format == 'ros1' else 'rover'), format, images)
    file = bag if format == 'ros1' else next(path for path in bag.iterdir() if path.suffix in ('.mcap', '.db3'))
    cut(file, 0.7)
    if format != 'ros1':
        (bag / 'metadata.yaml').unlink()
    said: list[str] = []
    found = read(bag, said.append)
    assert 100 <= len(found) < 400
    assert all(np.array_equal(image.image, given) for image, given in zip(found, images, strict=False))
    assert any('cut off' in sentence or 'damaged' in sentence for sentence in said), said


@pytest.mark.parametrize(('content', 'expected'), [
    (b'', 'no bag'), (b'\x89MCAP0\r\n', 'cannot be read'), (b'#ROSBAG V2.0\n', 'cannot be read'), (b'hello', 'no bag'),
    (b'SQLite format 3\0' + bytes(200), 'cannot be read'), (b'\x28\xb5\x2f\xfd' + bytes(30), 'compressed file of a bag')])
def test_what_is_no_bag_is_refused_in_a_sentence(tmp_path, content, expected):
    suffix = {b'#': '.bag', b'S': '.db3'}.get(content[:1], '.mcap')
    path = tmp_path / f'rover{suffix}'
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=expected) as raised:
        Recording.open(str(path))
    assert str(path) in str(raised.value)


def test_what_is_in_a_bag_without_images_is_said(tmp_path):
    from bags import store_of
    from rosbags.rosbag2 import StoragePlugin, Writer
    store = store_of('mcap')
    with Writer(tmp_path / 'rover', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/chatter', 'std_msgs/msg/String', typestore=store)
        writer.write(connection, 1, store.serialize_cdr(store.types['std_msgs/msg/String']('hello'), 'std_msgs/msg/String'))
    with pytest.raises(RecordingError, match=r'no topic of images.*/chatter \(std_msgs/msg/String\)'):
        Recording.open(str(tmp_path / 'rover'))
    with pytest.raises(RecordingError, match=r'/chatter is a std_msgs/msg/String'):
        Recording.open(f'{tmp_path / "rover"}:/chatter')
    with pytest.raises(RecordingError, match=r"no topic '/camera'.*/chatter"):
        Recording.open(f'{tmp_path / "rover"}:/camera')


def test_damaged_images_are_left_out_and_named(tmp_path):
    from bags import message_of, store_of
    from rosbags.rosbag2 import StoragePlugin, Writer
    store = store_of('mcap')
    with Writer(tmp_path / 'rover', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/camera', COMPRESSED, typestore=store)
        for index, image in enumerate(frames(3)):
            data = store.serialize_cdr(message_of(store, 'mcap', COMPRESSED, index, image), COMPRESSED)
            writer.write(connection, stamp_of(index), data[:len(data) // 2] if index == 1 else data)
    said: list[str] = []
    assert len(read(tmp_path / 'rover', said.append)) == 2
    assert len(said) == 1 and 'image 1 is left out' in said[0]


def test_packets_before_a_key_frame_are_left_out_and_counted(tmp_path):
    from bags import h264, message_of, store_of
    from rosbags.rosbag2 import StoragePlugin, Writer
    store, images = store_of('mcap'), frames(12)
    packets = h264(images, 6)
    with Writer(tmp_path / 'rover', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection('/camera', FOXGLOVE, typestore=store)
        for index, image in enumerate(images[2:], 2):
            writer.write(connection, stamp_of(index), store.serialize_cdr(message_of(store, 'mcap', FOXGLOVE, index, image, packets[index]),
                                                                          FOXGLOVE))
    said: list[str] = []
    assert [image.stamp_ns for image in read(tmp_path / 'rover', said.append)] == [stamp_of(index) for index in range(6, 12)]
    assert any('4 packets that come before a key frame' in sentence for sentence in said)


def test_a_folder_of_images_is_no_recording(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'')
    assert not is_recording(str(tmp_path))
    assert not is_recording('fashion-mnist')
    with pytest.raises(RecordingError, match='does not exist'):
        open_bag(tmp_path / 'none.mcap', print)
