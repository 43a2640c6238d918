"""Each thing that goes wrong ends in a sentence that says what to do, or simply works."""

import logging
import re
import socket
import time

import numpy as np
import pytest

from evitif.pipeline import BridgeRuntime, EdgeRuntime
from evitif.protocol.sealing.keys import KeyFileError, write_key_file
from evitif.settings import bridge_settings, edge_settings
from evitif.transport import TransportError

MODEL = {'model': 'vit_tiny_patch16_224', 'random_seed': 1, 'image_size': 64, 'num_classes': 9, 'cut': 1}
IMAGE = np.zeros((64, 64, 3), np.uint8)


def wait(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.01)


def edge_of(port, on_prediction=lambda _: None, **config):
    return EdgeRuntime(edge_settings(**{**MODEL, 'unsealed': True, **config}, bridge_port=port), on_prediction=on_prediction)


def test_a_port_in_use_is_named():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(('127.0.0.1', 0))
        port = taken.getsockname()[1]
        bridge = BridgeRuntime(bridge_settings(**MODEL, unsealed=True, bind_host='127.0.0.1', port=port), on_prediction=print)
        with pytest.raises(TransportError, match=f'127.0.0.1:{port} is already in use: expected a port where nobody listens'):
            bridge.start()


def test_a_host_that_does_not_resolve_is_named_and_asked_for_until_it_does(monkeypatch):
    bridge = BridgeRuntime(bridge_settings(**MODEL, unsealed=True, bind_host='127.0.0.1', port=0), on_prediction=lambda *_: None)
    bridge.start()
    real, known = socket.getaddrinfo, []
    monkeypatch.setattr(socket, 'getaddrinfo', lambda host, *more, **options: real(
        '127.0.0.1' if host == 'base.invalid' and known else host, *more, **options))
    edge = edge_of(bridge.local_address[1], bridge_host='base.invalid')
    edge.start()
    try:
        edge.submit(IMAGE, 1)
        wait(lambda: edge.statistics().frames_unsent == 1)
        assert edge.statistics().state == 'connecting'
        reason = edge.statistics().reason
        assert re.search(r"host 'base.invalid' \(port \d+\) does not resolve: .*; expected a host name known here", reason)
        known.append(True)
        wait(lambda: edge.statistics().state == 'connected')
        assert edge.statistics().reason == ''
    finally:
        edge.stop()
        bridge.stop()


@pytest.mark.parametrize('host', ['192.0.2.1', '127.0.0.1'], ids=['of nobody', 'without a bridge'])
def test_who_cannot_be_reached_is_asked_again_and_the_robot_answers_alone(host):
    answers = []
    edge = edge_of(9, answers.append, bridge_host=host, local_fallback=True)
    edge.start()
    try:
        edge.submit(IMAGE, 1)
        wait(lambda: answers)
        assert answers[0].how == 'fallback'
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
    bridge = BridgeRuntime(bridge_settings(**MODEL, unsealed=True, bind_host='::1', port=0), on_prediction=lambda *_: None)
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
        EdgeRuntime(edge_settings(**MODEL, key_file=str(path)), on_prediction=print)


