"""A directory and bridges as they run: sockets, files, and the door of the operator."""

import json
import time

import pytest

from evitif.protocol.sealing.keys import write_key_file
from evitif_cli.main import main
from evitif_fleet.admin import AdminServer, ask
from evitif_fleet.directory import DirectoryRuntime, DirectorySettings

from .test_ten_thousand_robots import SMALL


def wait(condition, seconds=15.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.01)


@pytest.fixture
def keys(tmp_path):
    for name in ('fleet.key', 'robots.key', 'other.key'):
        write_key_file(tmp_path / name)
    return tmp_path


@pytest.fixture
def directory(keys):
    runtime = DirectoryRuntime(DirectorySettings(str(keys / 'fleet.key'), str(keys / 'robots.key'), bind_host='127.0.0.1', port=0,
                                                 state=str(keys / 'state.json')))
    runtime.start()
    yield runtime
    runtime.stop()


def bridge_of(directory, keys, number):
    """A bridge's endpoint, on a socket, that reports to the directory."""
    from evitif.protocol.bridge.endpoint import BridgeEndpoint
    from evitif.protocol.bridge.fleet_place import FleetPlace
    from evitif.protocol.sealing.keys import read_robot_keys, read_secret
    from evitif.protocol.sealing.tickets import FleetKey
    from evitif.transport import UdpLoop
    place = FleetPlace(number, FleetKey(read_secret(keys / 'fleet.key')), 100 + number, clock_ahead_s=time.time() - time.monotonic())
    place.set_directories([directory.local_address])
    endpoint = BridgeEndpoint(SMALL, f'bridge {number}', keys=read_robot_keys(keys / 'robots.key'), place=place)
    loop = UdpLoop(endpoint, bind=('127.0.0.1', 0), on_event=lambda event: None)
    loop.start()
    return endpoint, loop


def test_bridges_report_over_udp_and_the_operator_sees_and_drains_them(directory, keys, capsys):
    bridges = [bridge_of(directory, keys, number) for number in (1, 2)]
    admin = AdminServer(directory, ('127.0.0.1', 0))
    admin.start()
    try:
        wait(lambda: len(directory.status()['bridges']) == 2)
        assert [bridge['state'] for bridge in directory.status()['bridges']] == ['serving', 'serving']
        fleet = keys / 'fleet.yaml'
        fleet.write_text(f'fleet: lab\nfleet_key: fleet.key\nkey_file: robots.key\ndirectory:\n  admin: 127.0.0.1:{admin.address[1]}\n')
        assert main(['fleet', 'status', str(fleet)]) == 0
        assert '2 bridges serve, 0 robots' in capsys.readouterr().out
        assert main(['fleet', 'drain', str(fleet), 'bridge 2']) == 0
        wait(lambda: bridges[1][0].place.draining)
        assert not bridges[0][0].place.draining
        assert main(['fleet', 'drain', str(fleet), 'bridge 2', '--undo']) == 0
        wait(lambda: not bridges[1][0].place.draining)
        capsys.readouterr()
        assert main(['fleet', 'drain', str(fleet), 'bridge 9']) == 1
        assert capsys.readouterr().err == 'evitif: bridge 9: no bridge of this name; expected one of bridge 1, bridge 2\n'
        fleet.write_text(fleet.read_text().replace('fleet_key: fleet.key', 'fleet_key: other.key'))
        assert main(['fleet', 'status', str(fleet)]) == 1
        assert "expected the fleet's key" in capsys.readouterr().err
    finally:
        admin.stop()
        for _, loop in bridges:
            loop.stop()
    with pytest.raises(ValueError, match='no directory answers at 127.0.0.1:1'):
        ask(('127.0.0.1', 1), directory.key, '/status')


