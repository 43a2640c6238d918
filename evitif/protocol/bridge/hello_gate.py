"""Which HELLOs are heard: on sealed links those of whoever has the robot's key, rationed. Others are told so, or nothing.

Bridges and directories have one. What a HELLO is granted is decided behind it (`admission`, `directory`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from evitif.bounded import BoundedDict
from evitif.protocol.bridge.rate_limiter import RateLimiter
from evitif.protocol.events import RobotRefused
from evitif.protocol.rate.token_bucket import TokenBucket
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.sealing.seal import sign
from evitif.protocol.sealing.sealed_handshake import Cookies, SealedHello, challenge
from evitif.protocol.wire import datagram
from evitif.protocol.wire.datagram import Address, Datagram, DatagramError
from evitif.protocol.wire.handshake import Hello, Refuse

AMPLIFICATION = 3            # bytes sent for a byte received from an address that has proved nothing (RFC 9000, 8.1)
REPLY_COPIES = 3             # to each copy of a HELLO
_REFUSALS_REMEMBERED = 256   # robots at an address, with the reason that was said last
# HELLOs that are read, a second and in a burst: for an address, and for each robot that may be served. Reading one takes ten
# times as long as dropping a stray datagram, so a flood of them would take time from the robots that are served. Sealed, those of
# addresses that have proved nothing have the same limit in all, but none for each: anybody can write a robot's address on them.
_HELLOS_PER_ADDRESS = 100.0, 100.0
_LEAST_HELLOS, _HELLOS_PER_ROBOT = 500, 8
_UNSEALED_HELLOS = 100.0, 100.0      # in all, on a sealed bridge, which refuses them
# What anybody can cause without a key, a second and in a burst: for an address, and in all.
_KEY_REFUSALS = (5.0, 5.0), (100.0, 50.0)      # REFUSEs
_KEY_EVENTS = (0.1, 2.0), (1.0, 16.0)          # RobotRefused


class Heard(NamedTuple):
    """A HELLO that counts."""

    hello: Hello
    said: SealedHello | None     # on sealed links
    key: Key | None              # of the robot; None: the link is unsealed
    proved: bool                 # its cookie proves the address


class HelloGate:
    """:param keys: seal the links; None: they are unsealed
    :param robots: that may be served
    :param say: takes an event
    :param transmit: sends a datagram to an address
    """

    def __init__(self, name: str, keys: RobotKeys | None, robots: int, *, silent: bool, max_datagram_bytes: int,
                 say: Callable[[RobotRefused], None], transmit: Callable[[bytes, Address], None]):
        self.name, self.keys = name, keys
        self.cookies = Cookies()
        self._nobody = Key.random()
        self._silent, self._max_datagram_bytes, self._say, self._transmit = silent, max_datagram_bytes, say, transmit
        hellos = float(max(_LEAST_HELLOS, _HELLOS_PER_ROBOT * robots))
        self._proved_limit = RateLimiter(_HELLOS_PER_ADDRESS, (hellos, hellos))
        self._unsealed_limit = RateLimiter(_HELLOS_PER_ADDRESS, (hellos, hellos) if keys is None else _UNSEALED_HELLOS)
        self._sealed_hellos = TokenBucket(hellos, hellos)
        self._key_refusals, self._key_events = RateLimiter(*_KEY_REFUSALS), RateLimiter(*_KEY_EVENTS)
        self._refusals: BoundedDict[tuple[str, Address], str] = BoundedDict(_REFUSALS_REMEMBERED)

    def hear(self, received: Datagram, addr: Address, now: float) -> Heard:
        """The HELLO, if it counts. Raises DatagramError where it does not."""
        if received.sealed and self.keys is not None:
            return self._hear_sealed(received, self.keys, addr, now)
        if not self._unsealed_limit.allows(addr, now):
            raise DatagramError('rationed')
        if received.sealed or self.keys is not None:
            self._refuse_another_kind(received, addr, now)
            raise DatagramError('unexpected')
        return Heard(Hello.parse(received.body), None, None, proved=False)

    def _hear_sealed(self, received: Datagram, keys: RobotKeys, addr: Address, now: float) -> Heard:
        proved = self.cookies.proves_address(received, addr, now)
        if not proved and not self._sealed_hellos.take(now):
            raise DatagramError('rationed')
        said = SealedHello.parse(received)
        hello = said.hello
        key = keys.of(hello.robot)
        if not said.is_from(key or self._nobody) or key is None:      # as long with a key as without
            reason = f'key: the bridge has {"no" if key is None else "another"} key for robot {hello.robot}'
            told = f'key: the bridge has no key for robot {hello.robot}, or another one'      # no stranger learns which robots it knows
            self._refuse_for_key(hello, reason, told, received.size, addr, now)
            raise DatagramError('corrupt')
        # Of each HELLO, so that one of a robot's former life, said again and again, takes nothing from its next.
        if proved and not self._proved_limit.allows((*addr, said.digest), now):
            raise DatagramError('rationed')
        return Heard(hello, said, key, proved)

    def challenges(self, heard: Heard, size: int, addr: Address, now: float) -> bool:
        """Send a CHALLENGE to a HELLO of so many bytes if it has no valid cookie; False: it has one, or needs none."""
        if heard.said is None or heard.key is None or self.cookies.is_valid(heard.said, addr, now):
            return False
        self.repeat(challenge(heard.key, heard.hello.instance, self.cookies.of(heard.said, addr, now)), size, addr)
        return True

    def refuse(self, heard: Heard, reasons: tuple[str, ...], size: int, addr: Address) -> None:
        """Say that the robot gets nothing, and why; to a HELLO of so many bytes."""
        hello, key = heard.hello, heard.key
        refuse = Refuse(hello.instance, self.name, reasons)
        limit = min(self._max_datagram_bytes, AMPLIFICATION * size) - datagram.HEADER.size
        if key is None:
            reply = datagram.build(datagram.REFUSE, 0, 0, refuse.to_bytes(limit))
        else:
            reply = sign(key.reply, datagram.REFUSE, 0, 0, refuse.to_bytes(limit - datagram.SEAL_BYTES))
        self.repeat(reply, AMPLIFICATION * size, addr)
        self._say_refused(hello.robot, addr, refuse.reason)

    def granted(self, robot: str, addr: Address) -> None:
        """What was said against the robot there no longer holds."""
        self._refusals.pop((robot, addr), None)

    def repeat(self, reply: bytes, limit: int, addr: Address, copies: int = REPLY_COPIES) -> None:
        """Send `copies` of a reply, or as many as `limit` bytes allow."""
        for _ in range(min(copies, limit // len(reply))):
            self._transmit(reply, addr)

    def _refuse_another_kind(self, received: Datagram, addr: Address, now: float) -> None:
        """A sealed HELLO at an unsealed bridge, or the other way round."""
        if received.sealed:
            hello = SealedHello.parse(received).hello
            reason = 'key: the edge seals the link with its key_file, the bridge is unsealed'
        else:
            hello = Hello.parse(received.body)
            reason = 'key: the edge is unsealed, the bridge seals the link with its key_file'
        self._refuse_for_key(hello, reason, reason, received.size, addr, now)

    def _refuse_for_key(self, hello: Hello, reason: str, told: str, size: int, addr: Address, now: float) -> None:
        """Unsealed, since the two have no key in common, and rationed, since anybody can cause it; `told`: what the other side is."""
        if not self._silent and self._key_refusals.allows(addr, now):
            refuse = Refuse(hello.instance, self.name, (told,))
            self.repeat(datagram.build(datagram.REFUSE, 0, 0, refuse.to_bytes()), size, addr, copies=1)
        if self._refusals.get((hello.robot, addr)) != reason and self._key_events.allows(addr, now):
            self._say_refused(hello.robot, addr, reason)

    def _say_refused(self, robot: str, addr: Address, reason: str) -> None:
        if self._refusals.get((robot, addr)) != reason:
            self._say(RobotRefused(robot, addr, reason))
        self._refusals[robot, addr] = reason
