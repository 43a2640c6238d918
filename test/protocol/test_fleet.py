"""A robot, directories and bridges: the robot is redirected and moved, bridges and directories die, and no frame is answered twice."""

from dataclasses import replace
from random import Random

import pytest

from evitif.protocol.events import AnswerArrived, Connected, FrameExpired, LinkLost, Refused, RobotConnected
from evitif.protocol.sealing.keys import Key
from evitif.protocol.sealing.tickets import LIFETIME_S, FleetKey
from evitif.protocol.wire import datagram
from evitif.protocol.wire.route import Stop, address_of

from .simulated_fleet import DIRECTORY, FLEET_KEY, KEYS, OTHER_DIRECTORY, Fleet, at, fleet
from .simulated_link import SMALL

HOME = ('10.0.2.1', 4000)
HANDSHAKE = (datagram.HELLO, datagram.CHALLENGE, datagram.REDIRECT, datagram.STATUS, datagram.PEERS)


def served(run: Fleet, robot='robot') -> tuple:
    return run.serving()[robot]


def assert_each_ended_once(run: Fleet, sent: list[int], address=HOME) -> None:
    assert sorted(frame for frame, _ in run.outcomes.get(address, [])) == sorted(sent)


def longest_gap(run: Fleet, since: float) -> float:
    """The longest time without an answer, until the last one."""
    times = [since, *(when for when, _, event in run.events if isinstance(event, AnswerArrived) and when >= since)]
    return max(after - before for before, after in zip(times, times[1:], strict=False))


def test_a_directory_sends_a_robot_to_a_bridge_that_answers():
    run = fleet()
    robot = run.robot()
    run.run(0.2)
    assert robot.connected
    sent = run.stream(robot, 20)
    run.run(3.0)
    assert len(sent) == 20 and len(run.of(AnswerArrived)) == 20
    assert robot.session_id >> 48 == int(served(run)[0].rsplit('.', 1)[1])      # a balancer can tell the bridge from the session
    assert {data[3] for _, source, target, data in run.carried if DIRECTORY in (source, target)} <= {*HANDSHAKE}


def test_drained_bridges_lose_no_frame_and_each_image_is_answered_once():
    run = fleet(3)
    robots = [run.robot(f'robot {k}') for k in range(4)]
    run.run(0.5)
    sent = [run.stream(robot, 60, first=1) for robot in robots]
    for number in (1, 2, 3):                                 # one after the other, as an update does
        place = run.hosts[at(number)].endpoint.place
        place.told_to_drain = True
        run.run(1.4)
        assert not run.hosts[at(number)].endpoint.sessions
        place.told_to_drain = False
        run.run(0.6)
    run.run(0.5)
    assert all(len(frames) == 60 for frames in sent)
    for outcomes in run.outcomes.values():
        assert sorted(outcomes) == [(k, 'AnswerArrived') for k in range(1, 61)]
    assert not run.of(LinkLost)


@pytest.mark.parametrize('later', [0.001, 0.02, 0.045, 0.055])
def test_a_port_that_rebinds_while_its_robot_is_moved_loses_no_frame(later):
    run = fleet()
    robot = run.robot()
    run.run(0.5)
    sent = run.stream(robot, 40)
    run.run(1.02)                                            # no answer is on its way
    run.hosts[served(run)].endpoint.place.told_to_drain = True
    run.run(later)                                           # before MOVED, and in the midst of the handshake
    run.robots[('10.0.2.1', 9999)] = run.robots.pop(HOME)    # a NAT gives it another port
    run.run(4.0)
    outcomes = run.outcomes.get(HOME, []) + run.outcomes[('10.0.2.1', 9999)]
    assert sorted(outcomes) == [(k, 'AnswerArrived') for k in sent] and len(sent) == 40


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('loss', [0.0, 0.1])
def test_robots_of_a_bridge_that_is_killed_are_answered_again_within_300_ms(seed, loss):
    run = fleet(seed=seed, loss=loss)
    robot = run.robot()
    run.run(1.0)
    sent = run.stream(robot, 40)
    run.run(1.0 + 0.03 * seed)
    killed = run.now
    run.kill(served(run))
    run.run(4.0)
    assert longest_gap(run, killed) < 0.3
    assert_each_ended_once(run, sent)
    assert len(run.of(FrameExpired)) <= (3 if loss == 0.0 else 6)
    assert not run.of(LinkLost)


