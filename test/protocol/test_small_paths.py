"""A path that swallows large datagrams of the handshake, or large answers, and says nothing."""

from dataclasses import replace

import pytest

from evitif.protocol.bridge.endpoint import BridgeConfig
from evitif.protocol.edge.connection import EdgeConfig
from evitif.protocol.events import AnswerArrived, AnswerSize, DatagramSize, LinkLost, Refused, RobotConnected
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.wire import datagram
from evitif.protocol.wire.handshake import Hello

from .simulated_link import PARAMETERS, SMALL, Impairment, Simulation, answer_to

KEY = Key(bytes(range(32)))
# What a robot with a transform code says: 594 bytes.
FORMATS = (('klt2', 100), ('klt1.5', 80), ('klt1', 60), ('klt0.5', 50), ('klt0.25', 40), ('klt0.125', 30))
LONG = replace(PARAMETERS, code='ab' * 32, formats=FORMATS)
LONGEST_NAME = 'n' * 128


def narrow(link, limit):
    """From now on the link swallows datagrams of more than `limit` bytes; returns what ends that."""
    passes = link.passes
    link.passes = lambda size, now: None if size > limit else passes(size, now)

    def widen():
        link.passes = passes
    return widen


def begun(key=KEY, parameters=LONG, at_bridge=LONG, robot='rover', name='bridge', config=None, **options):
    run = Simulation(**options)
    run.add_bridge(at_bridge, name=name, keys=None if key is None else RobotKeys(default=key))
    edge = run.add_edge(parameters, config, robot, key=key)
    return run, edge


def hellos(run) -> list[bytes]:
    return [data for _, data in run.departed if data[3] == datagram.HELLO]


@pytest.mark.parametrize(('key', 'robot', 'name', 'limit', 'loss', 'delay'), [
    (KEY, 'rover', 'bridge', 548, 0.0, 0.002), (KEY, LONGEST_NAME, LONGEST_NAME, 548, 0.3, 0.2),
    (None, LONGEST_NAME, 'bridge', 548, 0.3, 0.2)])
def test_a_robot_behind_a_small_path_connects(key, robot, name, limit, loss, delay):
    links = {way: Impairment(loss, delay=delay) for way in ('uplink', 'downlink')}
    run = Simulation(seed=1, **links)
    for link in links.values():
        narrow(link, limit)
    run.add_bridge(LONG, name=name, keys=None if key is None else RobotKeys(default=key))
    edge = run.add_edge(LONG, EdgeConfig(bridge_name=name), robot, key=key)
    run.run(6.0)
    assert edge.connected and len(run.of(RobotConnected)) == 1
    run.stream(edge, LONG, 25, 5.0)
    run.run(6.0)
    assert len([when for when in run.when(AnswerArrived) if when > run.now - 3.0]) >= 8


def test_a_robot_comes_back_after_its_path_has_become_small_and_the_bridge_was_restarted():
    run, edge = begun(seed=2)
    run.run(1.0)
    assert edge.connected
    narrow(run.uplink, 560)
    run.bridge = None
    run.run(3.0)
    run.add_bridge(LONG, keys=RobotKeys(default=KEY))
    back = run.now
    run.run(8.0)
    assert edge.connected and run.when(RobotConnected)[-1] < back + 6.0


@pytest.mark.parametrize('round_trip', [0.5, 1.0, 1.5])
@pytest.mark.parametrize('limit', [548, 1500])
def test_the_turns_are_long_enough_for_a_long_round_trip(round_trip, limit):
    run, edge = begun(uplink=Impairment(delay=round_trip / 2), downlink=Impairment(delay=round_trip / 2))
    narrow(run.uplink, limit)
    run.run(12.0)
    assert edge.connected and run.when(RobotConnected)[-1] < 22.0 - 3.0


def test_no_short_hello_goes_out_where_the_long_one_gets_a_reply_or_is_short_itself():
    run, edge = begun(at_bridge=replace(LONG, cut=4))
    run.run(8.0)
    assert {len(data) for data in hellos(run)} == {len(hellos(run)[0])} and len(hellos(run)[0]) > 548
    assert [event.reason for event in run.of(Refused)] == ['cut: the edge has 3, the bridge has 4']
    run = Simulation()
    run.add_edge(PARAMETERS, key=KEY)
    run.run(8.0)
    assert len({len(data) for data in hellos(run)}) == 1


