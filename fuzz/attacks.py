"""What an attacker does who hears all that two robots and their bridge say, and may keep it away, change it and say it again.

The bytes of the fuzzer are the attacker's decisions; `two_robots` says what has to hold whatever they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random

import numpy as np

from evitif.protocol.edge.connection import EdgeConfig, EdgeConnection
from evitif.protocol.sealing.keys import Key
from evitif.protocol.wire import datagram
from fuzz.parsers import PARAMETERS
from fuzz.stream import Stream
from fuzz.two_robots import CLOCKS_DIFFER_S, OTHER_ADDRESSES, ROBOT_ADDRESSES, STRANGER, Network, Robot

_PAUSES_S = 0.005, 0.02, 0.05, 0.1, 0.1, 0.3, 0.5, 1.1, 2.3, 5.0
_INTERVALS_S = 0.005, 0.02, 0.1, 0.5, 1.9
_TOGETHER = 2                 # things that it does again and again at a time
_MOST_AT_ONCE = 20
_SESSION_AT, _SEQUENCE_AT = 4, 12


@cache
def _key(number: int, robot: int) -> Key:
    return Key(bytes([number, robot] * 16))


class Attacker:
    """The attacker on its network, and what it decides."""

    def __init__(self, data: bytes, sealed: bool):
        self.stream = Stream(data)
        self.network = Network(sealed, self.stream.number(2))
        self.random = Random(self.stream.number(2))
        self.acts = self.stream.choice((_ADDS, _ADDS + _HAPPENS, _ADDS + _HAPPENS + _KEEPS_AWAY))

    def act(self) -> None:
        """One decision, and what follows from it at once."""
        acts = self.acts if self.stream.number() % 4 else (Attacker.let_time_pass,)
        self.stream.choice(acts)(self)
        self.network.collect()

    # What it has, and whom it reaches

    def _robot(self) -> Robot:
        return self.stream.choice(self.network.robots)

    def _heard(self) -> bytes:
        """A datagram that was heard, rather a new one."""
        heard = self.network.heard
        if not heard:
            return b''
        if (back := self.stream.number()) & 1:
            back = self.stream.number(2)
        return heard[-1 - back // 2 % len(heard)][0]

    def _heard_of(self, kind: int) -> bytes:
        """A datagram of a type, the newest or an older one; empty where none was heard."""
        kept = self.network.kept[kind]
        return kept[-1 - self.stream.number() % len(kept)] if kept else b''

    def _address(self) -> tuple:
        """Whose address is written on what goes to the bridge."""
        number = self.stream.number()
        return self.network.robots[number // 2 % 2].address if number & 1 else OTHER_ADDRESSES[number // 2 % len(OTHER_ADDRESSES)]

    def _to_anybody(self, data: bytes) -> Callable[[], None]:
        """Say it to the bridge from some address, or to a robot."""
        network = self.network
        if (number := self.stream.number()) % 3 == 0:
            return lambda robot=network.robots[number // 3 % 2]: network.to_robot(data, robot)
        address = self._address()
        return lambda: network.to_bridge(data, address)

    def _say(self, data: bytes) -> None:
        say = self._to_anybody(data)
        for _ in range((1, 1, 1, 2, 3, _MOST_AT_ONCE)[self.stream.number() % 6]):
            say()

    # What it adds

    def replay(self) -> None:
        """What was heard, said again, to whomever: it may be another session's, or go back to who said it."""
        self._say(self._heard())

    def replay_kind(self) -> None:
        """The same with a datagram of a type."""
        self._say(self._heard_of(self.stream.choice(tuple(datagram.TYPES))))

    def replay_run(self) -> None:
        """Datagrams of one size, at once."""
        first, address = self._heard(), self._address()
        run = [data for data, up in self.network.heard if len(data) == len(first)][-1 - self.stream.number() % 40:]
        if first:
            self.network.taken[address] += len(run) * len(first)
            whole = np.frombuffer(bytearray(b''.join(run)), np.uint8).reshape(len(run), len(first))
            self.network.bridge.receive_run(whole, address, self.network.now + CLOCKS_DIFFER_S)

    def _again(self, interval: float, do: Callable[[], None], times: int = 0) -> None:
        """Do something every `interval` seconds from now on, `times` or until it is stopped."""
        network, left = self.network, [times or -1]

        def again() -> None:
            if again in network.each_moment and left[0]:
                left[0] -= 1
                do()
                network.after(interval, again)
        network.each_moment[:] = [*network.each_moment[1 - _TOGETHER:], again]
        network.after(min(interval, 0.05), again)

    def replay_for_long(self) -> None:
        """One or a few datagrams again and again."""
        kind = self.stream.number() % 12
        said = [self._to_anybody(self._heard_of(kind) if kind in datagram.TYPES else self._heard())
                for _ in range(1 + self.stream.number() % 3)]
        self._again(self.stream.choice(_INTERVALS_S), lambda: [say() for say in said] and None)

    def relay(self) -> None:
        """The newest that a robot says, from another address, before it arrives: whoever is nearer to the bridge."""
        network, address = self.network, self.stream.choice(OTHER_ADDRESSES)

        def relay() -> None:
            newest = next((data for data, up in reversed(network.heard) if up), None)
            if newest is not None:
                network.to_bridge(newest, address)
        self._again(self.stream.choice((0.002, 0.05)), relay, 1 + self.stream.number() % 100)

    def mislead(self) -> None:
        """Say what a robot says when it connects from other addresses, and what these are answered to the robot."""
        network, robot, number = self.network, self._robot(), self.stream.number()

        def mislead() -> None:
            for hello in [*network.kept[datagram.HELLO]][-3:]:
                network.to_bridge(hello, OTHER_ADDRESSES[self.random.randrange(2)])
            for reply in [*network.kept[datagram.CHALLENGE]][-4:] + [*network.kept[datagram.WELCOME]][-number % 3:]:
                network.to_robot(reply, robot)
        self._again(0.02, mislead, 200)

    def stop_replaying(self) -> None:
        """No more of it."""
        self.network.each_moment.clear()

    def change(self) -> None:
        """Some bits are others."""
        data = bytearray(self._heard())
        for _ in range(1 + self.stream.number() % 3 if data else 0):
            data[self.stream.number(2) % len(data)] ^= 1 + self.stream.number() % 255
        self._say(bytes(data))

    def splice(self) -> None:
        """The beginning of one datagram, the end of another."""
        first, second = self._heard(), self._heard()
        at = self.stream.choice((_SESSION_AT, _SEQUENCE_AT, datagram.HEADER.size, datagram.HEADER.size + datagram.SEAL_BYTES,
                                 self.stream.number()))
        self._say(first[:at] + second[at:])

    def to_another_session(self) -> None:
        """A datagram with the session or the sequence number of another. Unsealed, its checksum stays wrong."""
        data, other = bytearray(self._heard()), self._heard()
        if len(data) >= datagram.HEADER.size <= len(other):
            if self.stream.number() & 1:
                data[_SESSION_AT:_SEQUENCE_AT] = other[_SESSION_AT:_SEQUENCE_AT]
            else:
                data[_SEQUENCE_AT:_SEQUENCE_AT + 4] = (int.from_bytes(data[_SEQUENCE_AT:_SEQUENCE_AT + 4], 'big')
                                                       + 1 + self.stream.number(2) & 0xFFFFFFFF).to_bytes(4, 'big')
        self._say(bytes(data))

    def forge(self) -> None:
        """A datagram without a seal, right but for what is in it. Unsealed, strangers do not know the sessions."""
        known = [robot.edge.session_id or 0 for robot in self.network.robots] if self.network.sealed else []
        session = self.stream.choice((0, 5, *known))
        data = datagram.build(self.stream.number() % 16, session, self.stream.number(2), self.stream.take(self.stream.number() % 64))
        if self.network.sealed and self.stream.number() & 1:
            data = data[:2] + bytes([datagram.SEALED_VERSION]) + data[3:]
        self._say(data)

    def reset(self) -> None:
        """The bridge is said not to know the session."""
        if self.network.sealed:
            robot = self._robot()
            self.network.to_robot(datagram.build(datagram.RESET, robot.edge.session_id or 0, 0), robot)

    def invent(self) -> None:
        """Any bytes."""
        self._say(self.stream.take(self.stream.number() % 100))

    # Robots of its own

    def join(self) -> None:
        """A robot with a key of its own, or one of which another robot's key is known."""
        network, address = self.network, self.stream.choice(OTHER_ADDRESSES)
        robot = self._robot()
        name = robot.name if network.sealed and self.stream.number() & 1 else STRANGER
        key = (network.keys[STRANGER] if self.stream.number() & 1 else network.robots[1 - robot.number].key) if network.sealed else None
        if name == STRANGER:
            key = network.keys.get(STRANGER)
        network.others[address] = edge = EdgeConnection(PARAMETERS, name, EdgeConfig(), key=key, random=Random(self.random.random()))
        edge.connect(network.now)

    def leave(self) -> None:
        """One of these goes."""
        if self.network.others:
            edge = self.network.others.pop(next(iter(self.network.others)))
            if self.stream.number() & 1:
                edge.close(self.network.now)

    def speak_in_another_session(self) -> None:
        """What one of these says, with the session of a robot."""
        robot = self._robot()
        for address, edge in self.network.others.items():
            for data in edge.datagrams_to_send(self.network.now)[:4]:
                self.network.to_bridge(data[:_SESSION_AT] + (robot.edge.session_id or 0).to_bytes(8, 'big') + data[_SEQUENCE_AT:], address)

    # What it keeps away

    def lose(self) -> None:
        """From now on a robot's datagrams are lost, or are not, one way."""
        robot, number = self._robot(), self.stream.number()
        if number & 1:
            robot.up, robot.up_loss = ('lossy', 'clean')[number // 2 % 2], (0.1, 0.3, 0.6, 1.0)[number // 4 % 4]
        else:
            robot.down, robot.down_loss = ('lossy', 'clean')[number // 2 % 2], (0.1, 0.3, 0.6, 1.0)[number // 4 % 4]

    def hold(self) -> None:
        """From now on a robot's datagrams are held back, or no longer, one way."""
        robot, number = self._robot(), self.stream.number()
        policy = ('held', 'clean')[number // 2 % 2]
        if number & 1:
            robot.up = policy
        else:
            robot.down = policy

    def release_slowly(self) -> None:
        """What was held back arrives now and then, one by one, so that it seems to be alive."""
        network, elsewhere = self.network, self._address() if self.stream.number() % 3 == 0 else None

        def release() -> None:
            if network.held:
                data, up, robot = network.held.popleft()
                if up:
                    network.to_bridge(data, elsewhere or robot.address)
                else:
                    network.to_robot(data, robot)
        self._again(self.stream.choice((0.1, 0.5, 1.9)), release)

    def release(self) -> None:
        """What was held back arrives late, in order or not, as if from any address."""
        network, number = self.network, self.stream.number()
        held = [network.held.popleft() for _ in range(min(len(network.held), 1 + number // 2 % 64))]
        if number & 1:
            held.reverse()
        elsewhere = self._address() if self.stream.number() % 3 == 0 else None
        for data, up, robot in held:
            if up:
                network.to_bridge(data, elsewhere or robot.address)
            else:
                network.to_robot(data, robot)

    # What happens to robots and bridge

    def move(self) -> None:
        """A robot gets another address."""
        robot, address = self._robot(), self.stream.choice(ROBOT_ADDRESSES)
        if address not in {other.address for other in self.network.robots}:
            robot.address = address
            self.network.disturb(robot)

    def restart(self) -> None:
        """A robot is started anew, with or without a goodbye, perhaps elsewhere."""
        network, robot, number = self.network, self._robot(), self.stream.number()
        if number & 1:
            network.say_goodbye(robot)
        if number & 2:
            self.move()
        network.start(robot)

    def restart_bridge(self) -> None:
        """The bridge ends, with or without a goodbye, and begins anew."""
        if self.stream.number() & 1:
            self.network.bridge.close(self.network.now + CLOCKS_DIFFER_S)
            self.network.collect()
        self.network.start_bridge()

    def change_keys(self) -> None:
        """A robot's key is replaced or taken away at the bridge, or given back; or both get a new one."""
        network, robot, number = self.network, self._robot(), self.stream.number()
        if not network.sealed or robot.key is None:
            return
        fresh = _key(number // 4 % 32 + 16, robot.number)
        keys = {**network.keys, robot.name: (robot.key, fresh, None, fresh)[number % 4]}
        network.disturb(robot)
        network.set_keys({name: key for name, key in keys.items() if key is not None})
        if number % 4 == 3:
            network.collect()
            robot.key = fresh
            network.start(robot)

    def let_time_pass(self) -> None:
        """For a while all goes its way."""
        self.network.run(self.stream.choice(_PAUSES_S))


# What it does, by how hard that is on who judges: it only adds; robots and bridge also change; it also keeps away.
_ADDS = (Attacker.replay, Attacker.replay_kind, Attacker.replay_run, Attacker.replay_for_long, Attacker.relay, Attacker.mislead,
         Attacker.stop_replaying, Attacker.change, Attacker.splice, Attacker.to_another_session, Attacker.forge, Attacker.reset,
         Attacker.invent, Attacker.join, Attacker.leave, Attacker.speak_in_another_session, Attacker.let_time_pass, Attacker.let_time_pass)
_HAPPENS = (Attacker.move, Attacker.restart, Attacker.restart_bridge, Attacker.change_keys)
_KEEPS_AWAY = (Attacker.lose, Attacker.hold, Attacker.release, Attacker.release_slowly, Attacker.let_time_pass, Attacker.restart)


def _run(data: bytes, sealed: bool) -> None:
    attacker = Attacker(data, sealed)
    attacker.network.run(0.3)
    while attacker.stream:
        attacker.act()
    attacker.network.settle()
    if len(data) % 8 == 0:      # counting takes as long as all the rest
        attacker.network.check_memory()


def unsealed_robots(data: bytes) -> None:
    """Two robots and a bridge without keys."""
    _run(data, sealed=False)


def sealed_robots(data: bytes) -> None:
    """Two robots with a key each, and a bridge."""
    _run(data, sealed=True)


TARGETS = {'two-robots': unsealed_robots, 'sealed-two-robots': sealed_robots}
