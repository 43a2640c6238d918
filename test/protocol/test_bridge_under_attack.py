"""What others send costs the robots that are served little, and keys come and go while the bridge runs."""

import pytest

from evitif.protocol.bridge.endpoint import BridgeEndpoint
from evitif.protocol.events import AnswerArrived, Connected, RobotConnected, RobotLost
from evitif.protocol.sealing import seal as sealing
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.sealing.seal import sign
from evitif.protocol.wire import datagram
from evitif.protocol.wire.handshake import Hello

from .simulated_link import SMALL, Impairment, Simulation

KEY, OTHER = Key(bytes(range(32))), Key(bytes(range(1, 33)))
ADDRESS = ('10.0.0.1', 4000)


def hello_of_nobody() -> bytes:
    return sign(bytes(32), datagram.HELLO, 0, 0, bytes(48) + Hello('robot', 5, SMALL).to_bytes())


def test_a_flood_of_hellos_is_rationed_and_a_robot_that_is_served_does_not_feel_it():
    simulation = Simulation(seed=1)
    bridge = simulation.add_bridge(SMALL, keys=RobotKeys(default=KEY))
    edge = simulation.add_edge(SMALL, key=KEY)
    simulation.run(1.0)
    noise = hello_of_nobody()

    def flood():
        for host in range(200):
            bridge.receive_datagram(noise, (f'10.1.{host}.{len(simulation.events) % 250}', 1), simulation.now + simulation.clock_offset)
    for tick in range(200):
        simulation.at(simulation.now + tick * 0.01, flood)
    sent = simulation.stream(edge, SMALL, 20)
    simulation.run(3.0)
    assert len(simulation.of(AnswerArrived)) == len(sent) == 20
    dropped = bridge.statistics.dropped
    assert dropped['corrupt'] <= 500 + 3 * 512           # as many as were read: the burst, and the seconds' share
    assert dropped['rationed'] + dropped['corrupt'] == 40_000


def test_one_address_does_not_take_the_others_share_of_the_hellos():
    simulation = Simulation(seed=2)
    bridge = simulation.add_bridge(SMALL, keys=RobotKeys(default=KEY))
    noise = hello_of_nobody()
    for _ in range(20_000):
        bridge.receive_datagram(noise, ('10.9.9.9', 9), simulation.now + simulation.clock_offset)
    simulation.add_edge(SMALL, key=KEY)
    simulation.run(0.2)
    assert simulation.of(RobotConnected)


def test_64_robots_at_60_percent_loss_all_get_a_session_within_two_seconds():
    simulation = Simulation(seed=3, uplink=Impairment(loss=0.6), downlink=Impairment(loss=0.6))
    simulation.add_bridge(SMALL, keys=RobotKeys(default=KEY))
    for number in range(64):
        simulation.add_edge(SMALL, robot=f'robot {number}', address=('10.0.0.2', 5000 + number), key=KEY)
    simulation.run(2.0)
    assert {event.robot for event in simulation.of(RobotConnected)} == {f'robot {number}' for number in range(64)}


def test_a_new_key_connects_its_robot_and_a_key_that_was_taken_away_ends_the_session():
    simulation = Simulation(seed=4)
    bridge = simulation.add_bridge(SMALL, keys=RobotKeys({'first': KEY}))
    first = simulation.add_edge(SMALL, robot='first', address=ADDRESS, key=KEY)
    second = simulation.add_edge(SMALL, robot='second', address=('10.0.0.2', 4000), key=OTHER)
    simulation.run(1.0)
    assert first.connected and not second.connected
    bridge.set_keys(RobotKeys({'first': KEY, 'second': OTHER}))
    simulation.run(2.0)
    assert first.connected and second.connected
    assert not simulation.of(RobotLost)
    bridge.set_keys(RobotKeys({'second': OTHER}))
    simulation.run(2.0)
    assert [event.reason for event in simulation.of(RobotLost)] == ['its key was changed or taken away']
    assert second.connected and [session.robot for session in bridge.sessions.values()] == ['second']
    with pytest.raises(ValueError, match='the bridge is unsealed'):
        BridgeEndpoint(SMALL, 'bridge').set_keys(RobotKeys())


@pytest.mark.parametrize('victim', ['bridge', 'edge'])
def test_a_session_whose_keys_refused_too_many_forgeries_gets_other_keys(monkeypatch, victim):
    monkeypatch.setattr(sealing, 'FORGERIES', 5)
    simulation = Simulation(seed=5)
    bridge = simulation.add_bridge(SMALL, keys=RobotKeys(default=KEY))
    edge = simulation.add_edge(SMALL, address=ADDRESS, key=KEY)
    simulation.run(0.5)
    session = edge.session_id
    kind = 4 if victim == 'bridge' else 5
    for number in range(5):
        assert edge.session_id == session and session in bridge.sessions
        forged = sealing.sealed_header(kind, session, 100_000 + number) + bytes(40)
        if victim == 'bridge':
            bridge.receive_datagram(forged, ('10.6.6.6', 6), simulation.now + simulation.clock_offset)
        else:
            edge.receive_datagram(forged, simulation.now)
    simulation.run(1.0)
    assert edge.connected and edge.session_id != session
    assert len(simulation.of(Connected)) == 2
