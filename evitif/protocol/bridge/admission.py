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
4. `max_sessions` robots are connected, or the bridge is one of a fleet and the robot has no ticket to it: REFUSE.
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
from evitif.protocol.bridge.fleet_place import FleetPlace
from evitif.protocol.bridge.hello_gate import AMPLIFICATION, REPLY_COPIES, Heard, HelloGate
from evitif.protocol.bridge.paths import Paths
from evitif.protocol.bridge.session import BridgeSession
from evitif.protocol.bridge.sessions import Sessions
from evitif.protocol.events import BridgeEvent
from evitif.protocol.rate.statistics import SequenceTracker
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.sealing.seal import Sealer
from evitif.protocol.sealing.sealed_handshake import SealedHello, welcome
from evitif.protocol.wire import datagram
from evitif.protocol.wire.datagram import Address, Datagram, DatagramError
from evitif.protocol.wire.handshake import Hello, Welcome
from evitif.protocol.wire.link_names import objection_to_name
from evitif.protocol.wire.parameters import StreamParameters
from evitif.vocabulary import Strategy

NO_PING = -1.0               # the time stamp of a PONG that answers no PING
_HELLO_FRESH_S = 0.1         # after a new HELLO of a session, in which its copies may be the robot's own
_ADMISSIONS_REMEMBERED = 1024      # HELLOs that led to a session; a silent bridge does not answer them again


class Admission:
    """Judges HELLOs.

    :param streams: by device, what a robot's parameters have to be
    :param keys: seal the links; None: they are unsealed
    :param transmit: sends a datagram to an address
    :param place: in a fleet; None: the bridge is in none
    """

    def __init__(self, streams: Mapping[str, StreamParameters], name: str, config: BridgeConfig, keys: RobotKeys | None,
                 sessions: Sessions, paths: Paths, events: deque[BridgeEvent], transmit: Callable[[bytes, Address], None],
                 place: FleetPlace | None = None):
        self._streams, self._name, self._config, self._place = streams, name, config, place
        self._by_digest = {known.digest: known for stream in streams.values() for known in (replace(stream, heads=()), stream)}
        self._sessions, self._paths, self._transmit = sessions, paths, transmit
        self._gate = HelloGate(name, keys, config.max_sessions, silent=config.silent_to_strangers,
                               max_datagram_bytes=config.max_datagram_bytes, say=events.append, transmit=transmit)
        self._admitted: BoundedDict[bytes, SequenceTracker] = BoundedDict(_ADMISSIONS_REMEMBERED)      # by digest, of their sessions

    @property
    def sealed(self) -> bool:
        """Whether links are sealed."""
        return self._gate.keys is not None

    @property
    def served(self) -> frozenset[str]:
        """Digests of the parameters that a robot's may be; with heads, of those with none and with all."""
        return frozenset(self._by_digest)

    def set_keys(self, keys: RobotKeys) -> None:
        """Use other keys; robots whose key has changed or gone lose their sessions. Raises ValueError on an unsealed bridge."""
        if self._gate.keys is None:
            raise ValueError('the bridge is unsealed; expected one that was given keys')
        former, self._gate.keys = self._gate.keys, keys
        for session in list(self._sessions.by_id.values()):
            key, before = keys.of(session.robot), former.of(session.robot)
            if key is None or before is None or key.hello != before.hello:
                self._sessions.end(session, 'its key was changed or taken away')

    def on_hello(self, received: Datagram, addr: Address, now: float) -> None:
        """Answer a HELLO. Raises DatagramError where it is not used."""
        heard = self._gate.hear(received, addr, now)
        heard = heard._replace(hello=self._whole(heard.hello))
        self._sessions.expire(now)
        if heard.said is None or heard.key is None:
            self._on_unsealed_hello(received, heard, addr, now)
        else:
            self._on_sealed_hello(received, heard, heard.said, heard.key, addr, now)

    def ask(self, session: BridgeSession, addr: Address, sequence: int, size: int, now: float) -> None:
        """Ask an address for the proof that the robot is there, since a datagram of this number and size came from it, and its own one
        too."""
        for data in self._paths.challenge(session, addr, sequence, size, now):
            self._transmit(data, addr)
        for data in self._paths.doubt(session, sequence, now):
            self._transmit(data, session.address)

    def _on_unsealed_hello(self, received: Datagram, heard: Heard, addr: Address, now: float) -> None:
        hello = heard.hello
        if reasons := self._reasons_against(hello, addr, now):
            self._gate.refuse(heard, reasons, received.size, addr)
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

    def _on_sealed_hello(self, received: Datagram, heard: Heard, said: SealedHello, key: Key, addr: Address, now: float) -> None:
        hello, proved = heard.hello, heard.proved
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
            self._gate.repeat(session.welcome, (AMPLIFICATION if proved else 1) * received.size, addr)
            return
        if self._gate.challenges(heard, received.size, addr, now):
            return
        if reasons := self._reasons_against(hello, addr, now):
            self._gate.refuse(heard, reasons, received.size, addr)
            return
        session_id = self._sessions.new_id()
        reply, sealer = welcome(key, said, session_id, self._name)
        session = self._begin(hello, addr, now, session_id, sealer)
        session.welcome, self._admitted[said.digest] = reply, session.tracker
        self._gate.cookies.note_session(hello.robot, session_id)
        self._gate.repeat(reply, AMPLIFICATION * received.size, addr)

    def _same_instance(self, hello: Hello) -> BridgeSession | None:
        session = self._sessions.by_robot.get(hello.robot)
        return session if session is not None and session.instance == hello.instance else None

    def _whole(self, hello: Hello) -> Hello:
        """The HELLO with its parameters, where it has only the digest of parameters that the bridge knows."""
        known = self._by_digest.get(hello.parameters) if isinstance(hello.parameters, str) else None
        return hello if known is None else replace(hello, parameters=known)

    def _begin(self, hello: Hello, addr: Address, now: float, session_id: int, sealer: Sealer | None = None) -> BridgeSession:
        assert isinstance(hello.parameters, StreamParameters)      # else there were reasons against it
        self._gate.granted(hello.robot, addr)
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
        if self._place is not None and (reason := self._place.objection(hello, session, now)):
            return (reason,)
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


def _shown(address: Address) -> str:
    return f'{address[0]}:{address[1]}' if len(address) >= 2 else str(address)
