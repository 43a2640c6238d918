"""What a user gets wrong on a node's command line: one sentence, no traceback, and no model is loaded for it."""

from __future__ import annotations

import signal

import pytest

EDGE, CAMERA = 'evitif_edge_node.edge_node', 'evitif_edge_node.camera_node'
BRIDGE, LINK = 'evitif_cloud_bridge.bridge_node', 'evitif_cloud_bridge.link_simulator_node'
OVERRIDE = 'qos_overrides./image.subscription'
# module, parameters, further arguments, words of the sentence
MISTAKES = {
    'unknown ROS argument': (EDGE, {}, ('--use_multi_threaded_executor',),
                             ['--use_multi_threaded_executor is not known', '-p name:=value']),
    'argument that is not ROS\'s': (CAMERA, {}, ('--', '--rate', '3'), ["'--rate' is not known", '--ros-args']),
    'parameter without a value': (LINK, {}, ('-p', 'seed'), ["'-p seed'", '-p name:=value']),
    'time': (EDGE, {'use_sim_time': '"yes"'}, (), ["use_sim_time: expected true or false, got 'yes'"]),
    'reliability': (EDGE, {f'{OVERRIDE}.reliability': 'relaible'}, (), [f'{OVERRIDE}.reliability', "'best_effort'", "got 'relaible'"]),
    'negative depth': (EDGE, {f'{OVERRIDE}.depth': -1}, (), [f'{OVERRIDE}.depth', 'an integer from 1', 'got -1']),
    'policy of a robot\'s topic': (BRIDGE, {'qos_overrides./r2/prediction.publisher.durability': 'latched'}, (),
                                  ["'transient_local'", "got 'latched'"]),
    'text that YAML takes for a truth value': (EDGE, {'robot_name': 'yes'}, (), ['robot_name: expected a string', 'got True', 'YAML']),
}


@pytest.fixture(scope='module')
def mistaken(launch_node):
    """All of them at once: most of the time is each process's own start."""
    return {name: launch_node(module, parameters, arguments=arguments) for name, (module, parameters, arguments, _) in MISTAKES.items()}


@pytest.mark.parametrize('name', MISTAKES)
def test_a_mistake_gets_one_sentence_before_a_model_is_loaded(mistaken, name):
    process, words = mistaken[name], MISTAKES[name][-1]
    assert process.wait() == 2, process.output
    lines = [line for line in process.output.splitlines() if '[rcl]' not in line]
    assert len(lines) == 1 and all(word in lines[0] for word in words), process.output


@pytest.mark.parametrize('module', [EDGE, CAMERA, BRIDGE, LINK])
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_imports_ends_the_process_without_a_word(launch_node, module, number):
    process = launch_node(module, {})
    process.wait_until_importing('numpy')
    exit_code, _ = process.end(number)
    assert (exit_code, process.output) == (0, '')


def test_a_robot_with_a_number_for_a_name_and_overrides_that_nothing_heeds(launch_node, probe):
    """One process: numbers are names, an unknown override gets a sentence, and a known one is honoured."""
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image
    edge = launch_node(EDGE, {
        'unsealed': True, 'local_fallback': True, 'robot_name': 7, 'model': 'vit_tiny_patch16_224', 'random_seed': 1, 'image_size': 32,
        'num_classes': 3, 'bridge_port': 1, 'batching': 'on', 'answer_deadline': 0.2,
        'qos_overrides./seven/image.subscription.durability': 'transient_local',
        'qos_overrides./seven/prediction.publisher.durability': 'transient_local',
        'qos_overrides./seven/image.subscription.durabilty': 'volatile',
        'qos_overrides./seven/imaeg.subscription.depth': 3,
        'qos_overrides./seven/image.subscription.lifespan': 3,
    }, namespace='/seven')
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.RELIABLE)
    publisher = probe.node.create_publisher(Image, '/seven/image', latched)
    publisher.publish(Image(height=8, width=8, encoding='mono8', step=8, data=bytes(64)))     # long before the node is there
    from evitif_msgs.msg import Prediction
    edge.wait_for_output('model vit_tiny')
    predictions = probe.collect(Prediction, '/seven/prediction', latched=True)
    probe.wait(lambda: predictions, lambda: f'the image published before was not taken:\n{edge.output}', 30.0)
    assert predictions[0].robot == '7'
    for words in (["durabilty' is not known and ignored", "'durability' meant"], ["lifespan' is not known and ignored"],
                  ["/seven/imaeg.subscription.depth' is not known and ignored", "'/seven/image.subscription' meant"],
                  ['subscription is reliable, since']):
        assert any(all(word in line for word in words) for line in edge.output.splitlines()), edge.output
    refused = probe.set_parameters('/seven/edge_node', {'use_sim_time': 'x'})[0]
    assert not refused.successful and refused.reason == "use_sim_time: expected true or false, got 'x'"
    refused = probe.set_parameters('/seven/edge_node', {'annotated_height': 480.0})[0]
    assert not refused.successful and 'annotated_height: expected an integer from 120 to 2160' in refused.reason
    probe.node.destroy_publisher(publisher)
    edge.end(signal.SIGTERM)


def test_a_camera_by_its_number(launch_node):
    camera = launch_node(CAMERA, {'source': 4711})
    assert camera.wait() == 1 and "camera device '/dev/video4711' does not exist" in camera.output, camera.output