def test_what_differs_is_said_as_far_as_a_short_hello_can_say_it():
    for key in (KEY, None):
        run, edge = begun(key, at_bridge=replace(LONG, cut=4), robot=LONGEST_NAME)
        narrow(run.uplink, 548)
        run.run(10.0)
        assert [event.reason for event in run.of(Refused)] == [
            "parameters: the edge's differ from the bridge's; in what, only a longer HELLO would say, and none gets through"]
        assert edge.session_id is None


def test_another_key_is_said_too():
    run, _ = begun()
    run.add_bridge(LONG, keys=RobotKeys(default=Key(bytes(32))))
    narrow(run.uplink, 548)
    run.run(10.0)
    assert len(run.of(Refused)) == 1 and 'key' in run.of(Refused)[0].reason


def test_a_robot_that_is_set_to_small_datagrams_asks_with_a_short_hello_at_once():
    run, edge = begun(config=EdgeConfig(max_datagram_bytes=548))
    run.run(0.5)
    assert edge.connected and max(map(len, hellos(run))) <= 548


@pytest.mark.parametrize('size', [256, 271, 272])
def test_the_smallest_datagrams_that_can_be_set_hold_a_seal(size):
    run = Simulation(seed=6)
    run.add_bridge(SMALL, BridgeConfig(max_datagram_bytes=size), keys=RobotKeys(default=KEY))
    edge = run.add_edge(SMALL, EdgeConfig(max_datagram_bytes=size), key=KEY, robot='r')
    run.run(1.0)
    run.stream(edge, SMALL, 5)
    run.run(1.0)
    assert len(run.of(AnswerArrived)) == 5
    assert max(len(data) for data, _ in run.carried) <= size


def test_a_device_s_short_hello_finds_its_own_stream():
    streams = [replace(LONG, strategy='partition', device=device, cut=cut) for device, cut in (('left', 3), ('right', 4))]
    run = Simulation()
    run.add_bridge(streams, keys=RobotKeys(default=KEY))
    narrow(run.uplink, 548)
    for k, stream in enumerate(streams):
        run.add_edge(stream, robot=f'rover.{stream.device}', address=('10.0.0.1', 4000 + k), key=KEY)
    run.run(5.0)
    assert {(event.robot, event.device) for event in run.of(RobotConnected)} == {('rover.left', 'left'), ('rover.right', 'right')}


def test_a_name_that_is_not_the_device_s_is_refused_in_a_short_hello_too():
    run = Simulation()
    stream = replace(LONG, strategy='partition', device='left')
    run.add_bridge([stream], keys=RobotKeys(default=KEY))
    narrow(run.uplink, 548)
    run.add_edge(stream, robot='rover', key=KEY)
    run.run(5.0)
    assert not run.of(RobotConnected) and 'its name on the link is rover' in run.of(Refused)[0].reason


@pytest.mark.parametrize('key', [None, KEY], ids=['unsealed', 'sealed'])
def test_a_short_hello_draws_no_more_bytes_from_the_bridge_than_a_long_one_might(key):
    """By an address that has proved nothing: sealed no more than it sent, else at most three times as many."""
    run, edge = begun(key, name=LONGEST_NAME)
    edge._hellos.handshake.short = True
    edge._hellos.handshake.renew()
    for _ in range(20):
        hello = edge._hellos.handshake.hello(None, 0)
        run.bridge.receive_datagram(hello, ('192.0.2.1', 53), run.now)
        drawn = sum(len(data) for data, _ in run.bridge.datagrams_to_send(run.now))
        assert 0 < drawn <= (1 if key else 3) * len(hello)
    assert Hello('rover', 5, LONG.digest).to_bytes() != Hello('rover', 5, LONG).to_bytes()
    assert not run.of(LinkLost)


class Detailed(Simulation):
    """Its bridge answers with 100 classes: in 980 bytes."""

    def _answer(self, bridge, frame) -> None:
        now = self.now + self.clock_offset
        answer = answer_to(frame, now, class_ids=tuple(range(100)), scores=tuple(1 / (k + 2) for k in range(100)))
        bridge.send_answer(frame.session_id, answer, now)


