"""A listener near the radio keeps what a robot sent, and brings it to the bridge later, from wherever it likes."""

import pytest

from evitif.protocol.events import AnswerArrived, LinkLost, RobotConnected, RobotLost
from evitif.protocol.rate.statistics import SequenceTracker
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.wire import datagram

from .simulated_link import SMALL, Impairment, Simulation

HOME, AWAY, LISTENER = ('10.0.0.1', 4000), ('10.0.0.2', 5000), ('10.6.6.6', 6)
KEY = Key(bytes(range(32)))
KEYS = RobotKeys(default=KEY)


def connected(**options):
    run = Simulation(**options)
    run.add_bridge(SMALL, keys=KEYS)
    edge = run.add_edge(SMALL, key=KEY, address=HOME)
    run.run(1.0)
    assert edge.connected
    return run, edge


def to_bridge(run, data, address=LISTENER) -> None:
    run.bridge.receive_datagram(data, address, run.now + run.clock_offset)


def watched(run) -> set[bytes]:
    """What will have reached the bridge."""
    arrived: set[bytes] = set()
    receive = run.bridge.receive_datagram

    def noted(data, address, now):
        arrived.add(bytes(data))
        receive(data, address, now)
    run.bridge.receive_datagram = noted
    return arrived


def of_session(run, since: int = 0) -> list[bytes]:
    return [data for data, _ in run.carried[since:] if data[3] in (datagram.TOKENS, datagram.PING)]


@pytest.mark.parametrize('every', [0.1, 0.5, 1.9])
@pytest.mark.parametrize('kept', ['what was lost', 'the last second'])
@pytest.mark.parametrize(('seed', 'source'), [(0, HOME), (1, HOME), (2, LISTENER)])
def test_what_is_held_back_neither_keeps_a_dead_session_nor_keeps_out_the_robot_at_another_port(seed, source, kept, every):
    run, edge = connected(seed=seed, uplink=Impairment(0.3), downlink=Impairment(0.1))
    arrived = watched(run)
    run.stream(edge, SMALL, 40)
    began = len(run.carried)
    run.run(3.0)
    if kept == 'the last second':
        run.uplink.loss = 1.0
        run.stream(edge, SMALL, 8, first_id=100)
        run.run(0.9)
    held = [data for data in of_session(run, began) if data not in arrived]
    assert len(held) > 50
    if kept == 'the last second':
        held = held[-150:]
    run.uplink.loss = 0.3
    former = edge.session_id
    del run.edges[HOME]                                    # the power is gone, no goodbye is said
    for k, data in enumerate(held):
        run.at(run.now + 0.05 + every * k, lambda data=data: to_bridge(run, data, source))
    run.run(1.0)
    again = run.add_edge(SMALL, key=KEY, address=AWAY)
    began = run.now
    run.run(4.5)
    assert again.connected and again.session_id != former
    connected_at = [when for when in run.when(RobotConnected) if when > began]
    assert len(connected_at) == 1 and connected_at[0] < began + 4.0
    sent = run.stream(again, SMALL, 20, first_id=1000)
    run.run(4.0)
    assert again.connected and len(run.of(AnswerArrived, AWAY)) >= 0.9 * len(sent) == 18
    assert run.bridge.sessions[again.session_id].address == AWAY


def test_a_session_whose_robot_has_gone_ends_though_its_last_words_come_in_order_for_minutes():
    run, edge = connected(seed=4)
    run.uplink.loss = 1.0
    began = len(run.carried)
    run.stream(edge, SMALL, 9)
    run.run(0.9)
    held = of_session(run, began)
    del run.edges[HOME]
    for k, data in enumerate(held):
        run.at(run.now + 1.5 * k, lambda data=data: to_bridge(run, data, HOME))
    died = run.now
    run.run(60.0)
    assert not run.bridge.sessions
    lost, = run.when(RobotLost)
    assert lost < died + 12.0
    assert 'may be old' in run.of(RobotLost)[0].reason


@pytest.mark.parametrize('behind', [1, 300, 513, 700, 900, 1000])
def test_late_datagrams_are_late_and_no_restart(behind):
    run, edge = connected(seed=5)
    run.uplink.loss = 1.0
    began = len(run.carried)
    run.stream(edge, SMALL, 1)
    run.run(0.15)
    held = of_session(run, began)
    run.uplink.loss = 0.0
    session = run.bridge.sessions[edge.session_id]
    highest, number = session.tracker.highest, 0
    while session.tracker.highest < highest + behind + len(held):
        run.stream(edge, SMALL, 1, first_id=100 + number)
        run.run(0.05)
        number += 1
    before, figures, heard_at = session.tracker.expected, session.tracker.packet_error_rate, session.heard_at
    run.now += 1e-3
    for data in held[:4]:
        to_bridge(run, data)
    assert session.address == HOME and session.heard_at == heard_at
    assert session.tracker.expected == before and session.tracker.packet_error_rate <= figures
    run.run(0.5)
    assert edge.statistics.remote_packet_error_rate <= 0.5      # a restart was said to be 0.998
    assert edge.connected and not run.of(LinkLost)


