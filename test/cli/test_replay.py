"""`evitif replay` plays a bag through edge and bridge and leaves a bag and a film that others can open."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip('torch')
sys.path.insert(0, str(Path(__file__).parents[1] / 'recording'))
from bags import cut, frames, stamp_of, write_bag, write_sparse_bag

from evitif.recording import RecordedImage, Recording
from evitif.recording.bag import open_bag
from evitif_cli.main import main
from evitif_lab.replay.output import Output
from evitif_lab.replay.player import Player

MODEL = str(Path(__file__).parents[2] / 'artifacts' / 'fashion_mnist')
COUNT = 8
# On a machine that stands still for seconds.
PATIENT = ['--set', 'answer_deadline=20', '--set', 'link_timeout=60', '--set', 'session_timeout=60']


@pytest.fixture(scope='module')
def replayed(tmp_path_factory):
    folder = tmp_path_factory.mktemp('replay')
    bag = write_bag(folder / 'rover', 'mcap', frames(COUNT))
    assert main(['replay', str(bag), '--model', MODEL, '--loss', '0.3', '--wait', '--output', str(folder / 'out'),
                 *PATIENT, '--set', 'answer_memory=0']) == 0
    return folder / 'out'


def answered(folder: Path) -> list[int]:
    with open_bag(folder / 'replay', pytest.fail) as bag:
        return [record.received_ns for record in bag.records(['/evitif/prediction'])]


def test_the_bag_has_the_answers_at_the_times_of_their_images(replayed):
    with open_bag(replayed / 'replay', pytest.fail) as bag:
        assert {topic.kind for topic in bag.topics.values()} >= {'evitif_msgs/msg/Prediction', 'sensor_msgs/msg/CompressedImage'}
        answers = [bag.message(record.topic, record.data) for record in bag.records(['/evitif/prediction'])]
        times = [record.received_ns for record in bag.records(['/evitif/prediction'])]
    # Of a frame everything may be lost, and then there is no answer.
    assert len(times) > COUNT // 2 and times == sorted(set(times)) and set(times) <= {stamp_of(index) for index in range(COUNT)}
    assert all(answer.strategy == 'split' and len(answer.labels) == len(answer.scores) > 0 for answer in answers)
    assert all(answer.tokens_received <= answer.tokens_sent for answer in answers)


def test_images_and_annotated_pictures_can_be_read_again(replayed):
    with Recording.open(f'{replayed / "replay"}:/camera/image_raw/compressed') as recording:
        for image, given in zip(recording.images(), frames(COUNT), strict=True):
            assert np.abs(image.image.astype(int) - given).mean() < 8
    pytest.importorskip('av', reason='H.264 needs PyAV (requirements/video.txt)')
    with Recording.open(f'{replayed / "replay"}:/evitif/annotated_image', say=pytest.fail) as recording:
        assert [image.stamp_ns for image in recording.images()] == answered(replayed)


def test_the_film_has_a_picture_for_each_answer(replayed):
    film, count = cv2.VideoCapture(str(replayed / 'annotated.mp4')), 0
    while film.read()[0]:
        count += 1
    assert count == len(answered(replayed))


def test_the_layout_for_foxglove_shows_topics_that_are_there(replayed):
    layout = json.loads((Path(__file__).parents[2] / 'foxglove' / 'evitif.json').read_text())
    named = {tuple(path['value'].split('.')) for panel in layout['configById'].values() for path in panel.get('paths', [])}
    with open_bag(replayed / 'replay', pytest.fail) as bag:
        record = next(iter(bag.records(['/evitif/prediction'])))
        message = bag.message(record.topic, record.data)
    assert named and all(topic == '/evitif/prediction' and hasattr(message, field) for topic, field in named)


def test_the_answers_to_a_bag_that_is_taken_away_are_kept(tmp_path, monkeypatch):
    bag = cut(write_sparse_bag(tmp_path / 'rover.mcap', 5, 48, 64), 0.95)
    play = Player.play

    def then_gone(self, *arguments):
        played = play(self, *arguments)
        bag.unlink()
        return played
    monkeypatch.setattr(Player, 'play', then_gone)
    assert main(['replay', str(bag), '--model', MODEL, '--wait', '--output', str(tmp_path / 'out'), *PATIENT]) == 1
    assert len(answered(tmp_path / 'out')) == 4


def test_what_was_written_before_the_disk_was_full_can_be_read(tmp_path):
    random, written = np.random.default_rng(0), 0
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, limits[1]))       # of one file; what it raises is what a full disk raises
    try:
        with pytest.raises(OSError), Output(tmp_path, '/camera', lambda prediction: prediction.image, 10) as output:
            for written in range(1000):
                noise = random.integers(0, 256, (120, 160, 3), np.uint8)
                output.image(RecordedImage(noise, stamp_of(written), 'camera', stamp_of(written), written))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said: list[str] = []
    with Recording.open(f'{tmp_path / "replay"}:/camera/compressed', say=said.append) as recording:
        assert written / 2 < sum(1 for _ in recording.images()) <= written
    assert any('cut off' in sentence for sentence in said)


def test_what_heads_say_is_in_the_bag_beside_the_answers(tmp_path):
    artifacts = Path(__file__).parents[2] / 'artifacts' / 'moving_fashion'
    bag = write_bag(tmp_path / 'rover', 'mcap', frames(3))
    assert main(['replay', str(bag), '--model', str(artifacts), '--wait', '--output', str(tmp_path / 'out'), '--no-images',
                 *PATIENT, '--set', f'heads={artifacts / "segmentation"}', '--set', 'image_size=64x64']) == 0
    with open_bag(tmp_path / 'out' / 'replay', pytest.fail) as bag:
        said = {topic: [bag.message(record.topic, record.data) for record in bag.records([topic])]
                for topic in ('/evitif/segmentation/mask', '/evitif/segmentation/confidence')}
    for messages in said.values():
        assert [message.header.stamp.sec * 10**9 + message.header.stamp.nanosec for message in messages] == [stamp_of(n) for n in range(3)]
        assert all((message.height, message.width) == frames(1)[0].shape[:2] and message.encoding == 'mono8'
                   and len(message.data) == message.height * message.width for message in messages)
    assert set(np.unique(said['/evitif/segmentation/mask'][0].data)) - {255} <= set(range(11))


@pytest.mark.parametrize(('arguments', 'words'), [
    (['--set', 'strategy=selection', '--set', 'heads=x'], 'strategy selection only classifies'),
    (['--set', 'heads=x'], "head 'x' does not"),
    (['--set', 'cut'], 'NAME=VALUE'), (['--set', 'wings=2'], 'neither edge_node nor bridge_node'), (['--set', 'cut=x'], 'cut=x'),
    (['--set', 'strategy=magic'], 'magic')])
def test_a_wrong_setting_is_named(tmp_path, capsys, arguments, words):
    bag = write_bag(tmp_path / 'rover', 'mcap', frames(2))
    assert main(['replay', str(bag), '--model', MODEL, '--output', str(tmp_path / 'out'), *arguments]) == 1
    assert words in capsys.readouterr().err
