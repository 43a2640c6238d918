"""Robots that move, and others who bring what a robot says from addresses of their own."""

from collections import Counter, defaultdict

import pytest

from evitif.protocol.bridge.joining import JoiningEndpoint
from evitif.protocol.events import AnswerArrived, FrameExpired, LinkLost, RobotConnected, RobotLost, RobotMoved
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.sealing.seal import sign
from evitif.protocol.wire import datagram

from .simulated_link import BRIDGE, SMALL, Impairment, Simulation

HOME, AWAY, LISTENER = ('10.0.0.1', 4000), ('10.0.0.2', 5000), ('10.6.6.6', 6)
KEY = Key(bytes(range(32)))
SEALED = pytest.mark.parametrize('sealed', [True, False])


class Watched(Simulation):
    """Notes what the bridge gets from and sends to each address."""

    def __init__(self, sealed: bool = True, parameters=SMALL, **options):
        super().__init__(**options)
        self.key = KEY if sealed else None
        self.add_bridge(parameters, keys=RobotKeys(default=KEY) if sealed else None)
        self.taken: Counter = Counter()
        self.told: defaultdict[object, list[bytes]] = defaultdict(list)
        self.where: list[tuple[float, object]] = []        # the session's address, whenever something arrives
        self.hand_on = False                               # what the bridge tells the listener reaches the robot
        receive, take = self.bridge.receive_datagram, self.bridge.datagrams_to_send

        def noted(data, address, now):
            self.taken[address] += len(data)
            receive(data, address, now)
            self.where += [(self.now, session.address) for session in self.bridge.sessions.values()]

        def sent(now):
            datagrams = take(now)
            for data, address in datagrams:
                self.told[address].append(bytes(data))
            return datagrams
        self.bridge.receive_datagram, self.bridge.datagrams_to_send = noted, sent

    def connected(self):
        edge = self.add_edge(SMALL, key=self.key, address=HOME)
        self.run(1.0)
        assert edge.connected
        self.taken.clear()
        self.told.clear()
        self.where.clear()
        return edge

    def bring(self, data, address) -> None:
        self.bridge.receive_datagram(data, address, self.now + self.clock_offset)

    def copy(self, *addresses, ahead: float = 0.001, drops: bool = False) -> None:
        """From now on what reaches the bridge comes from these addresses first."""
        def arrives(data, address):
            for other in addresses:
                self.bring(data, other)
            if not drops:
                self.at(self.now + ahead, lambda: self.bring(data, address) or {BRIDGE})
            return {BRIDGE}
        self._to_bridge = arrives

    def _to_edge(self, data, address) -> set:
        if address == LISTENER and self.hand_on:
            address = next(iter(self.edges))
        return super()._to_edge(data, address)

    def move(self, address) -> None:
        self.edges = {address: next(iter(self.edges.values()))}


def kinds(datagrams) -> set[int]:
    return {data[3] for data in datagrams}


@pytest.mark.parametrize('handed_on', [False, True])
@pytest.mark.parametrize(('delay', 'ahead', 'sealed'), [(0.002, 0.001, True), (0.05, 0.001, False), (0.05, 0.03, True)])
def test_who_brings_copies_of_all_that_a_robot_says_first_and_drops_nothing_diverts_nothing(delay, ahead, handed_on, sealed):
    run = Watched(sealed, seed=1, uplink=Impairment(delay=delay), downlink=Impairment(delay=delay))
    edge = run.connected()
    run.copy(LISTENER, ahead=ahead)
    run.hand_on = handed_on
    sent = run.stream(edge, SMALL, 20)
    run.run(2.5)
    assert {where for _, where in run.where} == {HOME}
    assert kinds(run.told[LISTENER]) == {datagram.PATH_CHALLENGE}
    assert len(run.told[LISTENER]) <= 10 + 10 * 2.5
    assert sum(map(len, run.told[LISTENER])) <= run.taken[LISTENER]
    assert len(run.of(AnswerArrived)) == len(sent) == len(run.received) == 20
    assert sum(frame.packets_received == frame.packets_expected for frame in run.received) >= 18      # paced, the first are cut
    assert edge.statistics.packet_error_rate == 0.0 and run.bridge.statistics_of(edge.session_id).packet_error_rate == 0.0
    assert not run.of(LinkLost) and not run.of(RobotMoved)


