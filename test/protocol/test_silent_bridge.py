"""A bridge that gives no reply to whoever has no key."""

from dataclasses import replace
from random import Random

import pytest

from evitif.protocol.bridge.endpoint import BridgeConfig, BridgeEndpoint
from evitif.protocol.edge.connection import EdgeConnection
from evitif.protocol.events import AnswerArrived, Connected, LinkLost, Refused, RobotRefused
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.sealing.seal import sign
from evitif.protocol.wire import datagram
from evitif.protocol.wire.handshake import Hello

from .simulated_link import SMALL, Impairment, Simulation

HOME, STRANGER = ('10.0.0.1', 4000), ('192.0.2.1', 53)
KEY, OTHER = Key(bytes(range(32))), Key(bytes(range(1, 33)))
SILENT = BridgeConfig(silent_to_strangers=True)


def simulation(loss: float = 0.0, **options) -> Simulation:
    run = Simulation(uplink=Impairment(loss), downlink=Impairment(loss), **options)
    run.add_bridge(SMALL, SILENT, keys=RobotKeys({'robot': KEY}))
    return run


def connected(**options):
    run = simulation(**options)
    return run, run.connected(parameters=SMALL, key=KEY, address=HOME)


def told(run, data, address=STRANGER) -> list[bytes]:
    """What the bridge replies to an address."""
    now = run.now + run.clock_offset
    run.bridge.receive_datagram(data, address, now)
    return [reply for reply, to in run.bridge.datagrams_to_send(now) if to == address]


@pytest.mark.parametrize('kind', [*sorted(datagram.TYPES), 13, 255])
def test_a_stranger_gets_no_reply_to_a_datagram_of_any_type(kind):
    run, edge = connected(seed=1)
    random = Random(kind)
    hello = Hello('robot', 5, SMALL).to_bytes()
    bodies = [b'', bytes(12), bytes(48) + hello, hello, random.randbytes(100), random.randbytes(1100), datagram.ping_body(
        1.0, datagram.ReceiverReport(1, 1, 0.0, 0.0))]
    for session in (0, 1, edge.session_id, random.getrandbits(64)):
        for body in bodies:
            for data in (datagram.build(kind, session, 1 << 20, body), sign(OTHER.hello, kind, session, 1 << 20, body),
                         sign(OTHER.reply, kind, session, 0, body), sign(bytes(32), kind, session, 0, body)):
                for address in (STRANGER, HOME):
                    assert told(run, data, address) == []
    assert list(run.bridge.sessions) == [edge.session_id]
    run.stream(edge, SMALL, 5)
    run.run(1.0)
    assert len(run.of(AnswerArrived)) == 5


@pytest.mark.parametrize(('robot', 'key', 'reason'), [
    ('robot', OTHER, 'key: the bridge has another key for robot robot'),
    ('stranger', OTHER, 'key: the bridge has no key for robot stranger'),
    ('robot', None, 'key: the edge is unsealed, the bridge seals the link with its key_file')])
def test_a_robot_without_the_key_is_told_nothing_and_the_bridge_s_own_people_why(robot, key, reason):
    run = simulation(seed=2)
    edge = run.add_edge(SMALL, robot=robot, key=key, address=HOME)
    run.run(5.0)
    assert edge.state == 'connecting' and edge.statistics.datagrams_received == 0
    assert not run.of(Refused) and run.of(RobotRefused) == [RobotRefused(robot, HOME, reason)]


def test_a_hello_that_led_to_a_session_gets_no_reply_when_it_is_played_back_during_it_and_after():
    run, edge = connected(seed=3)
    recorded = [data for data, _ in run.carried]
    for _ in range(2):
        for data in recorded:
            for address in (STRANGER, HOME):
                assert told(run, data, address) == []
        if edge.connected:
            edge.close(run.now)
            run.run(0.1)
    assert not run.bridge.sessions
    edge.connect(run.now)
    run.run(0.5)
    assert edge.connected
    for data in recorded:
        assert told(run, data) == []


def test_a_hello_that_led_to_none_shows_who_plays_it_back_no_more_than_that_there_is_a_bridge():
    run = simulation(seed=4)
    edge = EdgeConnection(SMALL, 'robot', key=KEY)
    edge.connect(run.now)
    hello = edge.datagrams_to_send(run.now)[0]
    for _ in range(3):
        reply, = {*told(run, hello)}
        assert reply[3] == datagram.CHALLENGE and len(reply) < len(hello)
    assert not run.bridge.sessions


@pytest.mark.parametrize('loss', [0.0, 0.3, 0.6])
@pytest.mark.parametrize('seed', range(2))
def test_a_robot_with_the_key_connects_and_is_answered_as_ever(seed, loss):
    run = simulation(loss, seed=seed)
    edge = run.add_edge(SMALL, key=KEY, address=HOME)
    run.run(2.0)
    assert edge.connected
    run.stream(edge, SMALL, 20)
    run.run(3.0)
    assert len(run.of(AnswerArrived)) >= 19


def test_the_welcome_is_said_again_as_long_as_the_robot_may_not_have_got_it():
    run = simulation(seed=5)
    edge = run.add_edge(SMALL, key=KEY, address=HOME)
    deliver = run._to_edge
    run._to_edge = lambda data, address: {address} if data[3] == datagram.WELCOME else deliver(data, address)
    run.run(1.0)
    assert run.bridge.sessions and not edge.connected
    run._to_edge = deliver
    run.run(0.3)
    assert edge.connected


def test_after_the_bridge_s_restart_a_robot_finds_out_by_silence():
    run, edge = connected(seed=6)
    former = edge.session_id
    restarted = run.now
    run.add_bridge(SMALL, SILENT, keys=RobotKeys({'robot': KEY}))
    run.run(3.0)
    assert edge.connected and edge.session_id != former and len(run.of(LinkLost)) == 1
    again = [when for when, _, event in run.events if isinstance(event, Connected) and when > restarted]
    assert edge.config.link_timeout_s - 0.3 < again[0] - restarted < edge.config.link_timeout_s + 0.3


def test_a_robot_with_the_key_and_another_model_is_told_so():
    run = simulation(seed=7)
    run.add_edge(replace(SMALL, cut=7), key=KEY, address=HOME)
    run.run(2.0)
    assert run.of(Refused) == [Refused('cut: the edge has 7, the bridge has 1')]


def test_silence_needs_keys():
    with pytest.raises(ValueError, match='silent_to_strangers is true and there are no keys: .* everybody is a stranger; expected keys'):
        BridgeEndpoint(SMALL, 'bridge', SILENT)
