"""What the nodes publish of an answer: a class is its id, since two classes may have one name."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed')
pytest.importorskip('evitif_msgs.msg', reason='the message package is not built: make build')

import numpy as np
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from evitif.pipeline import EdgeStatistics
from evitif.pipeline.prediction import Prediction, StageTimes
from evitif.protocol.rate.statistics import LinkStatistics
from evitif_ros import messages
from evitif_ros.class_names_publisher import ClassNamesPublisher

LABELS = ('ant', 'crane', 'bee', 'crane')


def prediction(**changes) -> Prediction:
    values = {'frame_id': 1, 'capture_stamp_ns': 0, 'source_frame': '', 'context': None, 'class_ids': (3, 1), 'scores': (0.75, 0.25),
              'labels': ('crane', 'crane'), 'strategy': 'split', 'how': 'off-board', 'recovery': 'none', 'packets_sent': 1,
              'packets_received': 1, 'tokens_sent': 2, 'tokens_received': 2, 'uplink_bytes': 1, 'downlink_bytes': 1,
              'packet_error_rate': 0.0, 'sent': np.ones(2, bool), 'received': np.ones(2, bool), 'prefix_tokens': 1, 'grid': (1, 1),
              'crop': None, 'devices': (), 'stages': StageTimes()}
    return Prediction(**{**values, **changes})


def test_a_message_says_what_was_remembered_and_how_old_it_is():
    patches = np.array([True, True, False, False, False])
    remembered = np.array([False, False, False, True, False])
    message = messages.prediction_message(prediction(received=patches, remembered=remembered, memory_age=0.25, sent=np.arange(5) < 4,
                                                     grid=(2, 2)), Header(), 'robot')
    kinds = messages.Prediction
    assert list(message.patches) == [kinds.PATCH_RECEIVED, kinds.PATCH_MISSING, kinds.PATCH_REMEMBERED, kinds.PATCH_NOT_SENT]
    assert message.memory_age == pytest.approx(0.25)


def test_the_shares_of_tokens_are_counted_on_both_sides():
    link = LinkStatistics(tokens={'received': 5, 'remembered': 3, 'estimated': 2})
    bridge = messages.bridge_link_message(link, True, 'robot', '', 1, '', 'cpu', 1, Time())
    edge = messages.edge_link_message(EdgeStatistics(tokens_received=5, tokens_remembered=3, tokens_estimated=2, frames_remembered=4),
                                      'robot', '', Time())
    for message in (bridge, edge):
        assert (message.tokens_received, message.tokens_remembered, message.tokens_estimated) == (5, 3, 2)
    assert edge.frames_remembered == 4


def vision_msgs():
    return pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not installed')


def test_classes_of_one_name_are_told_apart():
    vision_msgs()
    results = messages.classification_message(prediction(), Header()).results
    assert [result.class_id for result in results] == ['3', '1']
    names = {entry.class_id: entry.class_name for entry in messages.label_info_message(LABELS, Time()).class_map}
    assert [names[int(result.class_id)] for result in results] == ['crane', 'crane'] and names == dict(enumerate(LABELS))


def test_none_of_the_known_classes_has_the_id_that_the_prediction_has():
    vision_msgs()
    other = prediction(class_ids=(messages.Prediction.OTHER,), labels=('other',), scores=(1.0,))
    assert messages.classification_message(other, Header()).results[0].class_id == '-1'


def test_vision_info_says_where_the_names_are():
    vision_msgs()
    info = messages.vision_info_message('model m', '/robot/label_info', Time(sec=3))
    assert (info.method, info.database_location, info.header.stamp.sec) == ('model m', '/robot/label_info', 3)


def test_every_list_of_classes_in_a_message_has_the_ids():
    message = messages.prediction_message(prediction(), Header(), 'robot')
    assert list(message.class_ids) == [3, 1] and message.labels == ['crane', 'crane']
    assert messages.labels_message(LABELS, Time()).labels == list(LABELS)


class FakeNode:
    """Keeps what its publishers publish, by topic."""

    def __init__(self):
        self.published, self.warnings = {}, []

    def advertise(self, kind, topic, profile):
        return type('Publisher', (), {'topic_name': f'/{topic}', 'publish': lambda _, message: self.published.update({topic: message})})()

    def get_clock(self):
        return type('Clock', (), {'now': lambda _: type('Now', (), {'to_msg': lambda _: Time()})()})()

    def get_logger(self):
        return type('Logger', (), {'warning': lambda _, text: self.warnings.append(text)})()


@pytest.mark.parametrize(('count', 'location'), [
    (4, '/label_info'), (messages.MOST_LABELS, '/label_info'), (messages.MOST_LABELS + 1, '/labels')])
def test_more_classes_than_label_info_has_room_for_are_named_in_labels(count, location):
    vision_msgs()
    node = FakeNode()
    names = ClassNamesPublisher(node)
    names.publish(tuple(map(str, range(count))), 'a model')
    assert node.published['vision_info'].database_location == location and len(node.published['labels'].labels) == count
    assert ('label_info' in node.published) == (not node.warnings) == (location == '/label_info')


@pytest.mark.parametrize('absent', [('LabelInfo', 'VisionClass'), ('LabelInfo', 'VisionClass', 'VisionInfo', 'Classification')])
def test_an_older_vision_msgs_or_none_leaves_the_labels(monkeypatch, absent):
    for name in absent:
        monkeypatch.setattr(messages, name, None)
    node = FakeNode()
    ClassNamesPublisher(node).publish(LABELS, 'a model')
    assert node.published['labels'].labels == list(LABELS) and 'label_info' not in node.published and not node.warnings
