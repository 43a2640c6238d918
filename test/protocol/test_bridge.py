from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evitif.protocol.bridge.endpoint import BridgeConfig, BridgeEndpoint
from evitif.protocol.events import FrameReady, RobotConnected, RobotLost, RobotMoved, RobotRefused
from evitif.protocol.frames.packetiser import Packetiser
from evitif.protocol.wire import datagram
from evitif.protocol.wire.answer import decode
from evitif.protocol.wire.datagram import ReceiverReport
from evitif.protocol.wire.handshake import Hello, Refuse, Welcome

from .simulated_link import SMALL, Impairment, Simulation, answer_to, frame_of

HOME, AWAY = ('10.0.0.1', 4000), ('10.0.0.2', 5000)
PACKETISER = Packetiser(SMALL)


def events_of(bridge) -> list:
    return list(iter(bridge.next_event, None))


def hello(bridge, now=1.0, robot='robot', instance=1, address=HOME, parameters=SMALL, sequence=0) -> list[tuple]:
    """Say hello; what the bridge replies, parsed, with the address."""
    data = datagram.build(datagram.HELLO, 0, sequence, Hello(robot, instance, parameters).to_bytes())
    bridge.receive_datagram(data, address, now)
    replies = bridge.datagrams_to_send(now)
    assert sum(len(reply) for reply, _ in replies) <= 3 * len(data)
    return [(datagram.parse(reply), to) for reply, to in replies]


def connect(bridge, **options) -> int:
    replies = hello(bridge, **options)
    assert {reply.type for reply, _ in replies} == {datagram.WELCOME}
    return replies[0][0].session_id


@pytest.fixture
def bridge() -> BridgeEndpoint:
    return BridgeEndpoint(SMALL, 'bridge', random=Random(1))


def send_frame(bridge, session, frame_id=1, now=1.0, address=HOME, sequence=0, packets=slice(None)) -> None:
    for data in PACKETISER.packetise(frame_of(SMALL, frame_id), session, sequence)[packets]:
        bridge.receive_datagram(data, address, now)


def test_a_hello_is_welcomed_three_times_and_its_copies_get_the_same_session(bridge):
    replies = hello(bridge)
    assert len(replies) == 3
    assert {to for _, to in replies} == {HOME}
    assert Welcome.parse(replies[0][0].body) == Welcome(1, 'bridge')
    session = replies[0][0].session_id
    assert connect(bridge, now=1.5, sequence=1) == session
    assert events_of(bridge) == [RobotConnected(session, 'robot', HOME)]
    assert list(bridge.sessions) == [session]
    assert bridge.sessions[session].address == HOME


def test_another_model_is_refused_naming_both_values(bridge):
    replies = hello(bridge, parameters=replace(SMALL, cut=7, fingerprint='ef' * 32))
    refuse = Refuse.parse(replies[0][0].body)
    assert refuse.instance == 1
    assert refuse.reasons == (f'fingerprint: the edge has {"ef" * 32}, the bridge has {"cd" * 32}',
                              'cut: the edge has 7, the bridge has 1')
    hello(bridge, parameters=replace(SMALL, cut=7, fingerprint='ef' * 32))
    assert events_of(bridge) == [RobotRefused('robot', HOME, refuse.reason)]      # once
    assert not bridge.sessions


def test_a_name_in_use_is_refused_until_the_other_is_silent(bridge):
    first = connect(bridge)
    refuse = Refuse.parse(hello(bridge, instance=2, address=AWAY, now=2.9)[0][0].body)
    assert refuse.reason == 'robot: the name robot is in use by another edge at 10.0.0.1:4000'
    second = connect(bridge, instance=2, address=AWAY, now=3.0)
    assert [type(event) for event in events_of(bridge)] == [RobotConnected, RobotRefused, RobotLost, RobotConnected]
    assert list(bridge.sessions) == [second] != [first]


