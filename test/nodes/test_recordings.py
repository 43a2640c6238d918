"""The camera node plays a bag with its own times, stamps and frame_ids."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('sensor_msgs.msg', reason='ROS 2 is not installed')

sys.path.insert(0, str(Path(__file__).parents[1] / 'recording'))
from bags import PERIOD_NS, frames, stamp_of, write_bag

from evitif_edge_node.image_sources import SourceError, open_source


def test_a_recording_that_is_played_again_goes_on_in_time(tmp_path):
    bag = write_bag(tmp_path / 'rover', 'mcap', frames(3))
    source = open_source(str(bag), loop=True)
    found = [source.next_image() for _ in range(7)]
    assert [image.stamp_ns for image in found] == [stamp_of(index) for index in range(7)]
    assert [round(image.at_s * 1e9) for image in found] == [index * PERIOD_NS for index in range(7)]
    assert np.array_equal(found[0].image, found[3].image)


def test_a_part_that_holds_no_image_is_refused(tmp_path):
    bag = write_bag(tmp_path / 'rover', 'mcap', frames(3))
    with pytest.raises(SourceError, match='no image from 100 s on'):
        open_source(str(bag), loop=True, start_s=100).next_image()


def test_the_camera_node_publishes_what_was_recorded(launch_node, probe, tmp_path):
    from sensor_msgs.msg import Image
    given = frames(6)
    bag = write_bag(tmp_path / 'rover', 'mcap', given)
    images = probe.collect(Image, '/played/image')
    camera = launch_node('evitif_edge_node.camera_node', {
        'source': bag, 'loop': False, 'speed': 2.0, 'wait_for_subscribers': 1, 'exit_when_done': True}, namespace='/played')
    assert camera.wait() == 0, camera.output
    probe.wait(lambda: len(images) == 6, lambda: f'{len(images)} images')
    assert [image.header.stamp.sec * 10**9 + image.header.stamp.nanosec for image in images] == [stamp_of(index) for index in range(6)]
    assert {image.header.frame_id for image in images} == {'camera'}
    assert all(np.array_equal(np.frombuffer(image.data, np.uint8).reshape(rgb.shape), rgb) for image, rgb in
               zip(images, given, strict=True))