def test_a_key_that_is_put_into_the_folder_is_heeded_without_a_restart(tmp_path):
    folder = tmp_path / 'keys'
    folder.mkdir(mode=0o700)
    write_key_file(folder / 'first.key')
    log = []
    bridge = BridgeRuntime(bridge_settings(**MODEL, key_file=str(folder), bind_host='127.0.0.1', port=0), on_prediction=lambda *_: None,
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
        wait(lambda: any('broken.key' in text and 'expected 32 bytes' in text for text in log))
        (folder / 'broken.key').unlink()
        (tmp_path / 'second.key').rename(folder / 'second.key')
        wait(lambda: edge.statistics().state == 'connected')
    finally:
        edge.stop()
        bridge.stop()


def test_a_silent_bridge_tells_a_robot_with_another_key_nothing_and_the_robot_says_what_may_be_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr('evitif.pipeline.edge_runtime.HINT_AFTER_S', 0.5)
    for name in ('bridge', 'robot'):
        write_key_file(tmp_path / f'{name}.key')
    log = []
    bridge = BridgeRuntime(bridge_settings(**MODEL, key_file=str(tmp_path / 'bridge.key'), silent_to_strangers=True, bind_host='127.0.0.1',
                                           port=0), on_prediction=lambda *_: None, log=lambda level, text: log.append(text))
    bridge.start()
    edge = edge_of(bridge.local_address[1], unsealed=False, key_file=str(tmp_path / 'robot.key'))
    edge.start()
    try:
        assert edge.statistics().reason == ''
        wait(lambda: 'no reply for ' in edge.statistics().reason)
        assert edge.statistics().state == 'connecting' and edge.statistics().link.datagrams_received == 0
        assert 'silent to strangers and have another key for this robot' in edge.statistics().reason
        wait(lambda: any('refused: key: the bridge has another key for robot' in text for text in log))
        (tmp_path / 'robot.key').replace(tmp_path / 'bridge.key')
        wait(lambda: edge.statistics().state == 'connected')
        assert edge.statistics().reason == ''
    finally:
        edge.stop()
        bridge.stop()


@pytest.fixture
def keys_of_two(tmp_path):
    """A folder with the keys of two robots, a bridge that reads it, and the robots, connected."""
    folder = tmp_path / 'keys'
    folder.mkdir(mode=0o700)
    names = 'stolen', 'honest'
    for name in names:
        write_key_file(folder / f'{name}.key')
        (tmp_path / f'{name}.key').write_bytes((folder / f'{name}.key').read_bytes())
        (tmp_path / f'{name}.key').chmod(0o600)
    bridge = BridgeRuntime(bridge_settings(**MODEL, key_file=str(folder), bind_host='127.0.0.1', port=0), on_prediction=lambda *_: None,
                           log=lambda level, text: None)
    bridge.start()
    stolen, honest = edges = [edge_of(bridge.local_address[1], unsealed=False, key_file=str(tmp_path / f'{name}.key'), robot_name=name)
                              for name in names]
    for edge in edges:
        edge.start()
    wait(lambda: all(edge.statistics().state == 'connected' for edge in edges))
    yield folder, stolen, honest
    for edge in edges:
        edge.stop()
    bridge.stop()


def others_readable(folder):
    (folder / 'other.key').write_text('whatever')
    (folder / 'other.key').chmod(0o644)


@pytest.mark.parametrize('also', [others_readable, lambda folder: (folder / 'other.key').mkdir(), lambda folder: None])
def test_a_key_that_is_taken_away_is_gone_whatever_else_is_wrong_in_the_folder(keys_of_two, also):
    folder, stolen, honest = keys_of_two
    session = honest.statistics().session_id
    also(folder)
    (folder / 'stolen.key').unlink()
    wait(lambda: stolen.statistics().state == 'refused')
    assert honest.statistics().state == 'connected' and honest.statistics().session_id == session


def test_a_key_that_becomes_unusable_ends_its_own_session_only(keys_of_two):
    folder, stolen, honest = keys_of_two
    (folder / 'stolen.key').chmod(0o644)
    wait(lambda: stolen.statistics().state == 'refused')
    assert honest.statistics().state == 'connected'
    (folder / 'stolen.key').chmod(0o600)
    wait(lambda: stolen.statistics().state == 'connected')


@pytest.mark.parametrize('revoke', [
    lambda folder: [file.unlink() for file in folder.glob('*.key')], lambda folder: folder.chmod(0o777),
    lambda folder: folder.rename(folder.with_name('elsewhere'))])
def test_nobody_has_a_key_where_the_last_one_is_gone_or_the_folder_cannot_be_trusted(keys_of_two, revoke):
    folder, stolen, honest = keys_of_two
    revoke(folder)
    wait(lambda: stolen.statistics().state == honest.statistics().state == 'refused')


def test_a_bridge_starts_with_the_keys_that_can_be_used_and_names_the_others(tmp_path):
    folder = tmp_path / 'keys'
    folder.mkdir(mode=0o700)
    for name in ('good', 'bad'):
        write_key_file(folder / f'{name}.key')
    (folder / 'bad.key').chmod(0o640)
    log = []
    bridge = BridgeRuntime(bridge_settings(**MODEL, key_file=str(folder), bind_host='127.0.0.1', port=0), on_prediction=lambda *_: None,
                           log=lambda level, text: log.append((level, text)))
    bridge.start()
    bridge.stop()
    said = [text for level, text in log if level == logging.ERROR]
    assert len(said) == 1 and 'bad.key' in said[0] and 'mode 0640' in said[0]