def test_an_edge_that_was_restarted_replaces_its_session(bridge):
    first = connect(bridge)
    second = connect(bridge, instance=2, now=1.1)
    assert list(bridge.sessions) == [second]
    assert events_of(bridge)[1:] == [RobotLost(first, 'robot', 'the edge was restarted'),
                                     RobotConnected(second, 'robot', HOME)]


def test_no_more_robots_than_allowed():
    bridge = BridgeEndpoint(SMALL, 'bridge', BridgeConfig(max_sessions=8))
    for k in range(500):
        hello(bridge, robot=f'robot{k}', instance=k, address=(f'10.0.{k // 256}.{k % 256}', 1), now=1.0)
    assert len(bridge.sessions) == len(bridge._sessions.by_robot) == 8
    assert len(bridge._admission._refusals) <= 256
    refusal = next(event for event in events_of(bridge) if isinstance(event, RobotRefused))
    assert refusal.reason == 'robots: the bridge serves at most 8, and that many are connected'
    bridge.handle_timer(3.0)
    assert not bridge.sessions


def test_a_flood_of_robots_and_frames_is_bounded():
    bridge = BridgeEndpoint(SMALL, 'bridge', BridgeConfig(max_sessions=4))
    for k in range(1000):
        hello(bridge, robot=f'robot{k}', instance=k, address=('10.0.0.1', k), now=1.0 + 0.01 * k)
        for session in bridge.sessions:
            send_frame(bridge, session, k * 7919, 1.0 + 0.01 * k, ('10.0.0.1', k), k, slice(1))
        bridge.handle_timer(1.0 + 0.01 * k)
        events_of(bridge)
        bridge.datagrams_to_send(1.0 + 0.01 * k)
        assert len(bridge.sessions) <= 4
        assert all(sum(f is not None for f in s.reassembler._ring) <= 4 for s in bridge.sessions.values())
    assert len(bridge._reset_limit._addresses) <= 256


def test_frames_of_several_robots_do_not_mix(bridge):
    one, two = connect(bridge), connect(bridge, robot='other', instance=2, address=AWAY)
    events_of(bridge)
    for a, b in zip(*(PACKETISER.packetise(frame_of(SMALL, 1), session) for session in (one, two)), strict=True):
        bridge.receive_datagram(a, HOME, 1.0)
        bridge.receive_datagram(b, AWAY, 1.0)
    frames = [event.frame for event in events_of(bridge)]
    assert [(frame.session_id, frame.robot) for frame in frames] == [(one, 'robot'), (two, 'other')]
    assert all(frame.complete for frame in frames)


def test_a_partial_frame_comes_with_the_timer_and_the_loss(bridge):
    session = connect(bridge)
    send_frame(bridge, session, packets=slice(0, None, 2))
    assert len(events_of(bridge)) == 1
    bridge.handle_timer(bridge.get_timer())
    frame = events_of(bridge)[0].frame
    assert frame.packets_received == frame.packets_expected / 2
    assert frame.packet_error_rate == pytest.approx(0.5, abs=0.05)
    assert bridge.statistics_of(session).frames['partial'] == 1
    assert bridge.statistics.frames['partial'] == 1


def test_copies_of_an_answer_are_spaced_and_say_when_they_left(bridge):
    session = connect(bridge)
    for sequence in range(40):
        bridge.receive_datagram(datagram.build(datagram.PING, session, sequence, datagram.ping_body(
            1.0, ReceiverReport(100000, 40000, 0.6, 2.5))), HOME, 1.0)
    send_frame(bridge, session, sequence=40)
    frame = next(event for event in events_of(bridge) if isinstance(event, FrameReady)).frame
    bridge.datagrams_to_send(1.0)
    assert bridge.send_answer(session, answer_to(frame, 1.01), 1.01)
    copies = [(1.01, data) for data, _ in bridge.datagrams_to_send(1.01)]
    assert len(copies) == 9
    while (timer := bridge.get_timer()) < 1.2:
        bridge.handle_timer(timer)
        copies += [(timer, data) for data, _ in bridge.datagrams_to_send(timer)]
    assert len(copies) == 18      # 0.6**17 < 0.0002, and one more for the uncertainty of 0.6
    assert copies[-1][0] == pytest.approx(1.01 + 9 * 0.003)
    for when, data in copies:
        answer, announced = decode(datagram.parse(data).body)
        assert announced == 18
        assert answer.hold_s == pytest.approx(when - 1.0)
    assert len({datagram.parse(data).sequence for _, data in copies}) == 18


