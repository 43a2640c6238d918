"""The nodes as real processes over real DDS and UDP, with the link simulator between them.

The processes start once, since PyTorch takes seconds to import; the tests run in the order in which they stand.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import time

import pytest
import yaml
from node_process import free_udp_port

from evitif.protocol.sealing.keys import write_key_file

MODEL = {'model': 'vit_tiny_patch16_224', 'random_seed': 1, 'image_size': 64, 'num_classes': 10}
IMAGE_SIZE = 64, 80         # height and width of what the probe publishes
SLACK_S = 1.0  # for a busy machine
OK, WARN, ERROR = b'\x00', b'\x01', b'\x02'


class Robots:
    """The processes of this file."""

    def __init__(self, launch_node, key_file, heads):
        self.launch = launch_node
        self.both, self.heads = {**MODEL, 'key_file': key_file}, heads
        self.bridge_port, self.link_port, dead_port = free_udp_port(), free_udp_port(), free_udp_port()
        self.bridge = self.launch_bridge()
        self.edge = self._edge('/one', {'robot_name': 'robot 1', 'bridge_port': self.link_port, 'image_timeout': 1.0,
                                       'heads': ','.join(self.heads)})
        self.link = launch_node('evitif_cloud_bridge.link_simulator_node', {
            'listen_host': '127.0.0.1', 'listen_port': self.link_port, 'forward_port': self.bridge_port, 'seed': 1})
        self.stranger = self._edge('/stranger', {'bridge_port': self.bridge_port, 'cut': 4, 'robot_name': 'stranger'})
        self.alone = self._edge('/alone', {
            'bridge_port': dead_port, 'local_fallback': True, 'answer_deadline': 0.2, 'image_timeout': 0.5,
            'qos_overrides./alone/image.subscription.reliability': 'reliable'})
        self.broken = self._edge('/broken', {'model': 'no_such_vit'})

    def launch_bridge(self):
        return self.launch('evitif_cloud_bridge.bridge_node', {**self.both, 'port': self.bridge_port, 'heads': ','.join(self.heads)},
                           namespace='/server')

    def _edge(self, namespace, parameters):
        return self.launch('evitif_edge_node.edge_node', {**self.both, **parameters}, namespace=namespace)


def write_heads(folder) -> list[str]:
    """Four heads for the model: `rooms` has three classes, `view` says a vector, the others masks and depth."""
    from heads_backbone import probe_of

    from evitif.heads import Reading, save_head
    from evitif.heads.depth import DepthHead
    from evitif.heads.embed import EmbedHead
    from evitif.heads.segment import SegmentHead
    from evitif.model.build import ModelSpec, build_model
    module = build_model(ModelSpec(MODEL['model'], random_seed=1, num_classes=10, image_size=64)).module
    reading = Reading((12,), True, (64, 64), (4, 4), 1, 192)
    places = dataclasses.replace(reading, final_norm=False)
    heads = {'rooms': probe_of(reading), 'view': probe_of(reading, (), EmbedHead),
             'segmentation': SegmentHead(places, ('floor', 'wall', 'door'), width=16, fine=8).eval(),
             'depth': DepthHead(places, width=16, fine=8).eval()}
    for name, head in heads.items():
        save_head(folder / name, head, module, {'model': MODEL['model']})
    return [str(folder / name) for name in heads]


@pytest.fixture(scope='module')
def robots(launch_node, probe, tmp_path_factory):
    key_file = tmp_path_factory.mktemp('keys') / 'robots.key'
    write_key_file(key_file)
    robots = Robots(launch_node, key_file, write_heads(tmp_path_factory.mktemp('heads')))
    robots.bridge.wait_for_output('listening on')
    robots.edge.wait_for_output('connected to bridge')
    return robots


@pytest.fixture(scope='module')
def predictions(robots, probe):
    """What the robot publishes and what the bridge publishes of it."""
    from evitif_msgs.msg import Prediction
    return probe.collect(Prediction, '/one/prediction'), probe.collect(Prediction, '/server/robot_1/prediction')


def set_loss(probe, loss):
    results = probe.set_parameters('/link_simulator', {'uplink.loss': loss, 'downlink.loss': loss})
    assert all(result.successful for result in results), results


@pytest.mark.parametrize('loss', [0.0, 0.3, 0.6])
def test_frames_are_answered_on_the_robot(robots, probe, predictions, loss):
    on_robot, off_board = predictions
    probe.publisher('/one/image')
    if loss == 0.0:  # discovery of the topics, both ways
        probe.wait(lambda: probe.publish_images('/one/image', 1) and on_robot and off_board, 'no first answer', 20.0)
    set_loss(probe, loss)
    if loss:  # the copies of the answers follow the loss measured over the last 512 datagrams
        probe.publish_images('/one/image', 50, 20.0)
    time.sleep(1.0)  # for late answers to what was published before
    del on_robot[:], off_board[:]
    headers = probe.publish_images('/one/image', 40)
    fewest = 39
    probe.wait(lambda: len(on_robot) >= fewest and len(off_board) >= fewest,
               lambda: f'{len(on_robot)} and {len(off_board)} of {len(headers)} frames answered')
    published = {(header.stamp.sec, header.stamp.nanosec): header for header in headers}
    assert [message.sequence for message in on_robot] == sorted({message.sequence for message in on_robot})
    for message in on_robot:
        assert message.header == published[message.header.stamp.sec, message.header.stamp.nanosec]
        assert message.robot == 'robot 1' and message.strategy == 'split'
    # where this machine holds a process up, the robot says its last answer again for a frame whose own is overdue
    on_robot = [message for message in on_robot if message.how != 'memory']
    assert len(on_robot) >= fewest // 2
    for message in on_robot:
        assert message.packets_sent >= 16 and message.tokens_sent == 17 and len(message.class_ids) == 5
        assert message.labels == [f'class {index}' for index in message.class_ids]
        assert list(message.scores) == sorted(message.scores, reverse=True)
        assert 0 < message.time_head < message.time_total < 1.0 and message.time_tail > 0
    received = sum(message.packets_received for message in on_robot) / sum(message.packets_sent for message in on_robot)
    assert abs(received - (1 - loss)) < 0.12
    if loss == 0.0:
        assert received == 1.0 and {message.recovery for message in on_robot} == {'none'}
    else:
        assert 'omission' in {message.recovery for message in on_robot}
    answers = {message.sequence: message for message in off_board}
    for message in on_robot:
        assert message.class_ids == answers[message.sequence].class_ids
        assert message.header == answers[message.sequence].header
    assert all(math.isnan(message.time_head) and message.time_tail > 0 for message in off_board)


def test_link_stats_of_both_sides(robots, probe):
    from evitif_msgs.msg import LinkStats
    on_robot = probe.collect(LinkStats, '/one/link_stats')
    off_board = probe.collect(LinkStats, '/server/robot_1/link_stats')
    probe.wait(lambda: on_robot and off_board, 'no link_stats')
    for message in (on_robot[-1], off_board[-1]):
        assert message.connected and message.state == 'connected' and message.robot == 'robot 1' and message.session
        assert 0.4 < message.uplink_packet_error_rate < 0.8 and 'cpu' in message.device
        assert len(message.drop_kinds) == len(message.drop_counts)
    assert on_robot[-1].frames_answered >= 200 and on_robot[-1].answered_ratio > 0.95
    assert off_board[-1].frames_answered >= 200 and off_board[-1].peer.startswith('127.0.0.1:')


def test_labels_reach_a_late_subscriber(robots, probe):
    from evitif_msgs.msg import ClassLabels
    for topic in ('/one/labels', '/server/labels'):
        labels = probe.collect(ClassLabels, topic, latched=True)
        probe.wait(lambda labels=labels: labels, f'no {topic}')
        assert len(labels[0].labels) == 10


def test_heads_say_what_they_see_on_topics_of_their_own_where_somebody_reads_them(robots, probe, predictions):
    from sensor_msgs.msg import Image

    from evitif_msgs.msg import ClassLabels, Prediction
    labels = probe.collect(ClassLabels, '/one/rooms/labels', latched=True)
    rooms, vectors = probe.collect(Prediction, '/one/rooms/prediction'), probe.collect(Image, '/one/embedding')
    off_board = probe.collect(Prediction, '/server/robot_1/rooms/prediction')
    probe.wait(lambda: probe.publish_images('/one/image', 5, 20.0) and labels and rooms and vectors and off_board, 'no head spoke', 30.0)
    assert labels[0].labels == ['cup', 'plate', 'fork']
    by_header = {message.header.stamp.nanosec: message for message in predictions[0]}
    same = by_header[rooms[-1].header.stamp.nanosec]
    assert rooms[-1].header == same.header and rooms[-1].packets_sent == same.packets_sent and len(same.class_ids) == 5
    assert sorted(rooms[-1].labels) == ['cup', 'fork', 'plate'] and abs(sum(rooms[-1].scores) - 1) < 1e-5
    assert off_board[-1].robot == 'robot 1' and sorted(off_board[-1].class_ids) == [0, 1, 2]
    vector = vectors[-1]
    assert (vector.encoding, vector.height, vector.width, len(vector.data)) == ('32FC1', 1, 384, 4 * 384)


def test_masks_and_depth_have_the_image_s_size_and_header_as_a_semantic_segmentation_layer_reads_them(robots, probe, predictions):
    """nav2's semantic_segmentation_layer subscribes to mask and confidence as sensor data: best effort, mono8; LabelInfo is latched."""
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import CameraInfo, Image
    mask, confidence, depth, coloured = (probe.collect(Image, f'/one/{topic}', profile=qos_profile_sensor_data) for topic in (
        'segmentation/mask', 'segmentation/confidence', 'depth/image', 'segmentation/colored_mask'))
    infos, off_board = probe.collect(CameraInfo, '/one/depth/camera_info'), probe.collect(Image, '/server/robot_1/segmentation/mask')
    shown = probe.collect(Image, '/one/edge_node/annotated_image')
    camera = probe.node.create_publisher(CameraInfo, '/one/camera_info', 5)
    wanted = mask, confidence, depth, coloured, infos, off_board, shown
    probe.wait(lambda: camera.publish(CameraInfo(width=IMAGE_SIZE[1], height=IMAGE_SIZE[0], k=[float(k) for k in range(9)]))
               or probe.publish_images('/one/image', 5, 20.0) and all(wanted), 'a map is missing', 30.0)
    images = {(message.header.stamp.sec, message.header.stamp.nanosec): message.header for message in predictions[0]}
    for messages, encoding, size in ((mask, 'mono8', 1), (confidence, 'mono8', 1), (depth, '32FC1', 4), (coloured, 'rgb8', 3)):
        message = messages[-1]
        assert (message.encoding, message.height, message.width, message.step) == (encoding, *IMAGE_SIZE, size * IMAGE_SIZE[1])
        assert message.header == images[message.header.stamp.sec, message.header.stamp.nanosec]
    assert set(mask[-1].data) <= {0, 1, 2, 255} and len(set(mask[-1].data)) > 1
    assert list(infos[-1].k) == list(range(9))
    assert infos[-1].header == images[infos[-1].header.stamp.sec, infos[-1].header.stamp.nanosec]
    assert (off_board[-1].height, off_board[-1].width) == (16, 16)
    # The layer takes mask and confidence by equal stamps, and reads pixel (u, v) at v * width + u.
    sure = {(message.header.stamp.sec, message.header.stamp.nanosec): message for message in confidence}
    pairs = [(message, sure.get((message.header.stamp.sec, message.header.stamp.nanosec))) for message in mask]
    assert sum(other is not None for _, other in pairs) >= len(pairs) - 2
    assert all(len(one.data) == len(other.data) == one.width * one.height for one, other in pairs if other is not None)
    stamps = [(message.header.stamp.sec, message.header.stamp.nanosec) for message in shown]
    assert len(set(stamps)) == len(stamps), 'a picture was drawn without its mask and then with it'


