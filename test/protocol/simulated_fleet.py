"""Robots, directories and bridges in simulated time: hosts at addresses, each with its own clock; nothing sleeps."""

import heapq
import itertools
import math
from random import Random

from evitif.protocol.bridge.endpoint import BridgeEndpoint
from evitif.protocol.bridge.fleet_place import FleetPlace
from evitif.protocol.directory.endpoint import DirectoryEndpoint
from evitif.protocol.edge.config import EdgeConfig
from evitif.protocol.edge.connection import EdgeConnection
from evitif.protocol.edge.links import EdgeLinks
from evitif.protocol.events import AnswerArrived, Connected, FrameExpired, FrameReady, LinkLost, Refused
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.sealing.tickets import FleetKey

from .simulated_link import SMALL, Impairment, answer_to, frame_of

KEY, FLEET_KEY = Key(bytes(range(32))), FleetKey(bytes(range(32, 64)))
KEYS = RobotKeys(default=KEY)
DIRECTORY, OTHER_DIRECTORY = ('10.0.1.1', 7600), ('10.0.1.2', 7600)


class Host:
    """Something with a clock of its own at an address."""

    def __init__(self, endpoint, ahead: float = 0.0):
        self.endpoint, self.ahead = endpoint, ahead
        self.mute = False            # nothing reaches it, nothing leaves it