def test_the_timer_is_never_later_than_that_of_any_robot_and_what_is_due_is_done():
    run = Simulation(uplink=Impairment(0.3), downlink=Impairment(0.3), seed=3)
    bridge = run.add_bridge(SMALL)
    for number in range(6):
        edge = run.add_edge(SMALL, robot=f'robot {number}', address=('10.0.0.1', number))
        run.at(run.now + 0.5, lambda edge=edge: run.stream(edge, SMALL, 20, rate=7.0))
    for _ in range(250):
        run.run(0.02)
        timer, now = bridge.get_timer(), run.now + run.clock_offset
        times = [min(session.get_timer(), session.heard_at + bridge.config.session_timeout_s) for session in bridge.sessions.values()]
        assert not times or now <= timer <= min(times)
    assert len(run.received) >= 100 and len(bridge.sessions) == 6
    run.edges.clear()
    run.run(2.5)
    assert not bridge.sessions and bridge.get_timer() is None


def test_answers_do_not_pile_up(bridge):
    bridge = BridgeEndpoint(SMALL, 'bridge', BridgeConfig(answer_copies=20))
    session = connect(bridge)
    send_frame(bridge, session)
    frame = next(event for event in events_of(bridge) if isinstance(event, FrameReady)).frame
    for _ in range(100):
        bridge.send_answer(session, answer_to(frame, 1.01), 1.01)
    assert len(bridge.datagrams_to_send(1.01)) == 100 * 10
    bridge.handle_timer(1.5)
    assert len(bridge.datagrams_to_send(1.5)) == 4 * 10      # of the four newest answers


def test_an_answer_to_a_lost_robot_is_not_sent_and_an_impossible_one_raises(bridge):
    session = connect(bridge)
    send_frame(bridge, session)
    answer = answer_to(events_of(bridge)[1].frame, 1.01)
    assert not bridge.send_answer(session + 1, answer, 1.01)
    with pytest.raises(ValueError, match='tokens_expected'):
        bridge.send_answer(session, replace(answer, tokens_expected=9), 1.01)
    with pytest.raises(ValueError, match='class_ids'):
        bridge.send_answer(session, replace(answer, class_ids=(10, 1)), 1.01)


def test_a_robot_is_lost_by_silence_and_by_goodbye(bridge):
    session = connect(bridge)
    assert bridge.get_timer() == pytest.approx(3.0)
    bridge.handle_timer(3.0)
    assert events_of(bridge)[1:] == [RobotLost(session, 'robot', 'silent for 2.0 s')]
    session = connect(bridge, now=4.0)
    bridge.receive_datagram(datagram.build(datagram.BYE, session, 0), HOME, 4.1)
    assert isinstance(events_of(bridge)[-1], RobotLost)
    assert bridge.get_timer() is None
    with pytest.raises(KeyError):
        bridge.statistics_of(session)


