"""HELLOs and CHALLENGEs that others say again or invent, while a robot wants its session."""

from random import Random

import pytest

from evitif.protocol.events import AnswerArrived, LinkLost, RobotConnected
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.sealing.seal import sign
from evitif.protocol.wire import datagram
from evitif.protocol.wire.handshake import Hello

from .simulated_link import SMALL, Impairment, Simulation

HOME, AWAY, STRANGER = ('10.0.0.1', 4000), ('10.0.0.2', 5000), ('192.0.2.1', 53)
KEY = Key(bytes(range(32)))
KEYS = RobotKeys(default=KEY)


def simulation(**options) -> Simulation:
    run = Simulation(**options)
    run.add_bridge(SMALL, keys=KEYS)
    return run


def connected(**options):
    run = simulation(**options)
    return run, run.connected(parameters=SMALL, key=KEY, address=HOME)


def hellos(run) -> list[bytes]:
    return [data for data, _ in run.carried if data[3] == datagram.HELLO]


def to_bridge(run, data, address) -> list[tuple[bytes, object]]:
    """What the bridge replies to `address`; what it sends to others is carried."""
    now = run.now + run.clock_offset
    run.bridge.receive_datagram(data, address, now)
    replies = []
    for reply, to in run.bridge.datagrams_to_send(now):
        replies.append((reply, to))
        if to in run.edges:
            run._carry(run.downlink, reply, lambda reply=reply, to=to: run._to_edge(reply, to))
    return replies


@pytest.mark.parametrize(('addresses', 'rate'), [(1, 25), (2, 50), (2, 2000), (8, 100), (31, 400), (64, 200), (300, 300)])
@pytest.mark.parametrize('delay', [0.005, 0.02, 0.1])
@pytest.mark.parametrize('seed', range(3))
def test_challenges_that_were_asked_for_at_other_addresses_keep_no_robot_from_connecting(seed, delay, addresses, rate):
    run = simulation(seed=seed, uplink=Impairment(0.1, delay=delay), downlink=Impairment(0.1, delay=delay))
    edge = run.add_edge(SMALL, key=KEY, address=HOME)
    others = [('10.6.6.6', 1000 + k) for k in range(addresses)]
    challenges: dict[object, bytes] = {}

    def attack(k):
        address = others[k % addresses]
        said = hellos(run)
        if edge.connected or not said:
            return
        if address not in challenges:      # the HELLO has no cookie yet, or another one
            for reply, to in to_bridge(run, said[0], address):
                if to == address and reply[3] == datagram.CHALLENGE:
                    challenges[address] = reply
        if address in challenges:
            edge.receive_datagram(challenges[address], run.now)
    for k in range(int(5 * rate)):
        run.at(run.now + 0.001 + k / rate, lambda k=k: attack(k))
    began = run.now
    run.run(6.0)
    assert edge.connected
    assert run.when(RobotConnected)[0] < began + 2.0 + 4 * delay
    run.stream(edge, SMALL, 10)
    run.run(2.0)
    assert run.bridge.sessions[edge.session_id].address == HOME
    assert len(run.of(AnswerArrived)) >= 9


def test_a_session_that_was_opened_at_the_attacker_s_address_is_the_robot_s_with_its_first_datagram():
    run = simulation(seed=1)
    edge = run.add_edge(SMALL, key=KEY, address=HOME)
    first = edge.datagrams_to_send(run.now)[0]
    challenge = to_bridge(run, first, STRANGER)[0][0]
    edge.receive_datagram(challenge, run.now)
    for data in edge.datagrams_to_send(run.now):
        to_bridge(run, data, STRANGER)                 # the WELCOME goes there, and no further
    session, = run.bridge.sessions.values()
    assert session.address == STRANGER
    run.run(1.0)
    assert edge.connected and edge.session_id == session.session_id
    assert session.address == HOME
    run.stream(edge, SMALL, 10)
    run.run(2.0)
    assert len(run.of(AnswerArrived)) == 10


@pytest.mark.parametrize('replays', [50, 400])
@pytest.mark.parametrize('address', [HOME, STRANGER])
def test_a_hello_that_names_the_session_uses_up_none_of_its_numbers_when_it_is_said_again(address, replays):
    run, edge = connected(seed=2)
    edge.receive_datagram(datagram.build(datagram.RESET, edge.session_id, 0), run.now)
    run.run(0.2)
    recorded = [data for data in hellos(run) if datagram.parse(data).session_id == edge.session_id]
    assert recorded
    session = run.bridge.sessions[edge.session_id]
    run.stream(edge, SMALL, 40)
    said = []

    def replay(k):
        before = session._sequence
        said.extend(to_bridge(run, recorded[k % len(recorded)], address))
        assert session._sequence == before
    for k in range(replays * 4):
        run.at(run.now + k / replays, lambda k=k: replay(k))
    run.run(5.0)
    assert len(run.of(AnswerArrived)) == 40
    assert not [data for data, to in said if to == STRANGER]
    assert edge.statistics.packet_error_rate == 0.0
    assert run.bridge.statistics_of(edge.session_id).remote_packet_error_rate == 0.0
    assert edge.connected and not run.of(LinkLost)


