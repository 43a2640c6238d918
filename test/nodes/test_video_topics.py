"""The edge node takes video packets, waits for a key frame and says so; without their messages it says what to install."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed')

sys.path.insert(0, str(Path(__file__).parents[1] / 'recording'))
from bags import frames, h264

from evitif_ros.diagnostics import OK, WARN

KINDS = {'ffmpeg': ('ffmpeg_image_transport_msgs', 'FFMPEGPacket'), 'foxglove': ('foxglove_msgs', 'CompressedVideo')}


def packet_of(kind: type, index: int, data: bytes):
    if hasattr(kind(), 'pts'):
        return kind(encoding='libx264', pts=index, flags=int(index % 6 == 0), width=64, height=48, data=data)
    return kind(format='h264', data=data)


@pytest.mark.parametrize('transport', KINDS)
def test_packets_become_images_from_a_key_frame_on(launch_node, probe, transport):
    package, name = KINDS[transport]
    kind = getattr(pytest.importorskip(f'{package}.msg', reason=f'the messages {package} are not installed'), name)
    packets = h264(frames(24), key_every=6)
    node = f'/{transport}/edge_node'
    edge = launch_node('evitif_edge_node.edge_node', {'image_transport': transport, 'model': 'artifacts/fashion_mnist', 'unsealed': True,
                                                          'image_timeout': 3600.0}, namespace=f'/{transport}')
    publisher = probe.publisher(f'/{transport}/image/{transport}', kind)
    try:
        publisher.publish(packet_of(kind, 1, packets[1]))
        probe.wait_for_status(f'{node}: images', WARN, 'waiting for a key frame, 1 packets so far')
        for index in range(6, 12):
            publisher.publish(packet_of(kind, index, packets[index]))
        probe.wait_for_status(f'{node}: images', OK, f'images on /{transport}/image/{transport}')
        if transport == 'ffmpeg':                           # its packets are numbered
            publisher.publish(packet_of(kind, 14, packets[14]))
            probe.wait_for_status(f'{node}: images', WARN, 'waiting for a key frame')
    finally:
        probe.destroy_publisher(f'/{transport}/image/{transport}')
        edge.kill()


@pytest.mark.parametrize('transport', KINDS)
def test_messages_that_are_not_installed_are_named(launch_node, transport):
    package, _ = KINDS[transport]
    if importlib.util.find_spec(package):
        pytest.skip(f'{package} is installed')
    edge = launch_node('evitif_edge_node.edge_node', {'image_transport': transport, 'model': 'artifacts/fashion_mnist', 'unsealed': True,
                                                          'image_timeout': 3600.0})
    assert edge.wait() == 1, edge.output
    assert f'needs the messages {package}' in edge.output and 'apt install' in edge.output and 'Traceback' not in edge.output
