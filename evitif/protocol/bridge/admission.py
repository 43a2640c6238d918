"""Who gets a session: the bridge's answer to HELLO.

A session begins with a HELLO whose parameters equal the bridge's. The same robot, instance and life of the bridge give the same
session, however many copies of the HELLO arrive. A HELLO is judged in this order:

1. It is meant for another bridge, the parameters differ, or the name is not the device's: REFUSE with every difference, both values
   named.
2. That robot has a session of that instance: WELCOME to it again. The session stays where it is until the other address has proved
   itself (`paths`).
3. That robot has a session of another instance: it is replaced if the address is the same (the edge was restarted), or if the
   session, sealed, shows no fresh sign of life; else REFUSE naming the other address, since two robots of one name would take turns
   forever.
4. `max_sessions` robots are connected: REFUSE.
5. A session with a random id, and WELCOME.

Replies are repeated, but are never more than three times as many bytes as the HELLO, whose sender may have written somebody else's
address on it (RFC 9000, section 8.1).

On a sealed bridge only whoever has the robot's key is heard; others get REFUSE, naming the key, rationed, or, with
`silent_to_strangers`, nothing. Then:

1. The session that the edge still has lives: PONG in that session, and PATH_CHALLENGE to another address than the session's, if no
   newer HELLO has asked for it.
2. A session of that instance lives: the same WELCOME again.
3. There is no valid cookie, which proves the address and that the HELLO is new: CHALLENGE, and nothing is kept.
4. Rules 1 and 3 to 5 from above.

Until the address is proved, a reply is no longer than what asked for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

from evitif.bounded import BoundedDict
from evitif.protocol.bridge.config import BridgeConfig
from evitif.protocol.bridge.paths import Paths
from evitif.protocol.bridge.rate_limiter import RateLimiter
from evitif.protocol.bridge.session import BridgeSession
from evitif.protocol.bridge.sessions import Sessions
from evitif.protocol.events import BridgeEvent, RobotRefused
from evitif.protocol.rate.statistics import SequenceTracker
from evitif.protocol.rate.token_bucket import TokenBucket
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.sealing.seal import Sealer, sign
from evitif.protocol.sealing.sealed_handshake import Cookies, SealedHello, challenge, welcome
from evitif.protocol.wire import datagram
from evitif.protocol.wire.datagram import Address, Datagram, DatagramError
from evitif.protocol.wire.handshake import Hello, Refuse, Welcome
from evitif.protocol.wire.link_names import objection_to_name
from evitif.protocol.wire.parameters import StreamParameters
from evitif.vocabulary import Strategy

AMPLIFICATION = 3            # bytes sent for a byte received from an address that has proved nothing (RFC 9000, 8.1)
REPLY_COPIES = 3             # to each copy of a HELLO
NO_PING = -1.0               # the time stamp of a PONG that answers no PING
_HELLO_FRESH_S = 0.1         # after a new HELLO of a session, in which its copies may be the robot's own
_ADMISSIONS_REMEMBERED = 1024      # HELLOs that led to a session; a silent bridge does not answer them again
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


class Admission:
    """Judges HELLOs.

    :param streams: by device, what a robot's parameters have to be
    :param keys: seal the links; None: they are unsealed
    :param transmit: sends a datagram to an address
    """

    def __init__(self, streams: Mapping[str, StreamParameters], name: str, config: BridgeConfig, keys: RobotKeys | None,
                 sessions: Sessions, paths: Paths, events: deque[BridgeEvent], transmit: Callable[[bytes, Address], None]):
        self._streams, self._name, self._config, self._keys = streams, name, config, keys
        self._by_digest = {known.digest: known for stream in streams.values() for known in (replace(stream, heads=()), stream)}
        self._sessions, self._paths, self._events, self._transmit = sessions, paths, events, transmit
        self._cookies, self._nobody = Cookies(), Key.random()
        hellos = float(max(_LEAST_HELLOS, _HELLOS_PER_ROBOT * config.max_sessions))
        self._proved_limit = RateLimiter(_HELLOS_PER_ADDRESS, (hellos, hellos))
        self._unsealed_limit = RateLimiter(_HELLOS_PER_ADDRESS, (hellos, hellos) if keys is None else _UNSEALED_HELLOS)
        self._sealed_hellos = TokenBucket(hellos, hellos)
        self._key_refusals, self._key_events = RateLimiter(*_KEY_REFUSALS), RateLimiter(*_KEY_EVENTS)
        self._refusals: BoundedDict[tuple[str, Address], str] = BoundedDict(_REFUSALS_REMEMBERED)
        self._admitted: BoundedDict[bytes, SequenceTracker] = BoundedDict(_ADMISSIONS_REMEMBERED)      # by digest, of their sessions

    @property
    def sealed(self) -> bool:
        """Whether links are sealed."""
        return self._keys is not None

    def set_keys(self, keys: RobotKeys) -> None:
        """Use other keys; robots whose key has changed or gone lose their sessions. Raises ValueError on an unsealed bridge."""
        if self._keys is None:
            raise ValueError('the bridge is unsealed; expected one that was given keys')
        former, self._keys = self._keys, keys
        for session in list(self._sessions.by_id.values()):
            key, before = keys.of(session.robot), former.of(session.robot)
            if key is None or before is None or key.hello != before.hello:
                self._sessions.end(session, 'its key was changed or taken away')

    def on_hello(self, received: Datagram, addr: Address, now: float) -> None:
        """Answer a HELLO. Raises DatagramError where it is not used."""
        if received.sealed and self._keys is not None:
            self._on_sealed_hello(received, self._keys, addr, now)
        elif not self._unsealed_limit.allows(addr, now):
            raise DatagramError('rationed')
        elif received.sealed or self.sealed:
            self._on_hello_of_another_kind(received, addr, now)
        else:
            self._on_unsealed_hello(received, addr, now)

    def ask(self, session: BridgeSession, addr: Address, sequence: int, size: int, now: float) -> None:
        """Ask an address for the proof that the robot is there, since a datagram of this number and size came from it, and its own one
        too."""
        for data in self._paths.challenge(session, addr, sequence, size, now):
            self._transmit(data, addr)
        for data in self._paths.doubt(session, sequence, now):
            self._transmit(data, session.address)

    def _on_unsealed_hello(self, received: Datagram, addr: Address, now: float) -> None:
        hello = self._whole(Hello.parse(received.body))
        self._sessions.expire(now)
        if reasons := self._reasons_against(hello, addr, now):
            self._refuse(hello, reasons, received.size, addr)
            return
        session = self._same_instance(hello)
        if session is None:
            session = self._begin(hello, addr, now, self._sessions.new_id())
        if addr == session.address:
            session.heard_at = now
        reply = Welcome(hello.instance, self._name).to_bytes()
        size = datagram.HEADER.size + len(reply)
        for _ in range(min(REPLY_COPIES, AMPLIFICATION * received.size // size)):
            self._transmit(session.build(datagram.WELCOME, reply), addr)

    def _on_sealed_hello(self, received: Datagram, keys: RobotKeys, addr: Address, now: float) -> None:
        proved = self._cookies.proves_address(received, addr, now)
        if not proved and not self._sealed_hellos.take(now):
            raise DatagramError('rationed')
        said = SealedHello.parse(received)
        hello = self._whole(said.hello)
        key = keys.of(hello.robot)
        if not said.is_from(key or self._nobody) or key is None:      # as long with a key as without
            reason = f'key: the bridge has {"no" if key is None else "another"} key for robot {hello.robot}'
            told = f'key: the bridge has no key for robot {hello.robot}, or another one'      # no stranger learns which robots it knows
            self._refuse_for_key(hello, reason, told, received.size, addr, now)
            raise DatagramError('corrupt')
        # Of each HELLO, so that one of a robot's former life, said again and again, takes nothing from its next.
        if proved and not self._proved_limit.allows((*addr, said.digest), now):
            raise DatagramError('rationed')
        self._sessions.expire(now)
        kept = self._sessions.by_id.get(said.kept_session)
        if kept is not None and kept.robot == hello.robot:
            # The HELLO may be an old one, or a copy, so the robot does not count as heard, nor as moved; what it sends next will tell.
            newest = received.sequence > kept.hello_sequence
            if newest:
                kept.hello_sequence, kept.hello_at = received.sequence, now
                for pong in kept.pongs(NO_PING, now, now):
                    self._transmit(pong, kept.address)
            if addr != kept.address and now <= kept.hello_at + _HELLO_FRESH_S:      # a copy of it may have come from elsewhere first
                self.ask(kept, addr, kept.tracker.highest + 1, received.size, now)
            if not newest:
                raise DatagramError('duplicate')      # each PONG uses a number up, and the robot would miss it
            return
        if self._config.silent_to_strangers and said.digest in self._admitted and self._admitted[said.digest].received:
            raise DatagramError('duplicate')      # the robot has used the session, so it says another HELLO: this one was played back
        if (session := self._same_instance(hello)) is not None:
            self._repeat(session.welcome, (AMPLIFICATION if proved else 1) * received.size, addr)
            return
        if not self._cookies.is_valid(said, addr, now):
            self._repeat(challenge(key, hello.instance, self._cookies.of(said, addr, now)), received.size, addr)
            return
        if reasons := self._reasons_against(hello, addr, now):
            self._refuse(hello, reasons, received.size, addr, key)
            return
        session_id = self._sessions.new_id()
        reply, sealer = welcome(key, said, session_id, self._name)
        session = self._begin(hello, addr, now, session_id, sealer)
        session.welcome, self._admitted[said.digest] = reply, session.tracker
        self._cookies.note_session(hello.robot, session_id)
        self._repeat(reply, AMPLIFICATION * received.size, addr)

    def _on_hello_of_another_kind(self, received: Datagram, addr: Address, now: float) -> None:
        """A sealed HELLO at an unsealed bridge, or the other way round."""
        if received.sealed:
            hello = SealedHello.parse(received).hello
            reason = 'key: the edge seals the link with its key_file, the bridge is unsealed'
        else:
            hello = Hello.parse(received.body)
            reason = 'key: the edge is unsealed, the bridge seals the link with its key_file'
        self._refuse_for_key(hello, reason, reason, received.size, addr, now)
        raise DatagramError('unexpected')

    def _same_instance(self, hello: Hello) -> BridgeSession | None:
        session = self._sessions.by_robot.get(hello.robot)
        return session if session is not None and session.instance == hello.instance else None

    def _whole(self, hello: Hello) -> Hello:
        """The HELLO with its parameters, where it has only the digest of parameters that the bridge knows."""
        known = self._by_digest.get(hello.parameters) if isinstance(hello.parameters, str) else None
        return hello if known is None else replace(hello, parameters=known)

    def _begin(self, hello: Hello, addr: Address, now: float, session_id: int, sealer: Sealer | None = None) -> BridgeSession:
        assert isinstance(hello.parameters, StreamParameters)      # else there were reasons against it
        self._refusals.pop((hello.robot, addr), None)
        stream = replace(self._streams[hello.parameters.device], heads=hello.parameters.heads)      # of which the edge may read fewer
        return self._sessions.begin(hello, stream, addr, now, session_id, sealer)

    def _reasons_against(self, hello: Hello, addr: Address, now: float) -> tuple[str, ...]:
        """Why the robot cannot have a session; empty where it can have one, or has one."""
        if hello.bridge not in ('', self._name):
            return (f'bridge: the edge wants {hello.bridge}, this is {self._name}',)
        if isinstance(hello.parameters, str):
            return ("parameters: the edge's differ from the bridge's; in what, only a longer HELLO would say, and none gets through",)
        if reasons := self._differences(hello.parameters):
            return tuple(reasons)
        if reason := objection_to_name(hello.robot, hello.parameters.device):
            return (reason,)
        session = self._sessions.by_robot.get(hello.robot)
        if session is None:
            if len(self._sessions.by_id) >= self._config.max_sessions:
                return (f'robots: the bridge serves at most {self._config.max_sessions}, and that many are connected',)
        elif session.instance != hello.instance and session.address != addr and not self._may_be_gone(session, now):
            return (f'robot: the name {hello.robot} is in use by another edge at {_shown(session.address)}',)
        return ()

    def _may_be_gone(self, session: BridgeSession, now: float) -> bool:
        """Whether all that came of late in a sealed session may have been held back: then the robot's key has the last word."""
        return session.sealer is not None and now >= session.proved_at + self._config.session_timeout_s

    def _differences(self, parameters: StreamParameters) -> list[str]:
        known = self._streams.get(parameters.device)
        if known is not None:
            return parameters.differences(known)
        some = next(iter(self._streams.values()))
        if parameters.strategy == some.strategy == Strategy.PARTITION:
            return [f'device: the edge is {parameters.device}, the bridge has {", ".join(self._streams)}']
        return parameters.differences(some)

    def _refuse(self, hello: Hello, reasons: tuple[str, ...], size: int, addr: Address, key: Key | None = None) -> None:
        refuse = Refuse(hello.instance, self._name, reasons)
        limit = min(self._config.max_datagram_bytes, AMPLIFICATION * size) - datagram.HEADER.size
        if key is None:
            reply = datagram.build(datagram.REFUSE, 0, 0, refuse.to_bytes(limit))
        else:
            reply = sign(key.reply, datagram.REFUSE, 0, 0, refuse.to_bytes(limit - datagram.SEAL_BYTES))
        self._repeat(reply, AMPLIFICATION * size, addr)
        self._say_refused(hello.robot, addr, refuse.reason)

    def _refuse_for_key(self, hello: Hello, reason: str, told: str, size: int, addr: Address, now: float) -> None:
        """Unsealed, since the two have no key in common, and rationed, since anybody can cause it; `told`: what the other side is."""
        if not self._config.silent_to_strangers and self._key_refusals.allows(addr, now):
            refuse = Refuse(hello.instance, self._name, (told,))
            self._repeat(datagram.build(datagram.REFUSE, 0, 0, refuse.to_bytes()), size, addr, copies=1)
        if self._refusals.get((hello.robot, addr)) != reason and self._key_events.allows(addr, now):
            self._say_refused(hello.robot, addr, reason)

    def _say_refused(self, robot: str, addr: Address, reason: str) -> None:
        if self._refusals.get((robot, addr)) != reason:
            self._events.append(RobotRefused(robot, addr, reason))
        self._refusals[robot, addr] = reason

    def _repeat(self, reply: bytes, limit: int, addr: Address, copies: int = REPLY_COPIES) -> None:
        """Send `copies` of a reply, or as many as `limit` bytes allow."""
        for _ in range(min(copies, limit // len(reply))):
            self._transmit(reply, addr)


def _shown(address: Address) -> str:
    return f'{address[0]}:{address[1]}' if len(address) >= 2 else str(address)