def test_a_bridge_that_stands_still_for_a_moment_keeps_its_robot():
    run = fleet()
    robot = run.robot()
    run.run(1.0)
    run.stream(robot, 30)
    run.run(1.0)
    session, bridge, until = robot.session_id, served(run), run.now + 0.083
    run.watch = lambda source, target, data: run.now > until or source != bridge and data[3] != datagram.WELCOME
    run.run(0.3)
    assert len(run.of(RobotConnected)) == 2                  # another one was asked meanwhile
    run.run(2.0)
    assert robot.session_id == session and [*run.serving().values()] == [bridge]


def test_directories_may_all_be_dead_while_robots_are_connected_and_a_bridge_dies():
    run = fleet(3, directories=2)
    robot = run.robot(homes=(DIRECTORY, OTHER_DIRECTORY))
    run.run(1.0)
    for directory in (DIRECTORY, OTHER_DIRECTORY):
        run.kill(directory)
    sent = run.stream(robot, 60)
    run.run(2.0)
    assert not run.of(FrameExpired) and not run.of(LinkLost)
    killed = run.now
    run.kill(served(run))
    run.run(4.5)
    assert longest_gap(run, killed) < 0.3
    assert_each_ended_once(run, sent)


def test_a_directory_that_is_dead_keeps_no_new_robot_out_where_there_is_another():
    run = fleet(directories=2)
    run.kill(DIRECTORY)
    robot = run.robot(homes=(DIRECTORY, OTHER_DIRECTORY))
    run.run(0.6)
    assert robot.connected


def test_new_robots_are_served_soon_after_the_directory_is_back():
    run = fleet()
    state = run.kill(DIRECTORY).endpoint.table.state()
    robot = run.robot()
    run.run(20.0)
    assert not robot.connected
    run.directory().table.restore(state, run.now)
    run.run(0.7)
    assert robot.connected
    run.run(3.0)
    run.kill(DIRECTORY)                                      # and one that lost its memory knows its bridges again after their next report
    run.directory()
    newcomer = run.robot('newcomer')
    run.run(1.5)
    assert newcomer.connected


def test_a_key_that_the_directory_does_not_know_is_refused_as_at_a_bridge():
    run = fleet()
    robot = run.robot(key=Key(bytes(32)))
    run.run(1.0)
    assert not robot.connected and 'key: the bridge has no key for robot robot' in run.of(Refused, HOME)[0].reason
    assert not run.said_to(HOME, datagram.REDIRECT)


def test_a_bridge_with_another_fleet_key_is_no_bridge_of_this_fleet():
    run = fleet(0)
    run.bridge(1, key=FleetKey(bytes(32)))
    run.run(1.0)
    robot = run.robot()
    run.run(1.0)
    assert not robot.connected and 'none of its 0 bridges has reported' in run.of(Refused, HOME)[0].reason
    assert run.hosts[DIRECTORY].endpoint.statistics.dropped['corrupt'] > 0


def refusal_of(ticket: bytes, robot='robot', **bridge) -> str:
    """Why a bridge of the fleet, number 1, refuses a robot with this ticket; '' where it does not."""
    run = Fleet()
    run.bridge(1, directories=(), **bridge)
    links = run.robot(robot, homes=(at(1),))
    links._first._hellos.handshake._ticket = ticket
    links._first._hellos.handshake.renew()
    run.run(0.5)
    assert links.connected != bool(run.of(Refused, HOME))
    return '' if links.connected else run.of(Refused, HOME)[0].reason


CLOCK = 1e9 + 10.0           # of a bridge in a simulation that begins


@pytest.mark.parametrize(('ticket', 'reason'), [
    (FLEET_KEY.ticket(1, 'robot', CLOCK + 60), ''),
    (b'', 'ticket: the edge has none; expected its bridge_host to be a directory of this fleet'),
    (FLEET_KEY.ticket(2, 'robot', CLOCK + 60), 'ticket: it is for bridge 2 of the fleet, this is bridge 1'),
    (FLEET_KEY.ticket(1, 'robot', CLOCK - 30), 'ticket: it expired 30 s ago; expected a new one from a directory'),
    (FLEET_KEY.ticket(1, 'another', CLOCK + 60), 'ticket: it was made for another robot than robot, or by another fleet'),
    (FleetKey(bytes(32)).ticket(1, 'robot', CLOCK + 60), 'ticket: it was made for another robot than robot, or by another fleet'),
    (bytes(26), 'ticket: it was made for another robot than robot, or by another fleet'),
])
def test_a_bridge_checks_a_ticket_without_asking_anybody(ticket, reason):
    assert refusal_of(ticket) == reason


