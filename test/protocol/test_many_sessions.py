"""Bridges that share a key, and bridges with many robots."""

import sys

import pytest

from evitif.protocol.bridge.endpoint import BridgeConfig, BridgeEndpoint
from evitif.protocol.edge.connection import EdgeConfig
from evitif.protocol.events import Refused, RobotConnected, RobotLost
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.wire import datagram
from evitif.protocol.wire.handshake import Hello

from .simulated_link import SMALL, Simulation

KEY = Key(bytes(range(32)))


@pytest.mark.parametrize('key', [KEY, None])
def test_a_robot_that_was_told_its_bridge_connects_to_no_other_of_the_same_key(key):
    keys = None if key is None else RobotKeys(default=key)
    run = Simulation()
    run.add_bridge(SMALL, name='kitchen', keys=keys)
    edge = run.add_edge(SMALL, EdgeConfig(bridge_name='garden'), key=key)
    anybody = run.add_edge(SMALL, robot='another', address=('10.0.0.2', 1), key=key)
    run.run(2.0)
    assert not edge.connected and anybody.connected
    assert run.of(Refused) == [Refused('bridge: the edge wants garden, this is kitchen')]
    run.add_bridge(SMALL, name='garden', keys=keys)
    run.run(2.0)
    assert edge.connected


@pytest.mark.parametrize('key', [KEY, None])
def test_a_bridge_that_does_not_know_what_it_is_asked_is_not_believed(key, monkeypatch):
    run = Simulation()
    run.add_bridge(SMALL, name='kitchen', keys=None if key is None else RobotKeys(default=key))
    parse = Hello.parse.__func__
    monkeypatch.setattr(Hello, 'parse', classmethod(lambda cls, body: cls(*(list(vars(parse(cls, body)).values())[:4]))))
    edge = run.add_edge(SMALL, EdgeConfig(bridge_name='garden'), key=key)
    run.run(2.0)
    assert not edge.connected


@pytest.mark.parametrize('name', ['a' * 129, 'a\nb'])
def test_an_impossible_name_of_a_bridge_is_refused(name):
    with pytest.raises(ValueError, match='bridge_name is'):
        EdgeConfig(bridge_name=name)


def lines_of_a_hello(sessions: int) -> int:
    """Lines of Python that are run for a HELLO, the timer after it, and a HELLO of a robot that is new."""
    bridge = BridgeEndpoint(SMALL, 'bridge', BridgeConfig(max_sessions=sessions + 1, session_timeout_s=1000.0))

    def hello(number, now):
        data = datagram.build(datagram.HELLO, 0, int(now), Hello(f'robot {number}', number, SMALL).to_bytes())
        bridge.receive_datagram(data, ('10.0.0.1', number), now)
        bridge.get_timer()
        bridge.handle_timer(now)
    for number in range(sessions):
        hello(number, 1.0 + 0.01 * number)
    lines = 0

    def count(frame, event, argument):
        nonlocal lines
        lines += event == 'line'
        return count
    now = 2.0 + 0.01 * sessions
    sys.settrace(count)
    try:
        hello(1, now)
        hello(sessions, now)
    finally:
        sys.settrace(None)
    assert len(bridge.sessions) == sessions + 1
    return lines


def test_the_cost_of_a_hello_does_not_grow_with_the_number_of_sessions():
    assert lines_of_a_hello(800) <= 1.2 * lines_of_a_hello(8)


def test_sessions_end_one_by_one_in_time_and_their_times_do_not_pile_up():
    run = Simulation(seed=1)
    bridge = run.add_bridge(SMALL, keys=RobotKeys(default=KEY))
    edges = [run.add_edge(SMALL, robot=f'robot {k}', address=('10.0.0.1', k), key=KEY) for k in range(20)]
    run.run(1.0)
    assert len(run.of(RobotConnected)) == 20
    for edge in edges:
        run.stream(edge, SMALL, 40)
    left = {}
    for k in range(20):
        run.run(0.2)
        assert len(bridge._sessions._order) <= 64 + 4 * 20
        del run.edges['10.0.0.1', k]
        left[f'robot {k}'] = run.now
    run.run(3.0)
    lost = {event.robot: when for when, _, event in run.events if isinstance(event, RobotLost)}
    assert set(lost) == set(left)
    assert all(1.9 < lost[robot] - left[robot] <= 2.1 for robot in left)
    assert not bridge._sessions._order and bridge.get_timer() is None