def test_label_info_of_masks_reaches_a_late_subscriber(robots, probe):
    vision = pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not installed')
    labels = probe.collect(vision.LabelInfo, '/one/segmentation/label_info', latched=True)
    probe.wait(lambda: labels, 'no label_info')
    assert [entry.class_name for entry in labels[0].class_map] == ['floor', 'wall', 'door']


def test_classifications_name_classes_by_what_label_info_has(robots, probe):
    vision = pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not installed')
    for node, above in (('/one', '/one'), ('/server', '/server/robot_1')):
        classifications = probe.collect(vision.Classification, f'{above}/classification')
        infos = probe.collect(vision.LabelInfo, f'{node}/label_info', latched=True)
        methods = probe.collect(vision.VisionInfo, f'{node}/vision_info', latched=True)
        probe.wait(lambda got=(infos, methods): all(got), f'no label_info of {node}')
        probe.wait(lambda got=classifications: got or not probe.publish_images('/one/image', 1), 'no classification', 20.0)
        names = {entry.class_id: entry.class_name for entry in infos[0].class_map}
        assert names == {index: f'class {index}' for index in range(10)}
        assert {int(result.class_id) for result in classifications[0].results} <= set(names)
        assert methods[0].database_location == f'{node}/label_info' and 'vit_tiny_patch16_224' in methods[0].method