@pytest.mark.parametrize(('seed', 'loss', 'sealed'), [(0, 0.3, True), (1, 0.6, True), (2, 0.6, False)])
def test_the_same_beside_a_radio_that_loses_datagrams_which_the_listener_gets(seed, loss, sealed):
    run = Watched(sealed, seed=seed)
    edge = run.connected()
    carry = run._carry

    def carried(link, data, deliver):
        if link is run.uplink:
            run.at(run.now + 0.001, lambda: run.bring(data, LISTENER) or {BRIDGE})
        carry(link, data, deliver)
    run._carry = carried
    run.uplink.loss = run.downlink.loss = loss
    sent = run.stream(edge, SMALL, 20)
    run.run(3.0)
    assert {where for _, where in run.where} == {HOME}
    assert kinds(run.told[LISTENER]) == {datagram.PATH_CHALLENGE}
    assert len(run.of(AnswerArrived)) >= (19 if loss < 0.5 else 17) and len(sent) == 20      # at 60 % one in sixteen is lost anyhow


@SEALED
def test_what_comes_only_from_an_address_that_proves_nothing_is_neither_answered_nor_a_sign_of_life(sealed):
    run = Watched(sealed, seed=2)
    edge = run.connected()
    run.copy(LISTENER, drops=True)
    run.stream(edge, SMALL, 40)
    run.run(4.0)
    assert not run.received and not run.of(AnswerArrived)
    assert kinds(run.told[LISTENER]) <= {datagram.PATH_CHALLENGE, datagram.CHALLENGE, datagram.WELCOME, datagram.RESET}
    lost, = run.of(RobotLost)
    assert lost.reason.startswith('silent for 2')


@SEALED
def test_a_relay_that_hands_on_everything_and_lets_nothing_else_pass_is_a_path_and_left_as_soon_as_there_is_another(sealed):
    run = Watched(sealed, seed=3)
    edge = run.connected()
    direct = run._to_bridge
    run.copy(LISTENER, drops=True)
    run.hand_on = True
    run.stream(edge, SMALL, 20)
    run.run(3.0)
    assert len(run.of(AnswerArrived)) >= 19
    session = run.bridge.sessions[edge.session_id]
    assert session.address == LISTENER
    run._to_bridge, run.hand_on = direct, False
    run.stream(edge, SMALL, 20, first_id=100)
    run.run(0.15)
    assert session.address == HOME
    run.run(3.0)
    assert len(run.of(AnswerArrived)) >= 38
    assert not run.of(LinkLost)


@pytest.mark.parametrize(('seed', 'sealed'), [(0, True), (1, True), (2, False)])
@pytest.mark.parametrize(('frames', 'loss', 'delay', 'back'), [
    (0, 0.0, 0.002, 0.0), (10, 0.0, 0.1, 0.0), (10, 0.3, 0.02, 1.0), (0, 0.6, 0.1, 2.0), (10, 0.6, 0.02, 2.0), (30, 0.6, 0.002, 2.0)])
def test_a_robot_that_moves_is_back_after_a_round_trip_and_at_60_percent_loss_within_two_seconds(seed, loss, delay, back, frames, sealed):
    run = Watched(sealed, seed=seed, uplink=Impairment(loss, delay=delay), downlink=Impairment(loss, delay=delay))
    edge = run.connected()
    session = edge.session_id
    if frames:
        run.stream(edge, SMALL, 2 * frames, rate=frames)
        run.run(0.5)
    moved = run.now
    run.move(AWAY)
    run.run(2.0)
    assert edge.session_id == session and not run.of(RobotLost)
    arrived = min(when for when, where in run.where if where == AWAY)
    spoke = min(when for when, data in run.departed if when > moved)
    assert arrived <= (moved + back if back else spoke + 3 * delay + 1e-6)
    if frames:
        answers = [when for when, _, event in run.events if isinstance(event, AnswerArrived) and event.sent.sent_at >= moved]
        assert answers and answers[0] <= moved + (back or 1 / frames + 6 * delay + 0.02)


