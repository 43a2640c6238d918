"""Each thing that goes wrong ends in a sentence that says what to do, or simply works."""

import socket
import time

import numpy as np
import pytest

from evitif.pipeline import BridgeRuntime, BridgeRuntimeConfig, EdgeRuntime, EdgeRuntimeConfig
from evitif.protocol.keys import KeyFileError, write_key_file
from evitif.transport import TransportError

MODEL = {'model': 'vit_tiny_patch16_224', 'random_seed': 1, 'image_size': 64, 'num_classes': 9, 'cut': 1}
IMAGE = np.zeros((64, 64, 3), np.uint8)


def wait(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.01)


def edge_of(port, on_prediction=lambda _: None, **config):
    return EdgeRuntime(EdgeRuntimeConfig(**{**MODEL, 'unsealed': True, **config}, bridge_port=port), on_prediction=on_prediction)


def test_a_port_in_use_is_named():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(('127.0.0.1', 0))
        port = taken.getsockname()[1]
        bridge = BridgeRuntime(BridgeRuntimeConfig(**MODEL, unsealed=True, bind_host='127.0.0.1', port=port), on_prediction=print)
        with pytest.raises(TransportError, match=f'127.0.0.1:{port} is already in use: expected a port where nobody listens'):
            bridge.start()


def test_a_host_that_does_not_resolve_is_named():
    with pytest.raises(TransportError, match="host 'no-such-host.invalid' .* does not resolve: .*; expected a host name known here"):
        edge_of(7600, bridge_host='no-such-host.invalid').start()


@pytest.mark.parametrize('host', ['192.0.2.1', '127.0.0.1'], ids=['of nobody', 'without a bridge'])
def test_who_cannot_be_reached_is_asked_again_and_the_robot_answers_alone(host):
    answers = []
    edge = edge_of(9, answers.append, bridge_host=host, local_fallback=True)
    edge.start()
    try:
        edge.submit(IMAGE, 1)
        wait(lambda: answers)
        assert answers[0].strategy == 'local'
        assert edge.statistics().state == 'connecting'
    finally:
        edge.stop()


def test_an_ipv6_address_works():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(('::1', 0))
    except OSError as error:
        pytest.skip(f'this machine has no IPv6: {error}')
    answers = []
    bridge = BridgeRuntime(BridgeRuntimeConfig(**MODEL, unsealed=True, bind_host='::1', port=0), on_prediction=lambda *_: None)
    bridge.start()
    edge = edge_of(bridge.local_address[1], answers.append, bridge_host='::1')
    edge.start()
    try:
        wait(lambda: edge.statistics().state == 'connected')
        edge.submit(IMAGE, 1)
        wait(lambda: answers)
    finally:
        edge.stop()
        bridge.stop()
    assert answers[0].strategy == 'split'


def test_a_key_file_that_was_cut_off_is_named(tmp_path):
    path = tmp_path / 'robot.key'
    write_key_file(path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(KeyFileError, match=r"robot.key' holds 20 bytes that are not a key; expected 32 bytes in base64"):
        EdgeRuntime(EdgeRuntimeConfig(**MODEL, key_file=str(path)), on_prediction=print)


def test_a_key_that_is_put_into_the_folder_is_heeded_without_a_restart(tmp_path):
    folder = tmp_path / 'keys'
    folder.mkdir(mode=0o700)
    write_key_file(folder / 'first.key')
    log = []
    bridge = BridgeRuntime(BridgeRuntimeConfig(**MODEL, key_file=str(folder), bind_host='127.0.0.1', port=0), on_prediction=lambda *_: None,
                           log=lambda level, text: log.append(text))
    bridge.start()
    write_key_file(tmp_path / 'second.key')
    edge = edge_of(bridge.local_address[1], unsealed=False, key_file=str(tmp_path / 'second.key'), robot_name='second')
    edge.start()
    try:
        wait(lambda: edge.statistics().state == 'refused')
        assert 'the bridge has no key for robot second' in edge.statistics().reason
        (folder / 'broken.key').write_text('no key')
        (folder / 'broken.key').chmod(0o600)
        wait(lambda: any('the former ones are kept' in text and 'broken.key' in text for text in log))
        (folder / 'broken.key').unlink()
        (tmp_path / 'second.key').rename(folder / 'second.key')
        wait(lambda: edge.statistics().state == 'connected')
    finally:
        edge.stop()
        bridge.stop()
