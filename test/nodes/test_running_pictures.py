"""A camera of files some of which are no good, and an edge node with a sensor of 12 bits, as real processes."""

from __future__ import annotations

import numpy as np
import pytest
from node_process import free_udp_port
from PIL import Image as Picture

OK, WARN = b'\x00', b'\x01'


def test_the_camera_skips_what_it_cannot_read_names_it_and_goes_on(launch_node, probe, tmp_path):
    from sensor_msgs.msg import Image
    for index, name in enumerate(('a.png', 'c.png', 'e.jpg')):
        Picture.new('RGB', (64, 48), (80 * index, 0, 0)).save(tmp_path / name)
    (tmp_path / 'b.ppm').write_bytes(b'P6\n24 2')
    (tmp_path / 'd.png').write_bytes(b'\x89PNG\r\n\x1a\n\0\0\0\x0cIHDR' + bytes(16))
    whole = (tmp_path / 'e.jpg').read_bytes()
    (tmp_path / 'f.jpg').write_bytes(whole[:-40] + b'\xff\xd9')
    (tmp_path / 'g.heic').write_bytes(b'x')
    (tmp_path / '._a.png').write_bytes(b'x')
    images = probe.collect(Image, '/broken/image')
    camera = launch_node('evitif_edge_node.camera_node', {
        'source': tmp_path, 'loop': False, 'rate': 20, 'wait_for_subscribers': 1, 'exit_when_done': True}, namespace='/broken')
    assert camera.wait() == 0, camera.output
    probe.wait(lambda: len(images) == 3, lambda: f'{len(images)} images')
    for name in ('b.ppm', 'd.png', 'f.jpg'):
        assert camera.output.count(f'{name}: cannot be read as an image') == 1, camera.output
    assert '1 .heic' in camera.output and '._a' not in camera.output and 'Traceback' not in camera.output
    assert 'done: published 3 images' in camera.output and 'skipped 3' in camera.output


@pytest.fixture(scope='module')
def edge(launch_node):
    return launch_node('evitif_edge_node.edge_node', {
        'model': 'vit_tiny_patch16_224', 'random_seed': 1, 'image_size': 64, 'num_classes': 10, 'unsealed': True, 'local_fallback': True,
        'answer_deadline': 0.2, 'bridge_port': free_udp_port(), 'image_timeout': 10.0}, namespace='/twelve')


def values_of(status):
    return {entry.key: entry.value for entry in status.values}


def test_a_sensor_of_12_bits_is_found_and_darkness_is_said(edge, probe):
    from sensor_msgs.msg import Image
    edge.wait_for_output('model vit_tiny')
    publisher = probe.publisher('/twelve/image')

    def publish(highest):
        grey = np.linspace(0, highest, 48 * 64).astype('<u2')
        publisher.publish(Image(height=48, width=64, step=128, encoding='mono16', data=grey.tobytes()))

    def wait_while_publishing(highest, fits):
        def status():
            publish(highest)
            found = probe.diagnostics.get('/twelve/edge_node: images')
            return found if found is not None and fits(found) else None
        return probe.wait(status, lambda: f'is {probe.diagnostics.get("/twelve/edge_node: images")}', 20.0)

    status = wait_while_publishing(4000, lambda found: 'significant bits' in values_of(found))
    assert values_of(status)['significant bits'] == '12, found from the images'
    edge.wait_for_output('12 significant bits')
    wait_while_publishing(200, lambda found: found.level == WARN and 'nearly black' in found.message)
    wait_while_publishing(4000, lambda found: found.level == OK)
    assert edge.output.count('nearly black') == 1 and edge.output.count('significant bits in') == 1