@pytest.mark.parametrize(('sealed', 'delay', 'least'), [(True, 0.002, 39), (False, 0.05, 24)])      # answers that come before the next port
def test_a_nat_that_gives_a_new_port_every_third_of_a_second_loses_only_what_is_on_its_way(delay, least, sealed):
    run = Watched(sealed, seed=4, uplink=Impairment(delay=delay), downlink=Impairment(delay=delay))
    edge = run.connected()
    sent = run.stream(edge, SMALL, 45, rate=15.0)
    for port in range(10):
        run.run(0.3)
        run.move(('10.0.0.1', 5000 + port))
    run.run(1.0)
    assert edge.connected and not run.of(LinkLost) and not run.of(RobotLost) and len(run.of(RobotConnected)) == 1
    assert len(sent) == 45 and len(run.of(AnswerArrived)) + len(run.of(FrameExpired)) == 45
    assert len(run.received) == 45 and len(run.of(AnswerArrived)) >= least


@pytest.mark.parametrize(('addresses', 'sealed'), [(1, True), (1, False), (80, True)])
def test_copies_from_many_addresses_draw_less_than_they_bring_and_keep_no_robot_from_moving(addresses, sealed):
    run = Watched(sealed, seed=5)
    edge = run.connected()
    strangers = [('192.0.2.1', port) for port in range(addresses)]
    run.copy(*strangers)
    run.stream(edge, SMALL, 6)
    run.run(0.25)
    run.move(AWAY)
    run.run(0.75)
    assert run.bridge.sessions[edge.session_id].address == AWAY
    assert {where for _, where in run.where} == {HOME, AWAY}
    for stranger in strangers:
        assert kinds(run.told[stranger]) == {datagram.PATH_CHALLENGE}
        assert sum(map(len, run.told[stranger])) <= run.taken[stranger]
    if addresses == 1:
        assert len(run.told[strangers[0]]) <= 10 + 10 * 1.0
    places = run.bridge._paths._places
    assert len(places) <= 64 and sum(place.held_bytes for place in places.values()) <= 64 * (1 << 17)
    assert len(run.of(AnswerArrived)) >= 6 - (addresses > 64)      # then what was held back of the frame was forgotten


@pytest.mark.parametrize(('address', 'sealed'), [(HOME, True), (AWAY, True), (AWAY, False), (LISTENER, True)])
@pytest.mark.parametrize('kept', ['played back', 'held back'])
def test_an_old_path_response_moves_nothing(kept, address, sealed):
    run = Watched(sealed, seed=6)
    edge = run.connected()
    responses, arrives = [], run._to_bridge

    def caught(data, where):
        if data[3] == datagram.PATH_RESPONSE and where == AWAY:
            responses.append(data)
            if kept == 'held back' and len(responses) < 3:
                return {BRIDGE}
        return arrives(data, where)
    run._to_bridge = caught
    run.move(AWAY)
    run.run(0.7)
    assert run.bridge.sessions[edge.session_id].address == AWAY and responses
    run.move(HOME)
    run.run(0.7)
    session = run.bridge.sessions[edge.session_id]
    assert session.address == HOME
    for data in responses:
        run.bring(data, address)
        assert session.address == HOME
    run.stream(edge, SMALL, 5)
    run.run(1.0)
    assert len(run.of(AnswerArrived)) == 5


@SEALED
def test_a_response_from_another_path_proves_nothing(sealed):
    run = Watched(sealed, seed=7)
    edge = run.connected()
    session = run.bridge.sessions[edge.session_id]
    run.copy(LISTENER, drops=True)
    run.run(0.25)
    del run._to_bridge
    challenge = next(data for data in run.told[LISTENER] if data[3] == datagram.PATH_CHALLENGE)
    edge.receive_datagram(challenge, run.now)
    responses = [data for data in edge.datagrams_to_send(run.now) if data[3] == datagram.PATH_RESPONSE]
    assert responses
    for data in responses:
        run.bring(data, AWAY)
        assert session.address == HOME
        run.bring(data, HOME)
        assert session.address == HOME
        run.bring(data, LISTENER)      # the first copy from there, but the robot has been heard at home since
        assert session.address == HOME