def detailed(parameters=PARAMETERS, key=KEY, **options):
    run = Detailed(**options)
    run.add_bridge(parameters, keys=None if key is None else RobotKeys(default=key))
    edge = run.add_edge(parameters, key=key)
    run.run(1.0)
    assert edge.connected
    return run, edge


def classes(run, since) -> list[int]:
    return [len(event.answer.class_ids) for when, _, event in run.events if isinstance(event, AnswerArrived) and when > since]


@pytest.mark.parametrize('key', [None, KEY], ids=['unsealed', 'sealed'])
@pytest.mark.parametrize(('limit', 'loss', 'rate'), [(900, 0.0, 10.0), (560, 0.4, 10.0), (600, 0.0, 2.0)])
def test_answers_that_a_path_swallows_get_fewer_classes_and_arrive_again(key, limit, loss, rate):
    run, edge = detailed(key=key, downlink=Impairment(loss), seed=3)
    run.stream(edge, PARAMETERS, int(9 * rate), rate)
    run.run(2.0)
    assert classes(run, 0.0) == [100] * len(classes(run, 0.0)) != []
    narrow(run.downlink, limit)
    began = run.now
    run.run(7.0)
    arrived = classes(run, began + 4.0)
    assert len(arrived) >= 0.9 * 3 * rate and set(arrived) <= {52, 54} and len({*arrived}) == 1
    assert run.of(AnswerSize) == [AnswerSize(edge.session_id, 'robot', 548, 1200)]
    assert not run.of(DatagramSize) and not run.of(LinkLost)


@pytest.mark.parametrize('seed', [3, 5])
def test_both_ways_may_become_small_at_once_beside_a_lossy_radio(seed):
    run, edge = detailed(uplink=Impairment(0.5), downlink=Impairment(0.5), seed=seed)
    run.stream(edge, PARAMETERS, 80, 10.0)
    run.run(2.0)
    for way in (run.uplink, run.downlink):
        narrow(way, 600)
    began = run.now
    run.run(6.5)
    assert len(classes(run, began + 5.0)) >= 10


def test_another_address_may_be_another_path():
    run, edge = detailed(seed=4)
    run.stream(edge, PARAMETERS, 60, 10.0)
    widen = narrow(run.downlink, 700)
    run.run(4.0)
    assert len(run.of(AnswerSize)) == 1
    assert classes(run, run.now - 1.0)[-1] == 52
    widen()
    address = ('10.0.0.2', 5000)
    run.edges[address] = run.edges.pop(('10.0.0.1', 4000))
    run.run(2.0)
    assert classes(run, run.now - 1.0)[-1] == 100


def test_answers_that_cannot_be_smaller_are_said():
    tokens = replace(PARAMETERS, tokens=1 + 64 * 64, grid=(64, 64), channels=8, row_bytes=8)      # a bitmap of 513 bytes
    run, edge = detailed(tokens, seed=5)
    run.stream(edge, tokens, 50, 10.0)
    widen = narrow(run.downlink, 600)
    run.run(3.0)
    assert [(event.size, event.before) for event in run.of(AnswerSize)] == [(1200, 1200)]
    widen()
    run.run(2.5)
    assert [(event.size, event.before) for event in run.of(AnswerSize)] == [(1200, 1200), (1200, 0)]
    assert set(classes(run, run.now - 1.0)) == {72}


@pytest.mark.parametrize('loss', [0.3, 0.6, 0.8, 0.9])
def test_radio_loss_takes_no_classes(loss):
    for seed in range(2):
        run, edge = detailed(downlink=Impairment(loss), uplink=Impairment(loss / 2), seed=seed)
        run.stream(edge, PARAMETERS, 60, 10.0)
        run.run(7.0)
        assert not run.of(AnswerSize)
        assert classes(run, run.now - 2.0).count(52) < 11


def test_a_short_hello_of_a_robot_without_heads_or_with_all_of_them_is_understood():
    bridge = replace(PARAMETERS, heads=(('rooms', 'ab' * 8), ('things', 'cd' * 8)))
    for heads in ((), bridge.heads):
        run = Simulation()
        run.add_bridge(bridge)
        edge = run.add_edge(replace(PARAMETERS, heads=heads), EdgeConfig(max_datagram_bytes=400))
        run.run(1.0)
        assert edge.connected
        (session,) = run.bridge.sessions.values()
        assert session.heads_read == tuple(name for name, _ in heads)