class Fleet:
    def __init__(self, *, seed=0, delay=0.002, loss=0.0, tail=0.005):
        self.random, self.now, self.tail = Random(seed), 10.0, tail
        self.link = Impairment(loss=loss, delay=delay)
        self.hosts: dict[tuple, Host] = {}
        self.robots: dict[tuple, EdgeLinks] = {}
        self.events: list[tuple[float, tuple, object]] = []
        self.carried: list[tuple[float, tuple, tuple, bytes]] = []
        self.outcomes: dict[tuple, list[tuple[int, str]]] = {}
        self.watch = lambda source, target, data: True
        self._queue: list = []
        self._count = itertools.count()

    # Who is there

    def directory(self, address=DIRECTORY, ahead=0.0, key=FLEET_KEY, keys=KEYS, **options) -> DirectoryEndpoint:
        endpoint = DirectoryEndpoint(f'directory {address[0]}', key, keys=keys, **options)
        self.hosts[address] = Host(endpoint, ahead)
        return endpoint

    def bridge(self, number: int, *, ahead=0.0, clock=1e9, parameters=SMALL, directories=None, key=FLEET_KEY, keys=KEYS, config=None,
               address=None, life=None, version='a', announce=None) -> BridgeEndpoint:
        """A bridge of the fleet; its own clock is `clock` ahead of the simulation's."""
        place = FleetPlace(number, key, life or self.random.getrandbits(64), clock_ahead_s=clock - ahead, version=version,
                           announce=announce)
        place.set_directories([each for each, host in self.hosts.items() if isinstance(host.endpoint, DirectoryEndpoint)]
                              if directories is None else directories)
        endpoint = BridgeEndpoint(parameters, f'bridge {number}', config, keys=keys, random=Random(self.random.random()), place=place)
        self.hosts[address or at(number)] = Host(endpoint, ahead)
        return endpoint

    def robot(self, name='robot', *, address=None, homes=(DIRECTORY,), parameters=SMALL, key=KEY, redundant=1, **config) -> EdgeLinks:
        def connection(ticket: bytes) -> EdgeConnection:
            return EdgeConnection(parameters, name, EdgeConfig(**{'min_packets': 2, **config}), key=key,
                                  random=Random(self.random.random()), ticket=ticket)
        links = EdgeLinks(connection, len(homes), redundant)
        for index, home in enumerate(homes):
            links.remote_at(index, home)
        self.robots[address or ('10.0.2.1', 4000 + len(self.robots))] = links
        links.connect(self.now)
        return links

    def kill(self, address) -> Host:
        """As kill -9: nothing is said."""
        return self.hosts.pop(address)

    # Time

    def at(self, when: float, action) -> None:
        heapq.heappush(self._queue, (when, next(self._count), action))

    def stream(self, links: EdgeLinks, frames: int, rate=10.0, first=0) -> list[int]:
        """Send frames from now on; returns the list that gets the ids of those that were sent."""
        sent: list[int] = []

        def send(k):
            if links.send_frame(frame_of(links.parameters, first + k), self.now):
                sent.append(first + k)
        for k in range(frames):
            self.at(self.now + k / rate, lambda k=k: send(k))
        return sent

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            self._exchange()
            timers = [timer for links in self.robots.values() if (timer := links.get_timer()) is not None]
            timers += [timer - host.ahead for host in self.hosts.values() if (timer := host.endpoint.get_timer()) is not None]
            arrival = self._queue[0][0] if self._queue else math.inf
            when = min([arrival, *timers])
            if when > end:
                break
            self.now = max(self.now, when)
            if arrival <= when:
                heapq.heappop(self._queue)[2]()
                continue
            for links in self.robots.values():
                if (timer := links.get_timer()) is not None and timer <= self.now:
                    links.handle_timer(self.now)
            for host in self.hosts.values():
                if (timer := host.endpoint.get_timer()) is not None and timer <= self.now + host.ahead + 1e-9:
                    host.endpoint.handle_timer(self.now + host.ahead + 1e-9)
        self.now = end

    def _exchange(self) -> None:
        for address, links in [*self.robots.items()]:
            while (run := links.run_to_send(self.now)) is not None:
                for data in [run[0]] if isinstance(run[0], bytes) else [row.tobytes() for row in run[0]]:
                    self._carry(address, run[1], data)
            while (event := links.next_event()) is not None:
                self.events.append((self.now, address, event))
                if isinstance(event, AnswerArrived | FrameExpired):
                    frame = event.sent.frame_id if isinstance(event, AnswerArrived) else event.frame_id
                    self.outcomes.setdefault(address, []).append((frame, type(event).__name__))
        for address, host in [*self.hosts.items()]:
            now = self.now + host.ahead
            for data, to in host.endpoint.datagrams_to_send(now):
                if not host.mute:
                    self._carry(address, to, data)
            while (event := host.endpoint.next_event()) is not None:
                self.events.append((self.now, address, event))
                if isinstance(event, FrameReady):
                    self.at(self.now + self.tail, lambda address=address, host=host, frame=event.frame: self._answer(address, host, frame))

    def _answer(self, address, host: Host, frame) -> None:
        if self.hosts.get(address) is host:
            now = self.now + host.ahead
            host.endpoint.send_answer(frame.session_id, answer_to(frame, now), now)

    def _carry(self, source, target, data: bytes) -> None:
        self.carried.append((self.now, source, target[:2], data))
        if self.watch(source, target, data) and not self.link.loses(self.random):
            self.at(self.now + self.link.delay, lambda: self._deliver(source, target[:2], data))

    def _deliver(self, source, target, data: bytes) -> None:
        if target in self.hosts and not self.hosts[target].mute:
            host = self.hosts[target]
            host.endpoint.receive_datagram(data, source, self.now + host.ahead)
        elif target in self.robots and self.robots[target].expects(source):
            self.robots[target].receive_datagram(data, source, self.now)

    # What came of it

    def of(self, kind, who=None) -> list:
        return [event for _, whose, event in self.events if isinstance(event, kind) and who in (None, whose)]

    def serving(self) -> dict[str, tuple]:
        """Where each robot has a session, by name."""
        return {session.robot: address for address, host in self.hosts.items() if isinstance(host.endpoint, BridgeEndpoint)
                for session in host.endpoint.sessions.values()}

    def said_to(self, address, kind: int) -> list[bytes]:
        """The datagrams of a type that were sent to an address."""
        return [data for _, _, target, data in self.carried if target == address and data[3] == kind]


def at(number: int) -> tuple:
    """The address of the bridge of this number."""
    return f'10.0.3.{number}', 7600


def fleet(bridges=2, directories=1, **options) -> Fleet:
    """A fleet whose bridges have reported."""
    run = Fleet(**options)
    for address in (DIRECTORY, OTHER_DIRECTORY)[:directories]:
        run.directory(address)
    for number in range(1, bridges + 1):
        run.bridge(number)
    run.run(1.0)
    return run


__all__ = ['DIRECTORY', 'FLEET_KEY', 'KEY', 'KEYS', 'OTHER_DIRECTORY', 'Connected', 'Fleet', 'Host', 'LinkLost', 'Refused', 'at', 'fleet']
