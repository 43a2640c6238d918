"""Edge and bridge with keys, and people between them, in simulated time."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evitif.protocol.bridge.endpoint import BridgeEndpoint
from evitif.protocol.edge.connection import EdgeConfig, EdgeConnection
from evitif.protocol.events import (
    AnswerArrived,
    FrameExpired,
    LinkLost,
    Refused,
    RobotConnected,
    RobotLost,
    RobotRefused,
)
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.wire import datagram
from evitif.protocol.wire.handshake import Hello, Refuse

from .simulated_link import PARAMETERS, SMALL, Impairment, Simulation, frame_of, rows_of

HOME, AWAY, VICTIM = ('10.0.0.1', 4000), ('10.0.0.2', 5000), ('192.0.2.1', 53)
KEY = Key(bytes(range(32)))
OTHER = Key(bytes(range(1, 33)))
KEYS = RobotKeys(default=KEY)


def simulation(loss=0.0, parameters=SMALL, **options) -> tuple[Simulation, EdgeConnection]:
    run = Simulation(uplink=Impairment(loss), downlink=Impairment(loss), **options)
    run.add_bridge(parameters, keys=KEYS)
    return run, run.add_edge(parameters, key=KEY)


def connected(loss=0.0, **options) -> tuple[Simulation, EdgeConnection]:
    run, edge = simulation(loss, **options)
    run.run(1.0 if loss else 0.2)
    assert edge.connected
    return run, edge


def at_bridge(run, data, address) -> list[tuple[bytes, object]]:
    """What the bridge sends when it is given `data`."""
    now = run.now + run.clock_offset
    assert not run.bridge.datagrams_to_send(now)
    run.bridge.receive_datagram(data, address, now)
    return run.bridge.datagrams_to_send(now)


def hellos(run) -> list[bytes]:
    return [data for data, _ in run.carried if data[3] == datagram.HELLO]


def assert_answers_go_on(run, edge) -> None:
    before = len(run.of(AnswerArrived))
    sent = run.stream(edge, edge.parameters, 5, first_id=1000 + before)
    run.run(1.5)
    assert len(sent) == 5
    assert len(run.of(AnswerArrived)) - before >= 4


@pytest.mark.parametrize(('loss', 'least'), [(0.0, 1.0), (0.3, 0.99), (0.6, 0.99)])
def test_frames_are_answered_over_a_lossy_link(loss, least):
    run, edge = simulation(loss, PARAMETERS, seed=1)
    run.run(1.5)
    sent = run.stream(edge, PARAMETERS, 100)
    run.run(12.0)
    assert len(sent) == 100
    assert len(run.of(AnswerArrived)) >= least * len(sent)
    assert len(run.of(AnswerArrived)) + len(run.of(FrameExpired)) == len(sent)
    for frame in run.received:
        assert (frame.rows[frame.received] == frame_of(PARAMETERS, frame.frame_id).rows[frame.received]).all()
    assert len(run.of(RobotConnected)) == 1
    assert max(len(data) for data, _ in run.carried) <= 1200


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('delay', [0.002, 0.1])
def test_it_connects_at_60_percent_loss(seed, delay):
    run, edge = simulation(0.6, seed=seed)
    run.uplink.delay = run.downlink.delay = delay
    run.run(2.0)
    assert edge.connected


@pytest.mark.parametrize('down', [0.4, 3.0, 12.0])
@pytest.mark.parametrize('seed', range(3))
def test_a_restarted_bridge_answers_within_two_seconds_at_60_percent_loss(down, seed):
    run, edge = simulation(0.6, seed=seed)
    run.run(2.0)
    sent = run.stream(edge, SMALL, int(10 * (down + 4)))
    run.run(0.5)
    run.bridge = None
    run.run(down)
    started, before, session = run.now, len(run.events), edge.session_id
    run.add_bridge(SMALL, keys=KEYS)
    run.run(5.0)
    after = [when for when, _, event in run.events[before:] if isinstance(event, AnswerArrived) and event.sent.sent_at >= started]
    assert after[0] - started < 2.0
    assert edge.session_id != session
    outcomes = [event.sent.frame_id for event in run.of(AnswerArrived)] + [event.frame_id for event in run.of(FrameExpired)]
    assert sorted(outcomes) == sorted(sent)


def test_nothing_of_a_frame_is_to_be_seen():
    run, edge = connected()
    frame = frame_of(SMALL, 1, 'the_secret_camera')
    assert run.send(edge, frame)
    data = b''.join(edge.datagrams_to_send(run.now))
    assert b'the_secret_camera' not in data
    for row in rows_of(SMALL, 1):
        assert row.tobytes() not in data


def test_every_session_has_other_keys():
    run, edge = connected()
    first = edge._session.sealer
    old = datagram.build(datagram.BYE, edge.session_id, 10_000, b'', first.finish)
    run.add_edge(SMALL, key=KEY)      # the edge was restarted
    run.run(0.3)
    edge = run.edges[HOME]
    assert edge.connected
    assert at_bridge(run, old, HOME) == []
    forged = datagram.build(datagram.BYE, edge.session_id, 10_001, b'', first.finish)
    assert at_bridge(run, forged, HOME) == []
    assert run.bridge.statistics.dropped == {'unknown_session': 1, 'corrupt': 1}
    assert list(run.bridge.sessions) == [edge.session_id]
    assert [event.reason for event in run.of(RobotLost)] == ['the edge was restarted']


def test_another_key_is_said_on_both_sides_once_and_heals():
    run = Simulation(uplink=Impairment(0.3), downlink=Impairment(0.3), seed=2)
    run.add_bridge(SMALL, keys=KEYS)
    edge = run.add_edge(SMALL, key=OTHER)
    run.run(30.0)
    reason = 'key: the bridge has another key for robot robot'
    assert run.of(RobotRefused) == [RobotRefused('robot', HOME, reason)]
    assert run.of(Refused) == [Refused('key: the bridge has no key for robot robot, or another one (said without a seal)')]
    assert not edge.connected and not run.bridge.sessions
    run.add_bridge(SMALL, keys=RobotKeys(default=OTHER))
    run.run(2.0)
    assert edge.connected


@pytest.mark.parametrize(('key', 'keys', 'reason'), [
    (KEY, RobotKeys({'another robot': KEY}), 'key: the bridge has no key for robot robot'),
    (KEY, None, 'key: the edge seals the link with its key_file, the bridge is unsealed'),
    (None, KEYS, 'key: the edge is unsealed, the bridge seals the link with its key_file'),
])
def test_a_key_on_one_side_only_is_said_on_both(key, keys, reason):
    run = Simulation()
    run.add_bridge(SMALL, keys=keys)
    edge = run.add_edge(SMALL, key=key)
    run.run(5.0)
    assert [event.reason for event in run.of(RobotRefused)] == [reason]
    told = reason + ', or another one' if 'no key' in reason else reason
    assert [event.reason.removesuffix(' (said without a seal)') for event in run.of(Refused)] == [told]
    assert not edge.connected and not run.bridge.sessions


def test_no_stranger_learns_which_robots_the_bridge_knows():
    run = Simulation()
    run.add_bridge(SMALL, keys=RobotKeys({'rover': KEY}))
    for k, robot in enumerate(('rover', 'alpha')):
        run.add_edge(SMALL, robot=robot, key=OTHER, address=('10.0.0.1', k))
    run.run(5.0)
    known, unknown = (run.of(Refused, ('10.0.0.1', k))[0].reason for k in range(2))
    assert known.replace('rover', 'alpha') == unknown
    assert [event.reason for event in run.of(RobotRefused)] == ['key: the bridge has another key for robot rover',
                                                                'key: the bridge has no key for robot alpha']


def test_a_mismatch_of_models_is_refused_under_seal():
    run = Simulation()
    run.add_bridge(replace(SMALL, cut=7), keys=KEYS)
    edge = run.add_edge(SMALL, key=KEY)
    run.run(3.0)
    assert run.of(Refused) == [Refused('cut: the edge has 1, the bridge has 7')]
    assert edge.state == 'refused'
    run.add_bridge(SMALL, keys=KEYS)
    run.run(2.0)
    assert edge.connected


def test_many_robots_have_keys_of_their_own_and_none_can_take_another_s_name():
    run = Simulation(uplink=Impairment(0.3), downlink=Impairment(0.3), seed=3)
    keys = {f'robot {k}': Key(bytes([k]) * 32) for k in range(32)}
    run.add_bridge(SMALL, keys=RobotKeys(keys))
    edges = [run.add_edge(SMALL, robot=robot, key=key, address=('10.0.0.1', k)) for k, (robot, key) in enumerate(keys.items())]
    run.run(2.0)
    assert all(edge.connected for edge in edges)
    assert len(run.of(RobotConnected)) == 32
    thief = run.add_edge(SMALL, robot='robot 0', key=keys['robot 1'], address=AWAY)
    run.run(3.0)
    assert not thief.connected
    assert len(run.bridge.sessions) == 32
    assert not run.of(RobotLost)
    assert_answers_go_on(run, edges[0])


@pytest.mark.parametrize('address', [HOME, AWAY])
def test_what_is_played_back_changes_nothing(address):
    run, edge = connected(seed=4)
    run.stream(edge, SMALL, 5)
    run.run(1.0)
    sessions, before = dict(run.bridge.sessions), len(run.events)
    heard_at = sessions[edge.session_id].heard_at
    used = run.bridge.statistics.datagrams_used
    recorded = list(run.carried)
    for data, _ in recorded:
        for reply, to in at_bridge(run, data, address):
            assert to == address and len(reply) <= len(data)
    assert run.bridge.sessions == sessions
    session = sessions[edge.session_id]
    assert (session.address, session.heard_at) == (HOME, heard_at)
    assert run.bridge.next_event() is None and len(run.events) == before
    hello_count = sum(data[3] == datagram.HELLO for data, _ in recorded)
    assert run.bridge.statistics.datagrams_used - used == hello_count      # heard, and answered with what was said before
    assert_answers_go_on(run, edge)


def test_a_hello_of_a_session_that_has_ended_begins_no_other():
    run, edge = connected(seed=5)
    recorded = hellos(run)
    edge.close(run.now)
    run.run(0.1)
    assert not run.bridge.sessions
    for data in recorded:
        replies = at_bridge(run, data, HOME)
        assert {datagram.parse(reply).type for reply, _ in replies} == {datagram.CHALLENGE}
    assert not run.bridge.sessions
    assert run.bridge.next_event() is None


def test_a_hello_of_an_edge_s_former_life_does_not_replace_its_session():
    run, edge = connected(seed=6)
    recorded = hellos(run)
    edge = run.add_edge(SMALL, key=KEY)
    run.run(0.3)
    for data in recorded:
        at_bridge(run, data, HOME)
    assert list(run.bridge.sessions) == [edge.session_id]
    run.run(1.0)
    assert_answers_go_on(run, edge)


def test_a_cookie_ages():
    run = Simulation()
    run.add_bridge(SMALL, keys=KEYS)
    run.downlink.loss = 1.0
    edge = run.add_edge(SMALL, key=KEY)
    first, = {data for data in edge.datagrams_to_send(run.now) if datagram.parse(data).sequence == 0}
    challenge = at_bridge(run, first, HOME)[0][0]
    edge.receive_datagram(challenge, run.now)
    with_cookie = edge.datagrams_to_send(run.now)[0]
    run.now += 25.0
    assert {datagram.parse(reply).type for reply, _ in at_bridge(run, with_cookie, HOME)} == {datagram.CHALLENGE}
    assert not run.bridge.sessions


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(
    ['recorded', 'with cookie', 'cut', 'changed', 'another key', 'unsealed']), max_size=40))
def test_an_address_that_has_proved_nothing_gets_no_more_bytes_than_came_in_its_name_and_costs_no_memory(seed, steps):
    run, edge = connected(seed=seed)
    random = Random(seed)
    recorded = hellos(run)
    body = Hello('robot', 5, SMALL).to_bytes()
    received = sent = 0
    for step in steps:
        data = bytearray(random.choice(recorded) if step != 'with cookie' else recorded[-1])
        if step == 'cut':
            del data[random.randrange(len(data)):]
        elif step == 'changed':
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        elif step == 'another key':
            stranger = EdgeConnection(SMALL, random.choice(['robot', 'stranger']), key=OTHER)
            stranger.connect(run.now)
            data = stranger.datagrams_to_send(run.now)[0]
        elif step == 'unsealed':
            data = datagram.build(datagram.HELLO, 0, 0, body)
        received += len(data)
        sent += sum(len(reply) for reply, to in at_bridge(run, bytes(data), VICTIM) if to == VICTIM)
        assert sent <= received
    assert list(run.bridge.sessions) == [edge.session_id]
    assert run.bridge.sessions[edge.session_id].address == HOME


def test_a_flood_of_strangers_is_told_little_and_logged_less():
    run, _ = connected()
    body = Hello('stranger', 5, SMALL).to_bytes()
    replies = 0
    for k in range(5000):
        data = datagram.build(datagram.HELLO, 0, 0, body.replace(b'stranger', b'stranger%d' % k))
        replies += len(at_bridge(run, data, ('10.1.0.1', k)))
        run.now += 1e-3
    assert replies <= 50 + 100 * 5 + 1
    events = list(iter(run.bridge.next_event, None))
    assert 0 < len(events) <= 16 + 5 + 1
    assert {type(event) for event in events} == {RobotRefused}


def test_a_forged_reset_ends_no_session():
    run, edge = connected(seed=7)
    session = edge.session_id
    run.stream(edge, SMALL, 20, rate=20.0)
    for k in range(40):
        run.at(run.now + 0.025 * k, lambda: edge.receive_datagram(datagram.build(datagram.RESET, session, 0), run.now))
    run.run(2.0)
    assert edge.session_id == session and edge.connected
    assert len(run.of(AnswerArrived)) == 20
    assert not run.of(LinkLost) and len(run.of(RobotConnected)) == 1


@pytest.mark.parametrize('a_second', [10, 1000])
def test_forged_resets_make_an_edge_say_hello_once_a_second_and_a_true_one_still_counts(a_second):
    run, edge = connected(seed=8)
    session = edge.session_id

    def reset():
        edge.receive_datagram(datagram.build(datagram.RESET, session, 0), run.now)
    for k in range(5 * a_second):
        run.at(run.now + k / a_second, reset)
    run.run(5.0)
    assert edge.session_id == session and edge.connected
    hellos = [when for when, data in run.departed if data[3] == datagram.HELLO and when > 11.0]
    assert len(hellos) <= 3 * (5 + 5)
    run.add_bridge(SMALL, keys=run.bridge._admission._gate.keys)
    run.run(1.5)
    assert edge.connected and edge.session_id != session


def test_a_forged_refusal_welcome_challenge_and_goodbye_are_not_believed():
    run, edge = simulation()
    refusal = Refuse(edge._hellos.instance, 'bridge', ('go away',)).to_bytes()
    edge.datagrams_to_send(run.now)
    edge.receive_datagram(datagram.build(datagram.REFUSE, 0, 0, refusal), run.now)
    assert edge.state == 'connecting'
    assert edge.next_event() == Refused('go away (said without a seal)')
    edge.receive_datagram(datagram.build(datagram.REFUSE, 0, 0, refusal.replace(b'go away', b'go home')), run.now)
    assert edge.next_event() is None      # rationed
    for kind in (datagram.REFUSE, datagram.CHALLENGE, datagram.WELCOME, datagram.BYE):
        edge.receive_datagram(datagram.build(kind, 9, 0, refusal)[:3] + bytes([kind]) + bytes(400), run.now)
        edge.receive_datagram(b'EV\x02' + bytes([kind]) + bytes(8) + bytes(400), run.now)
    assert edge.state == 'connecting' and edge.session_id is None
    run.run(0.5)
    assert edge.connected
    assert_answers_go_on(run, edge)


def test_a_welcome_that_is_played_back_begins_no_session_a_second_time():
    run, edge = simulation(seed=8)
    welcomes = []
    receive = edge.receive_datagram

    def recorded(data, now):
        if data[3] == datagram.WELCOME:
            welcomes.append(data)
        receive(data, now)
    edge.receive_datagram = recorded
    run.run(0.3)
    first = edge.session_id
    run.bridge = None
    run.run(2.0)
    run.add_bridge(SMALL, keys=KEYS)
    run.run(2.0)
    second = edge.session_id
    assert first != second and edge.connected and welcomes
    for data in welcomes:
        receive(data, run.now)
    assert edge.session_id == second and edge.connected


def test_what_was_changed_on_the_way_is_counted_and_not_used():
    run, edge = connected(seed=9)
    run.uplink.corruption = 0.1
    sent = run.stream(edge, SMALL, 50)
    run.run(6.0)
    assert len(run.of(AnswerArrived)) == len(sent) == 50
    assert run.bridge.statistics.dropped['corrupt'] > 0
    for frame in run.received:
        assert (frame.rows[frame.received] == frame_of(SMALL, frame.frame_id).rows[frame.received]).all()


def test_a_roaming_robot_keeps_its_session_and_who_plays_back_its_datagrams_does_not_get_it():
    run, edge = connected(0.2, seed=10)
    session = edge.session_id
    run.edges = {AWAY: edge}
    run.stream(edge, SMALL, 20)
    run.run(3.0)
    assert edge.session_id == session
    run.uplink.loss = 0.0      # the newest datagram is to have arrived
    run.run(0.5)
    for data, _ in run.carried[-200:]:
        at_bridge(run, data, VICTIM)
    assert run.bridge.sessions[session].address == AWAY
    assert_answers_go_on(run, edge)


def test_the_link_is_lost_and_found_without_a_new_session_even_at_another_address():
    run, edge = connected(seed=11)
    session = edge.session_id
    run.downlink.loss = 1.0
    run.run(1.5)
    assert len(run.of(LinkLost)) == 1
    run.downlink.loss = 0.0
    run.edges = {AWAY: edge}
    run.run(0.5)
    assert edge.session_id == session and edge.connected
    assert run.bridge.sessions[session].address == AWAY
    assert not run.of(RobotLost)


def test_a_closing_bridge_and_a_closing_edge_are_noticed_at_once():
    run, edge = connected(seed=12)
    run.bridge.close(run.now + run.clock_offset)
    run.run(0.1)
    assert not edge.connected
    run.add_bridge(SMALL, keys=KEYS)
    run.run(0.5)
    assert edge.connected
    edge.close(run.now)
    run.run(0.1)
    assert [event.reason for event in run.of(RobotLost)] == ['the robot said goodbye']


def test_two_edges_of_one_name_do_not_take_turns():
    run, first = connected(0.3, seed=13)
    second = run.add_edge(SMALL, key=KEY, address=AWAY)
    run.run(8.0)
    assert first.connected and not second.connected
    assert len(run.of(Refused, AWAY)) == 1
    assert len(run.of(RobotConnected)) == 1


@settings(deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=10), st.integers(1, 11), st.binary(max_size=120), st.integers(1, 2))
def test_no_bytes_make_either_side_raise_and_each_datagram_is_accounted_for(noise, kind, body, version):
    run, edge = connected()
    session = edge.session_id
    header = [datagram.HEADER.pack(b'EV', version, kind, session_id, 5, 0) for session_id in (session, 0)]
    before = edge.statistics.datagrams_used, run.bridge.statistics.datagrams_used
    for data in [*noise, *(head + body for head in header), *(datagram.build(kind, s, 5, body) for s in (session, 0))]:
        edge.receive_datagram(data, run.now)
        run.bridge.receive_datagram(data, HOME, run.now + run.clock_offset)
    for side, used in zip((edge, run.bridge), before, strict=True):
        assert side.statistics.datagrams_used - used <= 1      # a RESET in clear is a hint to the edge
    assert edge.session_id == session and list(run.bridge.sessions) == [session]


def test_no_key_is_in_what_the_two_sides_show_of_themselves():
    run, edge = connected()
    texts = [repr(part) for side in (edge, run.bridge) for part in vars(side).values()] + [repr(event) for _, _, event in run.events]
    secrets = [bytes(range(32)), KEY.hello, KEY.reply]
    for text in texts:
        assert not any(repr(secret)[2:-1] in text or secret.hex() in text for secret in secrets)


def test_a_sealed_hello_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r'HELLO takes \d+ bytes; expected at most max_datagram_bytes, 256'):
        EdgeConnection(SMALL, 128 * 'r', EdgeConfig(max_datagram_bytes=256), key=KEY)


def test_an_unsealed_bridge_takes_no_sealed_datagrams_of_a_session():
    bridge = BridgeEndpoint(SMALL, 'bridge')
    run = Simulation()
    run.bridge = bridge
    edge = run.add_edge(SMALL)
    run.run(0.3)
    assert edge.connected
    forged = bytearray(datagram.build(datagram.BYE, edge.session_id, 100, bytes(16)))
    forged[2] = 2
    assert at_bridge(run, bytes(forged), HOME) == []
    assert bridge.statistics.dropped['unexpected'] == 1 and bridge.sessions
