"""A directory in simulated time with 10,000 robots and 128 bridges, some of which die, are drained, or come back."""

from collections import Counter
from random import Random

import pytest

from evitif.protocol.bridge.fleet_place import FleetPlace
from evitif.protocol.directory.endpoint import DirectoryEndpoint
from evitif.protocol.directory.table import SILENT_S, FleetTable
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.sealing.sealed_handshake import EdgeHandshake
from evitif.protocol.sealing.tickets import FleetKey
from evitif.protocol.wire import datagram
from evitif.protocol.wire.fleet_status import SERVED_DIGITS, Status
from evitif.protocol.wire.handshake import Hello
from evitif.protocol.wire.parameters import StreamParameters
from evitif.protocol.wire.route import parse_redirect

FLEET_KEY, KEY = FleetKey(bytes(32)), Key(bytes(range(32)))
SMALL = StreamParameters(model='small', fingerprint='cd' * 32, cut=1, quantisation='int8', image_size=(28, 28), tokens=50, prefix_tokens=1,
                         grid=(7, 7), channels=16, groups=1, row_bytes=20, classes=10)
DIGEST = SMALL.digest[:SERVED_DIGITS]
BRIDGES, ROBOTS, CAPACITY = 128, 10_000, 128


class Crowd:
    """Who is where. A robot's session is a name in its bridge's set; the directory and its table are the real ones."""

    def __init__(self, bridges=BRIDGES):
        self.now, self.table = 10.0, FleetTable(FLEET_KEY)
        self.at: dict[int, set[str]] = {number: set() for number in range(bridges)}
        self.dead: set[int] = set()
        self.asked = 0
        self.report()

    def report(self) -> None:
        for number, robots in self.at.items():
            if number not in self.dead:
                status = Status(number, f'bridge {number}', 7, self.now + 1e6 * number, (DIGEST,), 'a', len(robots), CAPACITY,
                                len(robots) / CAPACITY, False)
                assert not self.table.take_report(status, (f'10.0.{number // 200}.{1 + number % 200}', 7601), self.now)

    def ask(self, robot: str) -> int:
        """The bridge that the robot goes to: the first that is alive of those that are named."""
        self.asked += 1
        route, reason = self.table.choose(Hello(robot, self.asked, SMALL.digest), ('10.9.0.1', 4000), self.now)
        assert route, reason
        named = [int(stop.host.rsplit('.', 1)[1]) - 1 + 200 * int(stop.host.split('.')[2]) for stop in route]
        number = next((number for number in named if number not in self.dead), -1)
        if number >= 0:
            self.at[number].add(robot)
        return number

    def all_come(self, robots, a_second=2000) -> list[str]:
        """The robots ask, so many a second, while bridges report; those that were sent to dead bridges only come back."""
        left = []
        for count, robot in enumerate(robots):
            if count % (a_second // 2) == 0:
                self.now += 0.5
                self.report()
            if self.ask(robot) < 0:
                left.append(robot)
        return left


def test_10_000_robots_are_spread_and_come_back_to_their_bridges_and_failures_concern_few():
    crowd, names = Crowd(), [f'robot {k}' for k in range(ROBOTS)]
    assert not crowd.all_come(names)
    sizes = [len(robots) for robots in crowd.at.values()]
    assert sum(sizes) == ROBOTS and max(sizes) <= CAPACITY and min(sizes) >= 40
    # 20 bridges die at once: nobody else moves, and no robot is left without one after it has asked twice.
    crowd.dead = set(range(0, BRIDGES, 10))
    homeless = [robot for number in crowd.dead for robot in crowd.at[number]]
    assert 500 < len(homeless) < 1500
    for number in crowd.dead:
        crowd.at[number] = set()
    left = crowd.all_come(homeless)                          # within half a second: the directory believes the dead ones for 2 s
    crowd.now += SILENT_S
    crowd.report()
    assert not crowd.all_come(left)
    assert sum(map(len, crowd.at.values())) == ROBOTS and max(map(len, crowd.at.values())) <= CAPACITY
    # The directory is restarted: what it wrote is enough to go on, and another robot of the same name goes where the first one was.
    state, crowd.table = crowd.table.state(), FleetTable(FLEET_KEY)
    crowd.table.restore(state, crowd.now)
    assert crowd.ask('newcomer') >= 0
    assert len(crowd.table.bridges) == BRIDGES


def test_a_robot_comes_back_to_the_same_bridge_and_few_move_when_one_comes():
    crowd = Crowd(25)
    first = {robot: crowd.ask(robot) for robot in (f'robot {k}' for k in range(1000))}
    crowd.now += 30.0
    crowd.at = {number: set() for number in crowd.at}
    crowd.report()
    again = {robot: crowd.ask(robot) for robot in first}
    assert sum(first[robot] == again[robot] for robot in first) > 900      # but for what load has shifted meanwhile
    crowd.now += 30.0
    crowd.at = {number: set() for number in range(26)}
    crowd.report()
    moved = Counter(crowd.ask(robot) == 25 for robot in first)
    assert 15 <= moved[True] <= 70                           # a fair share of 1,000 in 26


@pytest.mark.parametrize('robots', [200])
def test_the_whole_handshake_with_many_robots_costs_the_directory_no_state(robots):
    directory, random = DirectoryEndpoint('directory', FLEET_KEY, keys=RobotKeys(default=KEY)), Random(1)
    place = FleetPlace(3, FLEET_KEY, 9, clock_ahead_s=1e6)
    place.set_directories([('10.0.1.1', 7600)])
    for now in (9.0, 9.6):
        for data, _ in place.reports('bridge 3', (DIGEST,), False, 0, 65535, (0, 0), now):
            directory.receive_datagram(data, ('10.0.3.3', 7600), now)
        for data, _ in directory.datagrams_to_send(now):
            place.take_peers(datagram.parse(data), ('10.0.1.1', 7600), now)
    sent = 0
    for k in range(robots):
        edge, address = EdgeHandshake(KEY, f'robot {k}', SMALL, random), (f'10.9.{k // 250}.{1 + k % 250}', 4000)
        now = 10.0 + k / 1000
        directory.receive_datagram(edge.hello(None, 0), address, now)
        (told, _), *_ = directory.datagrams_to_send(now)
        assert edge.take_challenge(datagram.parse(told))
        directory.receive_datagram(edge.hello(None, 1), address, now + 0.0005)
        told = directory.datagrams_to_send(now)
        instance, route = parse_redirect(edge.authentic(datagram.parse(told[0][0])))
        assert instance == edge.instance
        assert FLEET_KEY.objection(route[0].ticket, 3, f'robot {k}', now + 1e6) == ''
        sent += 1
        if k % 100 == 0:
            for data, _ in place.reports('bridge 3', (DIGEST,), False, k, 65535, (0, 0), now + 0.6):
                directory.receive_datagram(data, ('10.0.3.3', 7600), now)
            for data, _ in directory.datagrams_to_send(now):
                place.take_peers(datagram.parse(data), ('10.0.1.1', 7600), now)
    assert sent == robots and not directory.statistics.dropped