@SEALED
def test_a_challenge_is_answered_once_and_only_if_the_bridge_made_it_in_this_session(sealed):
    run = Watched(sealed, seed=8)
    edge = run.connected()
    run.move(AWAY)
    run.run(0.5)
    challenge = next(data for data in run.told[AWAY] if data[3] == datagram.PATH_CHALLENGE)
    edge.datagrams_to_send(run.now)
    before = edge.statistics.dropped.get('duplicate', 0)
    for _ in range(1000):
        edge.receive_datagram(challenge, run.now)
    assert edge.datagrams_to_send(run.now) == []
    assert edge.statistics.dropped.get('duplicate', 0) == before + 1000
    fresh = datagram.parse(challenge).sequence + 1
    body = bytes(12)
    forged = [datagram.build(datagram.PATH_CHALLENGE, edge.session_id + 1, fresh, body),
              sign(bytes(32), datagram.PATH_CHALLENGE, edge.session_id, fresh, body),
              sign(KEY.reply, datagram.PATH_CHALLENGE, edge.session_id, fresh, body)]
    if sealed:
        forged.append(datagram.build(datagram.PATH_CHALLENGE, edge.session_id, fresh, body))
    for data in forged:
        edge.receive_datagram(data, run.now)
    assert edge.datagrams_to_send(run.now) == []


@SEALED
def test_an_edge_answers_so_many_challenges_and_no_more(sealed):
    run = Watched(sealed, seed=9)
    edge = run.connected()
    run.stream(edge, SMALL, 5)
    run.run(1.0)      # so that it knows that one copy of a response suffices
    session = run.bridge.sessions[edge.session_id]
    responses = 0
    for k in range(1000):
        edge.receive_datagram(session.path_challenge(bytes(12)), run.now + 0.001 * k)
        responses += sum(data[3] == datagram.PATH_RESPONSE for data in edge.datagrams_to_send(run.now + 0.001 * k))
    assert 200 <= responses <= 50 + 200 + 1


def first(run, copier) -> None:
    """From now on all that the robot says is also brought from `copier`, and first."""
    carry = run._carry

    def carried(link, data, deliver):
        if link is run.uplink:
            run.at(run.now + 0.001, lambda: run.bring(data, copier) or {BRIDGE})
        carry(link, data, deliver)
    run._carry = carried


@pytest.mark.parametrize(('loss', 'delay', 'bound'), [
    (0.0, 0.02, 1.2), (0.3, 0.002, 1.2), (0.3, 0.05, 1.5), (0.6, 0.02, 2.0), (0.0, 0.1, 1.2)])
@pytest.mark.parametrize('seed', range(3))
def test_copies_with_the_former_address_on_them_keep_no_robot_from_moving(seed, loss, delay, bound):
    run = Watched(seed=seed, uplink=Impairment(loss, delay=delay), downlink=Impairment(loss, delay=delay))
    edge = run.connected()
    session = edge.session_id
    run.stream(edge, SMALL, 50)
    run.run(0.5)
    run.move(AWAY)
    moved = run.now
    first(run, HOME)
    run.run(2.5)
    back = min(when for when, where in run.where if where == AWAY)
    assert back <= moved + bound and edge.connected and edge.session_id == session and not run.of(RobotLost)
    assert len([event for event in run.of(AnswerArrived) if event.sent.sent_at > back]) >= 4
    assert len([data for data in run.told[HOME] if data[3] == datagram.PATH_CHALLENGE]) <= 4 * (7 + 10) * 2.0


@pytest.mark.parametrize('seed', [13, 76, 104, 130])
def test_a_robot_that_moves_as_soon_as_it_is_connected_is_back_before_anybody_knows_what_the_radio_loses(seed):
    run = Watched(seed=seed, uplink=Impairment(0.6, delay=0.1), downlink=Impairment(0.6, delay=0.1))
    edge = run.connected()
    session, moved = edge.session_id, run.now
    run.move(AWAY)
    run.run(2.0)
    assert edge.session_id == session and not run.of(RobotLost)
    assert min(when for when, where in run.where if where == AWAY) <= moved + 2.0