def test_a_ticket_that_is_played_back_gets_nobody_a_session():
    run = fleet()
    run.robot()
    run.run(1.0)
    bridge = run.hosts[served(run)].endpoint
    hellos = run.said_to(served(run), datagram.HELLO)
    run.robots.clear()
    run.run(3.0)
    assert not bridge.sessions
    for data in hellos:
        bridge.receive_datagram(data, ('10.0.9.9', 666), run.now)
    told = [data for data, address in bridge.datagrams_to_send(run.now) if address == ('10.0.9.9', 666)]
    assert not bridge.sessions and {data[3] for data in told} <= {datagram.CHALLENGE}
    assert all(len(data) < len(hellos[0]) for data in told)


def test_a_robot_that_lost_its_session_returns_with_the_same_ticket_while_no_directory_is_there():
    run = fleet(1)
    robot = run.robot()
    run.run(1.0)
    run.kill(DIRECTORY)
    run.kill(at(1))
    run.run(10.0)
    run.bridge(1, directories=())                            # it was restarted
    run.run(1.0)
    assert robot.connected


def test_expired_tickets_are_no_end_while_a_directory_is_there():
    run = fleet(1)
    robot = run.robot()
    run.run(1.0)
    run.kill(at(1))
    run.run(LIFETIME_S + 20)
    run.bridge(1)
    run.run(3.0)
    assert robot.connected


@pytest.mark.parametrize('minutes', [-10, 10])
def test_clocks_that_are_minutes_apart_change_nothing(minutes):
    run = Fleet()
    run.directory(ahead=60 * minutes)
    run.bridge(1, ahead=12345.0, clock=1e9 - 60 * minutes)
    run.bridge(2, ahead=-3.0, clock=1e9 + 300 * minutes)
    run.run(1.0)
    robot = run.robot()
    sent = run.stream(robot, 30)
    run.run(1.5)
    assert robot.connected
    run.hosts[served(run)].endpoint.place.told_to_drain = True      # and so do tickets that one bridge makes for another
    run.run(3.0)
    assert len(run.of(AnswerArrived)) == len(sent) and len({event.bridge for event in run.of(Connected)}) == 2


def test_a_redirect_to_a_bridge_of_another_model_is_refused_there_and_leads_on():
    run = fleet(0)
    run.bridge(1, parameters=replace(SMALL, fingerprint='ef' * 32))
    run.bridge(2)
    run.run(1.0)
    table = run.hosts[DIRECTORY].endpoint.table
    right = table.bridges[2].report.serves
    choose = table.choose

    def wrongly(hello, address, now):                        # a directory that believes both to serve the same, and this one the better
        table.bridges[1].report = replace(table.bridges[1].report, serves=right, capacity=65535)
        return choose(hello, address, now)
    table.choose = wrongly
    robot = run.robot()
    run.run(0.5)
    assert robot.connected and served(run) == at(2)
    assert any('the edge has' in event.reason and 'ef' * 4 in event.reason for event in run.of(Refused, HOME))


def test_a_robot_whose_model_no_bridge_has_is_told_so():
    run = fleet()
    run.robot(parameters=replace(SMALL, cut=2))
    run.run(0.5)
    assert [event.reason for event in run.of(Refused, HOME)] == \
        ['fleet: none of its 2 bridges serves this model, cut and code; they have version a']


@pytest.mark.parametrize('number', [1, 2])
def test_a_bridge_that_is_believed_alive_and_does_not_answer_costs_its_robots_little(number):
    run = fleet()
    run.watch = lambda source, target, data: at(number) not in (source, target) or data[3] in (datagram.STATUS, datagram.PEERS)
    robot = run.robot()
    began = run.now
    run.run(1.0)
    assert robot.connected and served(run) == at(3 - number) and run.hosts[DIRECTORY].endpoint.table.bridges[number].is_there(run.now)
    assert next(when for when, _, event in run.events if isinstance(event, Connected)) - began < 0.4


def test_a_robot_that_comes_back_at_once_is_sent_elsewhere():
    run = fleet(1)
    table = run.hosts[DIRECTORY].endpoint.table
    run.bridge(2)
    run.run(1.0)
    robot = run.robot()
    run.run(0.5)
    said = table._sent['robot'][1]
    run.robots.clear()
    run.robot(address=('10.0.2.2', 4000))                    # it was started again: its bridge may not have answered
    run.run(0.5)
    assert table._sent['robot'][1] == 3 - said and robot