def test_annotated_image_is_drawn_for_a_subscriber(robots, probe, predictions):
    from sensor_msgs.msg import Image
    pictures = probe.collect(Image, '/one/edge_node/annotated_image')
    probe.wait(lambda: pictures or not probe.publish_images('/one/image', 1), 'nothing was drawn')
    assert pictures[-1].height == 480 and pictures[-1].encoding == 'rgb8'
    assert pictures[-1].header.frame_id.startswith('lens')


def test_diagnostics_of_a_healthy_robot(robots, probe):
    set_loss(probe, 0.0)
    probe.wait_for_status('/one/edge_node: link', OK, 'connected to 127.0.0.1')
    probe.wait_for_status('/one/edge_node: model', OK, 'device cpu')
    probe.wait_for_status('/server/bridge_node: model', OK, 'device cpu')
    status = probe.wait_for_status('/link_simulator: uplink', OK, 'loss')
    assert int(next(entry.value for entry in status.values if entry.key == 'lost')) > 100


def test_wrong_encoding_is_named_and_the_node_goes_on(robots, probe, predictions):
    on_robot, _ = predictions
    probe.publish_images('/one/image', 12, encoding='32FC1')
    probe.wait_for_status('/one/edge_node: images', ERROR, "'32FC1' is not supported", 'rgb8', 'bayer_rggb8')
    assert robots.edge.output.count("'32FC1' is not supported") == 1, 'the log was not throttled'
    answered = len(on_robot)
    probe.publish_images('/one/image', 3)
    probe.wait(lambda: len(on_robot) >= answered + 2, 'the node did not go on')