def test_a_sealed_sender_never_starts_anew_and_may_be_far_ahead():
    tracker = SequenceTracker(sealed=True)
    for sequence in (0, 1, 5000, 5001):
        assert tracker.receive(sequence)
    assert (tracker.highest, tracker.expected) == (5001, 5002)
    for sequence in (2, 3, 4, 3000, 3001, 3002):
        assert not tracker.receive(sequence)
    assert [tracker.receive(sequence) for sequence in (4000, 4001, 4001)] == [True, True, False]
    assert (tracker.highest, tracker.expected, tracker.received) == (5001, 5002, 6)


@pytest.mark.parametrize('loss', [0.0, 0.3, 0.6])
@pytest.mark.parametrize('delay', [0.002, 0.3])
def test_two_robots_of_one_name_still_do_not_take_turns(loss, delay):
    run, edge = connected(seed=6)
    for link in (run.uplink, run.downlink):
        link.loss, link.delay = loss, delay
    second = run.add_edge(SMALL, key=KEY, address=AWAY)
    run.stream(edge, SMALL, 100)
    run.run(20.0)
    assert edge.connected and not second.connected
    assert len(run.of(RobotConnected)) == 1


def test_a_dead_bridge_is_noticed_though_its_old_datagrams_come_late():
    run, edge = connected(seed=7)
    kept, receive = [], edge.receive_datagram
    holding = [True]

    def held(data, now):
        if holding[0] and len(kept) < 3 and data[3] == datagram.PONG:
            kept.append(data)
        else:
            receive(data, now)
    edge.receive_datagram = held
    run.stream(edge, SMALL, 20)
    run.run(2.0)
    holding[0] = False
    run.bridge = None
    for k in range(3):
        run.at(run.now + 0.7 + 0.6 * k, lambda k=k: edge.receive_datagram(kept[k], run.now))
    run.run(1.5)
    assert edge.state == 'lost'
    run.run(1.5)
    assert edge.state == 'lost' and len(run.of(LinkLost)) == 1


@pytest.mark.parametrize('every', [0.05, 0.9])
@pytest.mark.parametrize('held_s', [0.3, 0.9])
@pytest.mark.parametrize('loss', [0.0, 0.3])
def test_a_dead_bridge_is_noticed_though_its_last_words_come_in_order_for_half_a_minute(every, held_s, loss):
    run, edge = connected(seed=7, uplink=Impairment(loss), downlink=Impairment(loss))
    held, receive = [], edge.receive_datagram
    run.stream(edge, SMALL, 300)
    run.run(2.0)
    edge.receive_datagram = lambda data, now: held.append(data)
    run.run(held_s)
    run.bridge, died = None, run.now
    edge.receive_datagram = receive
    for k, data in enumerate(held):
        run.at(run.now + 0.02 + every * k, lambda data=data: receive(data, run.now))
    run.run(30.0)
    assert len(held) > 4 and run.when(LinkLost)[0] < died + 2.0
    assert edge.state == 'lost' and run.when(LinkLost)[-1] < died + 4.0      # nor does it come back for a moment again and again


def test_the_link_is_unchanged_for_a_robot_that_is_served():
    run, edge = connected(seed=8, uplink=Impairment(0.6), downlink=Impairment(0.6))
    sent = run.stream(edge, SMALL, 200)
    run.run(60.0)
    assert len(sent) == 200 and not run.of(RobotLost)


@pytest.mark.parametrize('seed', range(3))
def test_pings_that_are_brought_late_from_elsewhere_draw_nothing_there_that_the_robot_misses(seed):
    run, edge = connected(seed=seed, uplink=Impairment(0.3))
    arrived, began = watched(run), len(run.carried)
    run.stream(edge, SMALL, 60)
    run.run(3.0)
    held = [data for data in of_session(run, began) if data[3] == datagram.PING and data not in arrived]
    assert len(held) > 5
    for k, data in enumerate(held):
        run.at(run.now + 0.05 * k, lambda data=data: to_bridge(run, data))
    to = []
    take = run.bridge.datagrams_to_send

    def noted(now):
        sent = take(now)
        to.extend(address for _, address in sent)
        return sent
    run.bridge.datagrams_to_send = noted
    run.run(3.5)
    assert set(to) == {HOME} and edge.statistics.packet_error_rate == 0.0


@pytest.mark.parametrize('longer', [0.8, 1.5])
def test_a_way_down_that_becomes_longer_for_good_is_no_dead_bridge(longer):
    run, edge = connected(seed=9)
    run.stream(edge, SMALL, 200)
    run.run(2.0)
    run.downlink.delay += longer
    run.run(8.0)
    stepped = run.now
    run.run(8.0)
    assert edge.connected and all(when < stepped for when in run.when(LinkLost))