def test_two_directories_that_disagree_take_no_robot_to_and_fro():
    run = fleet(2, directories=2)
    tables = [run.hosts[each].endpoint.table for each in (DIRECTORY, OTHER_DIRECTORY)]
    for only, table in zip((1, 2), tables, strict=True):
        table.choose = lambda hello, address, now, table=table, only=only: (
            (table.stop(only, hello.robot, now),), '')
    robot = run.robot(homes=(DIRECTORY, OTHER_DIRECTORY))
    sent = run.stream(robot, 40)
    run.run(5.0)
    assert served(run) == at(1) and len({event.session_id for event in run.of(Connected)}) == 1
    assert len(run.of(AnswerArrived)) == len(sent)
    run.kill(at(1))                                          # the first directory does not see it, the second names another bridge
    run.run(4.0)
    assert robot.connected and served(run) == at(2)


def test_redirects_in_a_circle_end():
    run = fleet(0, directories=2)
    for here, there in ((DIRECTORY, OTHER_DIRECTORY), (OTHER_DIRECTORY, DIRECTORY)):
        table = run.hosts[here].endpoint.table
        table.choose = lambda hello, address, now, there=there: (
            (Stop(*there, bytes(26)),), '')
    run.robot()
    run.run(2.0)
    assert any('redirected 3 times' in event.reason for event in run.of(Refused, HOME))
    hellos = len(run.said_to(DIRECTORY, datagram.HELLO)) + len(run.said_to(OTHER_DIRECTORY, datagram.HELLO))
    assert hellos < 150


def test_a_directory_is_no_amplifier_and_asks_for_a_cookie_first():
    run = fleet()
    run.robot()
    run.run(1.0)
    hello = run.said_to(DIRECTORY, datagram.HELLO)[0]
    directory, victim = run.hosts[DIRECTORY].endpoint, ('192.0.2.1', 53)
    for data in run.said_to(DIRECTORY, datagram.HELLO):
        directory.receive_datagram(data, victim, run.now)
        told = directory.datagrams_to_send(run.now)
        assert {reply[3] for reply, _ in told} <= {datagram.CHALLENGE} and sum(len(reply) for reply, _ in told) <= len(data)
    for data in run.said_to(HOME, datagram.REDIRECT):
        assert len(data) <= len(hello)
    status = run.said_to(DIRECTORY, datagram.STATUS)[-1]
    directory.receive_datagram(status, victim, run.now)
    told = directory.datagrams_to_send(run.now)
    assert sum(len(reply) for reply, _ in told) <= len(status)
    assert victim[0] not in {bridge.host for bridge in directory.table.bridges.values()}      # from elsewhere it changes nothing


def test_what_a_bridge_once_reported_is_not_believed_when_it_is_said_again():
    run = fleet(1)
    directory = run.hosts[DIRECTORY].endpoint
    old = run.said_to(DIRECTORY, datagram.STATUS)
    run.kill(at(1))
    run.run(30.0)
    for data in old:
        directory.receive_datagram(data, at(1), run.now)
    assert not directory.table.bridges[1].is_there(run.now)


@pytest.mark.parametrize(('target', 'follows'), [('10.0.1.1', True), ('10.0.3.1', False)])
def test_unsealed_a_robot_only_follows_to_the_same_host(target, follows):
    run = Fleet()
    run.directory(keys=None)
    run.bridge(1, keys=None, address=(target, 7700))
    run.run(1.0)
    robot = run.robot(key=None)
    run.run(1.0)
    assert robot.connected == follows
    assert follows or 'which an unsealed link does not follow' in run.of(Refused, HOME)[0].reason


def test_a_stranger_redirects_and_moves_nobody():
    run = fleet()
    robot = run.robot()
    run.run(1.0)
    session = robot.session_id
    stolen = run.said_to(HOME, datagram.REDIRECT) + run.said_to(HOME, datagram.MOVED)
    assert len(stolen) > 1
    for data in stolen:                                      # from whom they came, and from the other
        for address in (DIRECTORY, served(run), at(1), at(2)):
            robot.receive_datagram(data, address, run.now)
            robot.receive_datagram(data[:-1] + bytes([data[-1] ^ 1]), address, run.now)
    run.run(1.0)
    assert robot.session_id == session and not run.of(LinkLost)


def test_a_drained_bridge_keeps_its_robots_where_no_other_takes_them():
    run = fleet(1)
    robot = run.robot()
    run.run(1.0)
    sent = run.stream(robot, 50)
    run.run(0.5)
    run.hosts[at(1)].endpoint.place.told_to_drain = True
    run.run(3.0)
    assert served(run) == at(1) and not run.of(FrameExpired) and not run.of(LinkLost)
    run.bridge(2)                                            # and lets them go when there is one
    run.run(4.0)
    assert served(run) == at(2)
    assert_each_ended_once(run, sent)
    assert not run.of(FrameExpired)