def test_large_images_that_get_lost_are_counted_and_what_helps_is_named(robots, probe, predictions):
    """The probe sends by Fast DDS as it comes, whose shared memory a large image does not fit into."""
    from evitif_ros import fast_dds
    on_robot, _ = predictions
    probe.publish_images('/one/image', 10, size=(1920, 1080))
    status = probe.wait_for_status('/one/edge_node: images', WARN, 'lost on the way here', f'{fast_dds.variable()}=', 'fastdds.xml')
    assert 'image_transport to compressed' in status.message
    answered = len(on_robot)
    probe.publish_images('/one/image', 3)
    probe.wait(lambda: len(on_robot) >= answered + 2, 'the node did not go on')


def test_no_images_names_topic_and_publishers(robots, probe):
    probe.wait_for_status('/one/edge_node: images', WARN, 'no image on /one/image for', '/probe (reliable, volatile)')
    probe.destroy_publisher('/one/image')
    probe.wait_for_status('/one/edge_node: images', WARN, 'nobody publishes it')
    assert 'no image on /one/image for' in robots.edge.output


def test_publisher_of_another_type_is_named(robots, probe):
    from sensor_msgs.msg import CompressedImage
    publisher = probe.node.create_publisher(CompressedImage, '/one/image', 1)
    try:
        probe.wait_for_status('/one/edge_node: images', ERROR, '/probe publishes sensor_msgs/msg/CompressedImage',
                              'expected sensor_msgs/msg/Image')
    finally:
        probe.node.destroy_publisher(publisher)


@pytest.mark.parametrize('values, words', [
    ({'image_timeout': -1.0}, ['image_timeout', '-1']),
    ({'image_timeout': 'soon'}, ['image_timeout: expected a number', "'soon'"]),
    ({'model': 'resnet18'}, ['model: can only be set while the node is unconfigured', "'resnet18'"]),
    ({'autostart': False}, ['read-only', 'autostart']),
])
def test_bad_parameter_at_run_time_is_refused_with_the_reason(robots, probe, values, words):
    result = probe.set_parameters('/one/edge_node', values)[0]
    assert not result.successful and all(word in result.reason for word in words), result.reason


