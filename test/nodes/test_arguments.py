"""What is said of a command line that rcl cannot read, or would read otherwise than it is meant."""

from __future__ import annotations

import pytest

rclpy = pytest.importorskip('rclpy', reason='ROS 2 is not installed')

from evitif_ros.arguments import argument_sentence, refuse_other_arguments, refuse_remapped_parameters


@pytest.mark.parametrize('arguments, words', [
    (['--use_multi_threaded_executor'], ['--use_multi_threaded_executor is not known', '-p name:=value']),
    (['-p', 'robot_name'], ["'-p robot_name'", 'expected -p name:=value']),
    (['-p', 'a..b:=3'], ["'-p a..b:=3'", 'expected -p name:=value']),
    (['-p', 'a:=[1, x]'], ["'-p a:=[1, x]'", 'same type']),
    (['-p'], ['-p']),
    (['-r', '__node:=front-camera'], ['__node:=front-camera', 'letters, digits']),
    (['-r', '__ns:=robot'], ['__ns:=robot', '-r __ns:=/name']),
    (['-r', 'image:=/a-b'], ['image:=/a-b', 'letters, digits']),
    (['--params-file', '/no/such'], ['/no/such', 'Error opening', 'ros2 param dump']),
    (['--log-level', 'loud'], ["'--log-level loud'", 'debug, info, warn, error or fatal']),
])
def test_sentence_names_what_was_given_and_what_was_expected(arguments, words):
    context = rclpy.Context()
    with pytest.raises(Exception) as failed:     # noqa: B017 - rclpy's are many
        rclpy.init(args=['--ros-args', *arguments], context=context)
    sentence = argument_sentence(failed.value)
    assert 'lexeme' not in sentence and '\n' not in sentence
    assert all(word in sentence for word in words), sentence


def test_arguments_of_ros_are_passed_and_others_are_not():
    refuse_other_arguments(['--ros-args', '-p', 'a:=1', '-r', 'image:=/image', '--log-level', 'info', '--'])
    with pytest.raises(ValueError, match="'--help' is not known; expected --ros-args"):
        refuse_other_arguments(['--help', '--ros-args', '-p', 'a:=1'])


@pytest.mark.parametrize('before', [[], ['--ros-args', '-r'], ['--ros-args', '--remap']])
def test_a_parameter_given_as_a_remapping_is_refused(before):
    with pytest.raises(ValueError, match='port:=7000.* remaps a topic, and port is a parameter; expected --ros-args -p port:=7000'):
        refuse_remapped_parameters([*before, 'port:=7000'], ['port'])
    refuse_remapped_parameters(['--ros-args', '-p', 'port:=7000', '--param', 'port:=1', '-r', 'image:=/image'], ['port'])
