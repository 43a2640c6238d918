"""Two robots, two directories and three bridges with a fuzzer as their network and as their operator: it delivers, drops, repeats, changes
and forges datagrams, kills, restarts, mutes and drains hosts, moves robots, and lets time pass. And the parsers of what they say.

Whatever it does: nothing raises; each frame that was sent ends once; a robot has few links; a directory sends nobody more bytes than came
from there; and what all of them keep stays small.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from random import Random

import numpy as np

from evitif.protocol.bridge.endpoint import BridgeEndpoint
from evitif.protocol.bridge.fleet_place import FleetPlace
from evitif.protocol.directory.endpoint import DirectoryEndpoint
from evitif.protocol.edge.config import EdgeConfig
from evitif.protocol.edge.connection import EdgeConnection
from evitif.protocol.edge.links import EdgeLinks
from evitif.protocol.events import AnswerArrived, FrameExpired
from evitif.protocol.frames.packetiser import TokenFrame
from evitif.protocol.sealing.keys import RobotKeys
from evitif.protocol.sealing.tickets import FleetKey
from evitif.protocol.wire import datagram
from evitif.protocol.wire.fleet_status import Peers, Status
from evitif.protocol.wire.handshake import Hello
from evitif.protocol.wire.route import (
    MOST_STOPS,
    Stop,
    address_of,
    moved_body,
    parse_moved,
    parse_redirect,
    parse_route,
    redirect_body,
    route_bytes,
)
from fuzz.footprint import footprint
from fuzz.parsers import KEY, PARAMETERS, handle_due, parsed
from fuzz.stream import Stream

FLEET_KEY = FleetKey(bytes(range(32, 64)))
MOST_LINKS, MOST_BYTES = 12, 6_000_000
_DIRECTORIES = ('10.0.1.1', 7600), ('10.0.1.2', 7600)
_BRIDGES = tuple((f'10.0.3.{number}', 7600) for number in range(3))
_ROBOTS = tuple((f'10.0.2.{host}', 4000) for host in range(4))
_ROWS = np.arange(PARAMETERS.units * PARAMETERS.row_bytes, dtype=np.uint8).reshape(PARAMETERS.units, -1)
_STEPS = 300                 # of one input


def parse_fleet(data: bytes) -> None:
    """The bodies of REDIRECT, MOVED, STATUS and PEERS, and a ticket in a HELLO: what is read is written again as it was."""
    route = parsed(parse_route, data)
    if route is not None:
        assert route_bytes(route) == data and len(route) <= MOST_STOPS
        for stop in route:
            for teller in (('10.0.1.1', 1), ('8.8.8.8', 1), ('fe80::1', 1, 0, 2)):
                address_of(stop, teller)
    for parse, write in ((parse_redirect, redirect_body), (parse_moved, moved_body)):
        said = parsed(parse, data)
        assert said is None or write(*said) == data
    for kind in (Status, Peers):
        said = parsed(kind.parse, data)
        if said is not None:
            try:
                assert kind.parse(said.to_bytes()) == said
            except ValueError:      # longer than a sender would make it
                pass
    parsed(Hello.parse, Hello('robot', 1, PARAMETERS).to_bytes()[:-1] + b',"ticket":"' + data[:60].hex().encode() + b'"}')
    FLEET_KEY.objection(data, 1, 'robot', 5.0)
    assert FLEET_KEY.objection(FLEET_KEY.ticket(1, 'robot', 6.0), 1, 'robot', 5.0) == ''
    assert Stop('10.0.0.1', 1, bytes(26))


class Network:
    """Everybody, and what is on its way between them."""

    def __init__(self, stream: Stream):
        self.stream, self.now, self.random = stream, 10.0, Random(1)
        self.flying: deque[tuple[tuple, tuple, bytes]] = deque(maxlen=256)
        self.hosts: dict[tuple, DirectoryEndpoint | BridgeEndpoint] = {}
        self.robots: dict[tuple, EdgeLinks] = {}
        self.mute: set[tuple] = set()
        self.frames = 0
        self.accepted: set[tuple[int, int]] = set()
        self.outcomes: Counter[tuple[int, int]] = Counter()
        self.taken: Counter = Counter()
        self.given: Counter = Counter()
        for address in (*_DIRECTORIES, *_BRIDGES):
            self.start(address)
        for number, address in enumerate(_ROBOTS[:2]):
            self.robots[address] = links = EdgeLinks(self.connect(f'robot {number}'), 2, redundant=1 + number)
            for index, home in enumerate(_DIRECTORIES):
                links.remote_at(index, home)
            links.connect(self.now)

    def connect(self, name: str) -> Callable[[bytes], EdgeConnection]:
        """Makes connections of the robot of this name."""
        return lambda ticket: EdgeConnection(PARAMETERS, name, EdgeConfig(min_packets=2, frames_remembered=8), key=KEY, random=self.random,
                                             ticket=ticket)

    def start(self, address: tuple) -> None:
        """Another life of a host."""
        keys = RobotKeys(default=KEY)
        if address in _DIRECTORIES:
            self.hosts[address] = DirectoryEndpoint('directory', FLEET_KEY, keys=keys)
            return
        number = _BRIDGES.index(address)
        place = FleetPlace(number, FLEET_KEY, self.random.getrandbits(64), clock_ahead_s=1e6 * number)
        place.set_directories(_DIRECTORIES)
        self.hosts[address] = BridgeEndpoint(PARAMETERS, f'bridge {number}', keys=keys, random=self.random, place=place)

    def collect(self) -> None:
        """Take what all send and say, and judge it."""
        for address, links in self.robots.items():
            while (run := links.run_to_send(self.now)) is not None:
                self.flying.extend((address, run[1], data) for data in ([run[0]] if isinstance(run[0], bytes) else map(bytes, run[0])))
            while (event := links.next_event()) is not None:
                if isinstance(event, AnswerArrived | FrameExpired):
                    ended = id(links), event.sent.frame_id if isinstance(event, AnswerArrived) else event.frame_id
                    self.outcomes[ended] += 1
                    assert ended in self.accepted and self.outcomes[ended] == 1, f'frame {ended[1]} ended twice'
            assert len(links._links) <= MOST_LINKS, f'{len(links._links)} links'  # noqa: SLF001
        for address, host in self.hosts.items():
            for data, to in host.datagrams_to_send(self.now):
                if address in _DIRECTORIES:
                    self.given[address, to] += len(data)
                    assert self.given[address, to] <= self.taken[address, to], 'amplification'
                self.flying.append((address, to, data))
            while host.next_event() is not None:
                pass

    def deliver(self) -> None:
        """The next datagram arrives."""
        if self.flying:
            source, target, data = self.flying.popleft()
            self.arrive(source, target, data)

    def arrive(self, source: tuple, target: tuple, data: bytes) -> None:
        """A datagram arrives."""
        if source in self.mute or target in self.mute:
            return
        if target in self.hosts:
            self.taken[target, source] += len(data)
            self.hosts[target].receive_datagram(data, source, self.now)
        elif target in self.robots and self.robots[target].expects(source):
            self.robots[target].receive_datagram(data, source, self.now)

    # What the fuzzer can do.

    def deliver_many(self) -> None:
        """Some datagrams pass, and then some time."""
        for _ in range(40):
            self.deliver()
            self.collect()
        self.now += 0.002

    def spoil(self) -> None:
        """The next datagram is lost, comes twice, is overtaken, changed, or comes from elsewhere."""
        if not self.flying:
            return
        source, target, data = self.flying.popleft()
        what = self.stream.number() % 5
        if what == 1:
            self.flying.extend([(source, target, data)] * 2)
        elif what == 2:
            self.flying.append((source, target, data))
        elif what == 3:
            changed = bytearray(data)
            changed[self.stream.number(2) % len(data)] ^= self.stream.number()
            self.flying.appendleft((source, target, bytes(changed)))
        elif what == 4:
            self.flying.appendleft((self.stream.choice((*_DIRECTORIES, *_BRIDGES, *_ROBOTS)), target, data))

    def forge(self) -> None:
        """Anything, from anywhere to anywhere."""
        everybody = (*_DIRECTORIES, *_BRIDGES, *_ROBOTS)
        data = datagram.build(self.stream.number(), self.stream.number(), self.stream.number(), self.stream.take(self.stream.number()))
        self.arrive(self.stream.choice(everybody), self.stream.choice(everybody), data)

    def wait(self) -> None:
        """Time passes."""
        self.now += self.stream.choice((0.001, 0.01, 0.05, 0.1, 0.5, 2.5, 70.0))
        for side in (*self.robots.values(), *self.hosts.values()):
            handle_due(side, self.now, self.collect)

    def send_frame(self) -> None:
        """A robot sends a frame."""
        self.frames += 1
        links = self.stream.choice((*self.robots.values(),))
        if links.send_frame(TokenFrame(self.frames, self.frames, 'c', _ROWS), self.now, self.stream.number()):
            self.accepted.add((id(links), self.frames))

    def operate(self) -> None:
        """A host dies, is restarted, is cut off, or is drained."""
        address, what = self.stream.choice((*_DIRECTORIES, *_BRIDGES)), self.stream.number() % 4
        if what == 0:
            self.start(address)
        elif what == 1:
            self.mute ^= {address}
        elif isinstance(host := self.hosts[address], BridgeEndpoint) and host.place is not None:
            host.place.told_to_drain = what == 2

    def move(self) -> None:
        """A robot gets another address."""
        free = [address for address in _ROBOTS if address not in self.robots]
        former = self.stream.choice((*self.robots,))
        self.robots[self.stream.choice(free)] = self.robots.pop(former)


_ACTIONS = (Network.deliver_many, Network.deliver_many, Network.deliver_many, Network.spoil, Network.forge, Network.wait, Network.wait,
            Network.send_frame, Network.send_frame, Network.operate, Network.move)


def run_fleet(data: bytes) -> None:
    """The whole fleet."""
    network, steps = Network(Stream(data)), 0
    network.collect()
    while network.stream and steps < _STEPS:
        network.stream.choice(_ACTIONS)(network)
        network.collect()
        steps += 1
    for links in network.robots.values():
        links.close(network.now)
    network.collect()
    assert network.accepted == set(network.outcomes), 'a frame that was sent did not end'
    if len(data) % 8 == 0:
        kept = sum(footprint(side) for side in (*network.robots.values(), *network.hosts.values()))
        assert kept <= MOST_BYTES, f'the fleet keeps {kept} bytes'


TARGETS = {'fleet-parsers': parse_fleet, 'fleet': run_fleet}