def test_parameters_at_run_time(robots, probe):
    assert probe.set_parameters('/one/edge_node', {'image_timeout': 1, 'annotated_height': 240})[0].successful
    result = probe.set_parameters('/link_simulator', {'uplink.burst_length': 1.5})[0]
    assert result.successful
    result = probe.set_parameters('/link_simulator', {'uplink.loss': 0.9})[0]
    assert not result.successful and 'burst_length' in result.reason
    assert probe.set_parameters('/link_simulator', {'uplink.burst_length': 1.0})[0].successful


@pytest.mark.parametrize('node', ['/one/edge_node', '/server/bridge_node', '/link_simulator'])
def test_a_node_s_own_dump_can_be_loaded_again(robots, probe, node, tmp_path):
    from rclpy.parameter import parameter_dict_from_yaml_file, parameter_value_to_python
    dumped = probe.dump_parameters(node)
    values = {parameter.name: parameter_value_to_python(parameter.value) for parameter in dumped}
    assert {'autostart', 'use_sim_time'} <= set(values)
    (tmp_path / 'dump.yaml').write_text(yaml.dump({node: {'ros__parameters': values}}))
    given = list(parameter_dict_from_yaml_file(str(tmp_path / 'dump.yaml'), target_nodes=[node]).values())
    results = probe.load_parameters(node, given)
    assert len(results) == len(dumped)
    assert [(parameter.name, result.reason) for parameter, result in zip(given, results) if not result.successful] == []
    assert probe.dump_parameters(node) == dumped


def test_a_number_stays_one_when_it_is_set_to_an_integer(robots, probe):
    def rate():
        return next(parameter.value for parameter in probe.dump_parameters('/one/edge_node') if parameter.name == 'publish_stats_rate')
    before = rate()
    assert probe.set_parameters('/one/edge_node', {'publish_stats_rate': 2})[0].successful
    assert (rate().type, rate().double_value) == (before.type, 2.0)
    assert 'expected a number from 0.1' in probe.set_parameters('/one/edge_node', {'publish_stats_rate': 0})[0].reason


def test_mismatched_model_is_refused_naming_both(robots, probe):
    from evitif_msgs.msg import LinkStats
    robots.stranger.wait_for_output('refused')
    status = probe.wait_for_status('/stranger/edge_node: link', ERROR, 'cut', '4', '6')
    stats = probe.collect(LinkStats, '/stranger/link_stats')
    probe.wait(lambda: stats, 'no link_stats')
    assert stats[-1].state == 'refused' and not stats[-1].connected and stats[-1].reason in status.message
    probe.wait_for_status('/server/bridge_node: robots', ERROR, 'refused stranger', 'cut')
    exit_code, _ = robots.stranger.end(signal.SIGTERM)
    assert exit_code == 0


def test_local_fallback_without_a_bridge(robots, probe):
    from evitif_msgs.msg import Prediction
    alone = probe.collect(Prediction, '/alone/prediction')
    robots.alone.wait_for_output('model vit_tiny')
    answers = probe.wait(lambda: alone or not probe.publish_images('/alone/image', 1), 'no local answer', 20.0)
    assert answers[0].how == 'fallback' and answers[0].packets_sent == 0 and len(answers[0].class_ids) == 5
    probe.wait_for_status('/alone/edge_node: link', WARN, 'no answer from a bridge at 127.0.0.1')


def test_incompatible_qos_is_named(robots, probe):
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image
    probe.destroy_publisher('/alone/image')
    publisher = probe.node.create_publisher(Image, '/alone/image', qos_profile_sensor_data)
    try:
        probe.wait_for_status('/alone/edge_node: images', ERROR, '/probe (best effort', 'incompatible', '(reliable')
    finally:
        probe.node.destroy_publisher(publisher)
    exit_code, seconds = robots.alone.end(signal.SIGINT)
    assert exit_code == 0 and seconds < 1.0 + SLACK_S


def test_unknown_model_ends_the_process_with_a_sentence(robots):
    assert robots.broken.wait() == 1
    assert "no model 'no_such_vit'" in robots.broken.output and 'Traceback' not in robots.broken.output