def test_a_hello_that_was_brought_from_elsewhere_first_makes_the_robot_miss_nothing():
    run, edge = connected(seed=3)
    session = edge.session_id
    run.stream(edge, SMALL, 40)

    def reset():
        edge.receive_datagram(datagram.build(datagram.RESET, session, 0), run.now)
        for data in edge.datagrams_to_send(run.now):
            to_bridge(run, data, STRANGER)             # and never from the robot itself
    for k in range(40):
        run.at(run.now + 0.1 * k, reset)
    run.run(5.0)
    assert edge.session_id == session and run.bridge.sessions[session].address == HOME
    assert edge.statistics.packet_error_rate == 0.0
    assert len(run.of(AnswerArrived)) == 40


@pytest.mark.parametrize('kind', ['junk', 'recorded'])
@pytest.mark.parametrize(('rate', 'loss'), [(125, 0.0), (400, 0.3), (1250, 0.0), (1250, 0.3), (5000, 0.0)])
@pytest.mark.parametrize('seed', range(2))
def test_hellos_that_are_said_in_a_robot_s_name_from_its_address_delay_it_by_less_than_two_seconds(seed, rate, loss, kind):
    run = simulation(seed=seed, uplink=Impairment(loss), downlink=Impairment(loss))
    run.add_edge(SMALL, key=KEY, address=HOME)
    run.run(1.0)
    noise = [sign(bytes(32), datagram.HELLO, 0, 0, bytes(48) + Hello('robot', 5, SMALL).to_bytes())] if kind == 'junk' else hellos(run)
    del run.edges[HOME]
    random = Random(seed)
    for k in range(rate * 8):
        run.at(run.now + k / rate, lambda: run.bridge.receive_datagram(random.choice(noise), HOME, run.now + run.clock_offset))
    run.run(3.0)
    edge = run.add_edge(SMALL, key=KEY, address=HOME)
    began = run.now
    run.run(4.0)
    assert edge.connected
    assert [when for when in run.when(RobotConnected) if when > began][0] < began + 2.0


def test_a_hello_of_a_former_life_with_a_good_cookie_takes_nothing_from_the_next_one():
    run = simulation(seed=4)
    run.add_edge(SMALL, key=KEY, address=AWAY)
    run.run(0.5)
    run.add_edge(SMALL, key=KEY, address=HOME)         # is refused, and has a cookie
    run.run(2.5)
    refused = [data for data, address in run.carried if address == HOME and data[3] == datagram.HELLO][-1:]
    assert any(refused[0][20:36])
    del run.edges[AWAY], run.edges[HOME]
    for k in range(8000):
        run.at(run.now + 0.001 * k, lambda: run.bridge.receive_datagram(refused[0], HOME, run.now + run.clock_offset))
    run.bridge.handle_timer(run.now + run.clock_offset + 3.0)
    run.run(0.5)
    edge = run.add_edge(SMALL, key=KEY, address=HOME)
    run.run(2.0)
    assert edge.connected


@pytest.mark.parametrize('pause', [0.5, 1.1, 5.0])
@pytest.mark.parametrize('held', [1, 5, 20])
def test_no_frame_is_delivered_twice_after_a_pause(held, pause):
    run, edge = connected(seed=5)
    arrived, receive, kept = set(), run.bridge.receive_datagram, []

    def noted(data, address, now):
        if data[3] == datagram.TOKENS and len(kept) < held * 10 and len(arrived) % 3 == 0 and run.now < stop:
            kept.append(data)
            arrived.add(len(arrived))
            return
        arrived.add(len(arrived))
        receive(data, address, now)
    stop = run.now + 2.0
    run.bridge.receive_datagram = noted
    run.stream(edge, SMALL, 20)
    run.run(2.5)
    run.run(pause)
    for data in kept:
        receive(data, HOME, run.now + run.clock_offset)
        run.run(0.02)
    run.run(1.0)
    delivered = [frame.frame_id for frame in run.received]
    assert len(kept) >= 10 and len(set(delivered)) == len(delivered) >= 15