def test_ordinary_bridges_can_stand_in_for_one_another():
    from evitif.protocol.bridge.endpoint import BridgeEndpoint

    from .simulated_fleet import Host
    run = Fleet()
    for number in (1, 2):
        run.hosts[at(number)] = Host(BridgeEndpoint(SMALL, f'bridge {number}', keys=KEYS))
    robot = run.robot(homes=(at(1), at(2)))
    run.run(0.5)
    assert served(run) == at(1) and robot.session_id
    run.kill(at(1))
    run.run(2.0)
    assert robot.connected and served(run) == at(2)


def test_redundant_bridges_answer_each_image_once_and_one_of_them_may_die():
    run = fleet(3)
    robot = run.robot(redundant=2)
    run.run(1.0)
    assert sum(len(run.hosts[at(number)].endpoint.sessions) for number in (1, 2, 3)) == 2
    sent = run.stream(robot, 60)
    run.run(2.0)
    run.kill(robot.addresses[0])
    run.run(5.0)
    assert len(sent) == 60
    assert sorted(run.outcomes[HOME]) == [(k, 'AnswerArrived') for k in range(60)]
    assert sum(len(run.hosts[at(number)].endpoint.sessions) for number in (1, 2, 3) if at(number) in run.hosts) == 2


def test_the_robots_of_a_fleet_are_spread_by_the_room_of_its_bridges():
    run = fleet(3)
    for k in range(30):
        run.robot(f'robot {k}')
    run.run(0.6)
    sizes = sorted(len(run.hosts[at(number)].endpoint.sessions) for number in (1, 2, 3))
    assert sum(sizes) == 30 and sizes[0] >= 4


@pytest.mark.parametrize(('teller', 'host', 'follows'), [
    (('10.0.1.1', 7600), '10.9.9.9', True),
    (('10.0.1.1', 7600), '8.8.8.8', True),
    (('8.8.8.8', 7600), '10.9.9.9', False),                  # whoever is asked over the internet names no private address,
    (('8.8.8.8', 7600), '169.254.1.1', False),
    (('10.0.1.1', 7600), '127.0.0.1', False),                # and only this machine its own loopback
    (('127.0.0.1', 7600), '127.0.0.1', True),
    (('127.0.0.1', 7600), '10.0.1.1', True),
    (('10.0.1.1', 7600), '0.0.0.0', False),
    (('10.0.1.1', 7600), '224.0.0.1', False),
    (('10.0.1.1', 7600), '255.255.255.255', False),
    (('10.0.1.1', 7600), 'fd00::1', False),                  # of another family
    (('fd00::1', 7600, 0, 0), 'fd00::2', True),
    (('fe80::1', 7600, 0, 3), 'fe80::2', True),
    (('fe80::1', 7600, 0, 3), '::ffff:10.0.0.1', True),
    (('fd00::1', 7600, 0, 0), '::1', False),
    (('fd00::1', 7600, 0, 0), '10.0.1.1', False),
])
def test_no_robot_is_sent_where_it_cannot_reach_from_the_directory(teller, host, follows):
    found = address_of(Stop(host, 7700, bytes(26)), teller)
    assert (found is not None) == follows
    if follows and ':' in host:
        assert found == (host, 7700, 0, 3 if host.startswith('fe80') else 0)


def test_a_bridge_that_knows_no_directory_yet_has_nothing_to_wait_for():
    run = Fleet()
    bridge = run.bridge(1, directories=())
    assert bridge.get_timer() is None
    bridge.place.set_directories([DIRECTORY])
    assert bridge.get_timer() <= run.now


@pytest.mark.parametrize('bad', ['behind 30 % loss', 'slow'])
def test_with_two_bridges_the_99th_percentile_is_the_better_one_s(bad):
    run = fleet(2, seed=3)
    robot = run.robot(redundant=2)
    run.run(2.0)
    worse, answer, lost = robot.addresses[0], run._answer, Random(5)
    if bad == 'slow':
        run._answer = lambda address, host, frame: run.at(run.now + 0.08 * (address == worse), lambda: answer(address, host, frame))
    else:
        run.watch = lambda source, target, data: worse not in (source, target) or lost.random() > 0.3
    sent = run.stream(robot, 200, first=1)
    run.run(22.0)
    times = sorted(event.round_trip_s for event in run.of(AnswerArrived))
    alone = 2 * run.link.delay + run.tail                    # what the better one takes
    assert len(times) == len(sent) == 200 and times[197] <= 1.1 * alone