@pytest.mark.parametrize('module, parameters, words', [
    ('evitif_edge_node.edge_node', MODEL, ['key_file is empty and unsealed is false', 'set key_file to', 'or set unsealed to true']),
    ('evitif_cloud_bridge.bridge_node', {**MODEL, 'key_file': '/dev/null'}, ["key_file '/dev/null' is not a regular file"]),
    ('evitif_edge_node.edge_node', {'bridge_port': 0}, ['bridge_port: expected an integer from 1 to 65535', 'got 0']),
    ('evitif_cloud_bridge.bridge_node', {'recovery': 'magic'}, ["recovery: expected one of 'auto'", "got 'magic'"]),
    ('evitif_edge_node.camera_node', {'source': '/no/such'}, ["'/no/such' does not exist"]),
    ('evitif_cloud_bridge.link_simulator_node', {'uplink.loss': 2.0}, ['uplink.loss', 'from 0 to 1', 'got 2.0']),
])
def test_bad_parameter_at_start_ends_the_process_with_a_sentence(launch_node, module, parameters, words):
    process = launch_node(module, parameters)
    assert process.wait() in (1, 2)
    assert all(word in process.output for word in words) and 'Traceback' not in process.output, process.output


def test_camera_publishes_images_with_labels(launch_node, probe, tmp_path):
    import numpy as np
    from PIL import Image as Picture
    from sensor_msgs.msg import CameraInfo, CompressedImage, Image

    from evitif_msgs.msg import LabelStamped
    for name in ('ant', 'bee'):
        (tmp_path / name).mkdir()
        Picture.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name / '1.png')
    images, labels = probe.collect(Image, '/zoo/image'), probe.collect(LabelStamped, '/zoo/label')
    compressed, infos = probe.collect(CompressedImage, '/zoo/image/compressed'), probe.collect(CameraInfo, '/zoo/camera_info')
    camera = launch_node('evitif_edge_node.camera_node', {
        'source': tmp_path, 'count': 5, 'rate': 20, 'wait_for_subscribers': 2, 'exit_when_done': True,
        'frame_id': 'lens', 'publish_compressed': True}, namespace='/zoo')
    assert camera.wait() == 0, camera.output
    probe.wait(lambda: len(images) == len(labels) == len(compressed) == 5, lambda: f'{len(images)} {len(labels)}')
    assert [(label.class_id, label.label) for label in labels[:3]] == [(0, 'ant'), (1, 'bee'), (0, 'ant')]
    assert [label.header for label in labels] == [image.header for image in images]
    probe.wait(lambda: len(infos) == 5, lambda: f'{len(infos)} camera_info')
    assert [info.header for info in infos] == [image.header for image in images] and (infos[0].width, infos[0].height) == (8, 8)
    assert images[0].header.frame_id == 'lens' and 'done: published 5 images' in camera.output


def test_lifecycle_round_with_another_parameter(robots, probe, predictions):
    on_robot, _ = predictions
    node = '/one/edge_node'
    assert probe.change_state(node, 'deactivate') and probe.change_state(node, 'cleanup')
    probe.wait_for_status(f'{node}: link', OK, 'not active')
    assert probe.set_parameters(node, {'top_k': 3})[0].successful
    assert probe.set_parameters(node, {'model': 'no_such_vit'})[0].successful
    assert not probe.change_state(node, 'configure'), 'a model that does not exist was configured'
    assert probe.set_parameters(node, {'model': MODEL['model']})[0].successful
    assert probe.change_state(node, 'configure') and probe.change_state(node, 'activate')
    del on_robot[:]
    probe.wait(lambda: on_robot or not probe.publish_images('/one/image', 1), 'no answer after the round', 20.0)


def test_killed_bridge_comes_back_without_touching_the_edge(robots, probe, predictions):
    on_robot, _ = predictions
    robots.bridge.end(signal.SIGKILL)
    probe.wait_for_status('/one/edge_node: link', ERROR, 'lost')
    robots.bridge = robots.launch_bridge()
    listening = robots.bridge.wait_for_output('listening on')
    del on_robot[:]
    probe.wait(lambda: on_robot or not probe.publish_images('/one/image', 1, 20.0), 'no answer from the new bridge')
    assert time.monotonic() - listening < 2.0


def test_processes_end_within_a_second_and_without_a_traceback(robots):
    signals = {robots.edge: signal.SIGINT, robots.bridge: signal.SIGTERM, robots.link: signal.SIGTERM}
    for process, number in signals.items():
        exit_code, seconds = process.end(number)
        assert exit_code == 0 and seconds < 1.0 + SLACK_S, (seconds, process.output)
        assert 'Traceback' not in process.output and 'Failed to publish' not in process.output, process.output