def test_a_session_follows_its_robot_to_a_new_address_that_has_proved_itself_but_not_back_with_an_old_datagram(bridge):
    session = connect(bridge)

    def ping(sequence, address):
        bridge.receive_datagram(datagram.build(datagram.PING, session, sequence, datagram.ping_body(
            1.0, ReceiverReport(1, 1, 0.0, 0.0))), address, 1.1)
        return bridge.sessions[session].address

    assert ping(0, HOME) == HOME
    bridge.datagrams_to_send(1.1)
    assert ping(2, AWAY) == HOME
    (challenge, to), (doubt, proved) = bridge.datagrams_to_send(1.1)
    challenge, doubt = datagram.parse(challenge), datagram.parse(doubt)
    assert (doubt.type, doubt.sequence % 2, challenge.sequence % 2, proved) == (datagram.PATH_CHALLENGE, 1, 0, HOME)
    assert bytes(doubt.body) != bytes(challenge.body)
    assert (challenge.type, challenge.session_id, len(challenge.body), to) == (datagram.PATH_CHALLENGE, session, 12, AWAY)
    bridge.receive_datagram(datagram.build(datagram.PATH_RESPONSE, session, 3, bytes(challenge.body)), AWAY, 1.1)
    assert bridge.sessions[session].address == AWAY
    assert events_of(bridge)[-1] == RobotMoved(session, 'robot', AWAY)
    assert ping(1, HOME) == AWAY
    hello(bridge, sequence=3, address=AWAY)
    hello(bridge, sequence=2, address=HOME)
    hello(bridge, sequence=4, address=HOME)
    assert bridge.sessions[session].address == AWAY


def test_an_unknown_session_is_reset_in_bursts_and_not_without_limit(bridge):
    packets = PACKETISER.packetise(frame_of(SMALL, 1), 12345)
    for data in packets:
        bridge.receive_datagram(data, HOME, 1.0)
    replies = bridge.datagrams_to_send(1.0)
    assert len(replies) == 8
    for data, to in replies:
        reset = datagram.parse(data)
        assert (reset.type, reset.session_id, to) == (datagram.RESET, 12345, HOME)
        assert len(data) <= min(map(len, packets))
    for k in range(5000):       # from everywhere, within a tenth of a second
        bridge.receive_datagram(packets[0], ('10.1.0.1', k), 1.0 + k * 2e-5)
    assert len(bridge.datagrams_to_send(1.1)) <= 256 + 1000 * 0.1
    assert bridge.statistics.dropped['unknown_session'] == len(packets) + 5000


def test_goodbye_and_reset_are_never_answered(bridge):
    for kind in (datagram.BYE, datagram.RESET, datagram.PONG, datagram.WELCOME, datagram.REFUSE, datagram.ANSWER):
        bridge.receive_datagram(datagram.build(kind, 5, 0), HOME, 1.0)
    assert bridge.datagrams_to_send(1.0) == []


def test_closing_says_goodbye_to_all(bridge):
    connect(bridge)
    connect(bridge, robot='other', instance=2, address=AWAY)
    bridge.close(1.0)
    sent = bridge.datagrams_to_send(1.0)
    assert {(datagram.parse(data).type, to) for data, to in sent} == {(datagram.BYE, HOME), (datagram.BYE, AWAY)}
    assert hello(bridge, now=1.1) == []
    assert bridge.get_timer() is None


@given(st.lists(st.binary(max_size=200), max_size=20), st.integers(1, 9), st.binary(max_size=120))
def test_no_bytes_make_it_raise_and_each_datagram_is_accounted_for(noise, kind, body):
    bridge = BridgeEndpoint(SMALL, 'bridge', random=Random(1))
    session = connect(bridge)
    for k, data in enumerate([*noise, datagram.build(kind, session, 5, body), datagram.build(kind, 0, 0, body)]):
        bridge.receive_datagram(data, HOME, 1.0 + 0.01 * k)
        bridge.handle_timer(1.0 + 0.01 * k)
    statistics = bridge.statistics
    assert statistics.datagrams_received == len(noise) + 3
    assert statistics.datagrams_used <= 3


@pytest.mark.parametrize(('change', 'text'), [
    ({'frames_in_flight': 3}, 'frames_in_flight is 3; expected a power of two'),
    ({'session_timeout_s': -1}, 'session_timeout_s is -1; expected a positive number of seconds'),
    ({'max_sessions': 0}, 'max_sessions is 0; expected a whole number from 1'),
    ({'answer_copies': -1}, 'answer_copies is -1; expected a whole number from 0'),
])
def test_an_impossible_configuration_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        BridgeConfig(**change)