@pytest.mark.parametrize(('loss', 'size'), [(0.0, 1), (0.6, 2)])
def test_a_new_address_is_asked_in_as_many_copies_as_the_radio_needs_and_in_no_more_bytes_than_it_sent(loss, size):
    run = Watched(seed=14, uplink=Impairment(loss), downlink=Impairment(loss))
    edge = run.connected()
    run.stream(edge, SMALL, 20)
    run.run(2.0)
    run.copy(LISTENER)
    run.stream(edge, SMALL, 1, first_id=100)
    run.run(0.05)
    challenges = [data for data in run.told[LISTENER] if data[3] == datagram.PATH_CHALLENGE]
    assert len(challenges) >= size * len({bytes(data) for data in challenges}) > 0
    assert sum(map(len, run.told[LISTENER])) <= run.taken[LISTENER]


def test_a_relay_that_also_writes_the_robot_s_address_on_copies_does_not_move_a_robot_that_is_there():
    run = Watched(seed=3, uplink=Impairment(0.3), downlink=Impairment(0.3))
    edge = run.connected()
    run.stream(edge, SMALL, 40)
    run.hand_on = True
    first(run, HOME)
    first(run, LISTENER)
    run.run(4.0)
    assert {where for _, where in run.where} == {HOME} and len(run.of(AnswerArrived)) >= 38


@pytest.mark.parametrize(('seed', 'loss'), [(0, 0.0), (1, 0.3)])
def test_a_lost_robot_that_has_moved_is_found_though_its_hellos_come_from_elsewhere_first(seed, loss):
    run = Watched(seed=seed, uplink=Impairment(loss), downlink=Impairment(loss))
    edge = run.connected()
    session = edge.session_id
    run.downlink.loss = 1.0
    run.run(1.15)
    assert edge.state == 'lost'
    run.downlink.loss = loss
    run.move(AWAY)
    first(run, LISTENER)
    run.run(0.7)
    assert edge.connected and edge.session_id == session
    assert sum(map(len, run.told[LISTENER])) <= run.taken[LISTENER]


@SEALED
def test_challenges_to_other_addresses_leave_the_edge_answers_for_its_own(sealed):
    run = Watched(sealed, seed=13)
    edge = run.connected()
    session = run.bridge.sessions[edge.session_id]
    for _ in range(100):
        edge.receive_datagram(session.path_challenge(bytes(12)), run.now)
    edge.datagrams_to_send(run.now)
    edge.receive_datagram(session.path_challenge(bytes(12), doubt=True), run.now)
    assert any(data[3] == datagram.PATH_RESPONSE for data in edge.datagrams_to_send(run.now))


@SEALED
def test_a_lost_robot_is_found_at_its_new_address_in_the_same_session(sealed):
    run = Watched(sealed, seed=10)
    edge = run.connected()
    session = edge.session_id
    run.downlink.loss = 1.0
    run.run(1.2)
    assert edge.state == 'lost'
    run.downlink.loss = 0.0
    run.move(AWAY)
    run.run(0.3)
    assert edge.connected and edge.session_id == session
    run.run(0.3)
    assert run.bridge.sessions[session].address == AWAY


def test_who_says_the_hello_of_a_lost_robot_from_elsewhere_is_told_nothing_of_its_session():
    run = Watched(seed=11)
    edge = run.connected()
    run.downlink.loss = 1.0
    run.run(1.2)
    run.copy(LISTENER)
    run.told.clear()
    run.downlink.loss = 0.0
    run.run(1.0)
    assert edge.connected
    assert kinds(run.told[LISTENER]) == {datagram.PATH_CHALLENGE} and {where for _, where in run.where} == {HOME}


def test_each_device_of_a_robot_moves_by_itself():
    streams = [SMALL.__class__(**{**vars(SMALL), 'strategy': 'partition', 'device': name}) for name in ('left', 'right')]
    bridge = JoiningEndpoint(streams, 'bridge', keys=RobotKeys(default=KEY))
    run = Simulation(seed=12)
    run.bridge = bridge
    left = run.add_edge(streams[0], robot='robot.left', key=KEY, address=HOME)
    right = run.add_edge(streams[1], robot='robot.right', key=KEY, address=LISTENER)
    run.run(0.5)
    assert left.connected and right.connected
    run.edges = {AWAY: left, LISTENER: right}
    run.run(0.5)
    assert {session.robot: session.address for session in bridge.sessions.values()} == {'robot.left': AWAY, 'robot.right': LISTENER}
    assert [event.robot for event in run.of(RobotMoved)] == ['robot.left']