def test_what_a_directory_knows_survives_its_restart(directory, keys):
    endpoint, loop = bridge_of(directory, keys, 5)
    try:
        wait(lambda: len(directory.status()['bridges']) == 1)
        directory.drain('bridge 5')
        directory.want_version('b')
    finally:
        loop.stop()
    directory.stop()
    again = DirectoryRuntime(directory.settings)
    again.start()
    try:
        found = again.status()
        assert found['wanted_version'] == 'b' and [bridge['name'] for bridge in found['bridges']] == ['bridge 5']
        assert found['bridges'][0]['state'] == 'draining'
    finally:
        again.stop()
    (keys / 'state.json').write_text(json.dumps({'bridges': [{}]}))
    said = []
    broken = DirectoryRuntime(directory.settings, lambda level, text: said.append(text))
    broken.start()
    broken.stop()
    assert any('begins without what it knew' in text for text in said)


def test_a_fleet_s_file_is_refused_with_one_sentence(keys, capsys):
    fleet = keys / 'fleet.yaml'
    for content, said in (
            ('fleet: lab\n', 'fleet_key is missing'), ('fleet: lab\nfleet_key: f\nkey_file: k\nbridge: 3\n', 'bridge is not known'),
            ('fleet: lab\nfleet_key: f\nkey_file: k\nbridges:\n  least: two\n', "bridges.least is 'two'; expected int"),
            ('fleet: lab\nfleet_key: f\n', 'expected key_file, or unsealed: true'), ('[', 'is no YAML'),
            ('fleet: lab\nfleet_key: f\nkey_file: k\nbridges:\n  least: 9\n', 'expected 1 ≤ least ≤ most')):
        fleet.write_text(content)
        assert main(['fleet', 'status', str(fleet)]) == 1
        error = capsys.readouterr().err
        assert said in error and len(error.splitlines()) == 1, error


def test_without_ray_the_fleet_says_what_to_install(keys, capsys, monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, 'ray', None)
    (keys / 'fleet.yaml').write_text('fleet: lab\nfleet_key: fleet.key\nkey_file: robots.key\n')
    for verb in ('up', 'down'):
        assert main(['fleet', verb, str(keys / 'fleet.yaml')]) == 1
        assert 'pip install -r requirements/fleet.txt' in capsys.readouterr().err


def test_a_robot_that_is_started_with_a_directory_is_answered_and_moved_without_losing_a_frame(directory, keys):
    import numpy as np

    from evitif.pipeline import BridgeRuntime, EdgeRuntime
    from evitif.settings import bridge_settings, edge_settings
    home, port = directory.local_address
    common = {'key_file': str(keys / 'robots.key'), 'threads': 1}
    bridges = [BridgeRuntime(bridge_settings(**common, bridge_name=f'bridge {number}', bind_host='127.0.0.1', port=0, bridge_number=number,
                                             directories=f'{home}:{port}', fleet_key=str(keys / 'fleet.key')),
                             on_prediction=lambda robot, prediction: None) for number in (1, 2)]
    answers = []
    for bridge in bridges:
        bridge.start()
    edge = EdgeRuntime(edge_settings(**common, bridge_host=home, bridge_port=port), on_prediction=answers.append)
    try:
        wait(lambda: [bridge['state'] for bridge in directory.status()['bridges']] == ['serving'] * 2)
        edge.start()
        wait(lambda: edge.statistics().state == 'connected')
        first = next(bridge for bridge in bridges if bridge.statistics().links)
        wait(lambda: first._endpoint.place.route('robot', '', time.monotonic()))      # it knows the other one

        def send(count: int) -> None:
            for _ in range(count):
                before = len(answers)
                edge.submit(np.zeros((28, 28, 3), np.uint8), time.time_ns())
                wait(lambda before=before: len(answers) > before)
        send(5)
        first._loop.call(lambda now: setattr(first._endpoint.place, 'told_to_drain', True))
        wait(lambda: not first.statistics().links or not send(1))
        send(5)
        assert {answer.how for answer in answers} == {'off-board'}
        assert sum(len(bridge.statistics().links) for bridge in bridges) == 1
    finally:
        edge.stop()
        for bridge in bridges:
            bridge.stop()
