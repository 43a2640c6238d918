"""The directory's end: it answers a HELLO with REDIRECT, or REFUSE, and a bridge's STATUS with PEERS. It keeps no session.

A HELLO is judged as a bridge judges it, by the robot's key and a cookie (`hello_gate`); REDIRECT is never longer than the HELLO. A STATUS
counts if it is signed with the fleet's key, echoes the nonce that its sender got at that address, and is the newest; no PEERS is longer
than the STATUS.
"""

from __future__ import annotations

import hmac
import secrets
from collections import deque
from dataclasses import dataclass
from hashlib import sha256

from evitif.bounded import BoundedDict
from evitif.protocol.bridge.hello_gate import HelloGate
from evitif.protocol.directory.table import MOST_BRIDGES, FleetTable
from evitif.protocol.events import RobotRefused
from evitif.protocol.rate.statistics import LinkStatistics, Traffic
from evitif.protocol.sealing.keys import RobotKeys
from evitif.protocol.sealing.seal import is_signed, sign, signed_body
from evitif.protocol.sealing.tickets import FleetKey
from evitif.protocol.wire import datagram
from evitif.protocol.wire.datagram import Address, Buffer, Datagram, DatagramError
from evitif.protocol.wire.fleet_status import NONCE_BYTES, Peers, Status
from evitif.protocol.wire.parameters import check_name
from evitif.protocol.wire.route import redirect_body

NONCE_S = 10.0               # that a nonce holds at least; at most twice that
_ROBOTS = 4096               # for the rate of HELLOs that are read
_OUTGOING = 8192


@dataclass(frozen=True)
class BridgeReported:
    """A bridge has reported for the first time, or in another life."""

    number: int
    name: str
    address: Address
    version: str


@dataclass(frozen=True)
class ReportRefused:
    """A STATUS does not count, for a reason that was not said before."""

    reason: str


@dataclass(frozen=True)
class RobotSent:
    """A robot was sent to bridges, by number, the better one first."""

    robot: str
    address: Address
    bridges: tuple[str, ...]


DirectoryEvent = RobotRefused | BridgeReported | ReportRefused | RobotSent


class DirectoryEndpoint:
    """A directory, without socket and clock; it is driven as a `BridgeEndpoint`.

    :param keys: of the robots; None: links are unsealed, and robots only follow to the same host
    """

    takes_ecn = False

    def __init__(self, name: str, key: FleetKey, *, keys: RobotKeys | None = None, silent_to_strangers: bool = False,
                 max_datagram_bytes: int = 1200):
        self.name = check_name('directory', name)
        self._key, self.table = key, FleetTable(key)
        self._secret = secrets.token_bytes(32)
        self._events: deque[DirectoryEvent] = deque(maxlen=_OUTGOING)
        self._outgoing: deque[tuple[bytes, Address]] = deque(maxlen=_OUTGOING)
        self._gate = HelloGate(name, keys, _ROBOTS, silent=silent_to_strangers, max_datagram_bytes=max_datagram_bytes,
                               say=self._events.append, transmit=self._transmit)
        self._sequences: BoundedDict[int, tuple[int, int]] = BoundedDict(MOST_BRIDGES)      # by bridge: life, newest number
        self._said = ''
        self._traffic = Traffic()
        self._closed = False

    @property
    def statistics(self) -> LinkStatistics:
        """Counts since the start."""
        return self._traffic.snapshot()

    def set_keys(self, keys: RobotKeys) -> None:
        """Use other robots' keys from now on."""
        self._gate.keys = keys

    def next_event(self) -> DirectoryEvent | None:
        """The next event, or None."""
        return self._events.popleft() if self._events else None

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """What to send now, and where to, in order."""
        datagrams = list(self._outgoing)
        self._outgoing.clear()
        return datagrams

    def get_timer(self) -> None:
        """Never: nothing becomes due."""

    def handle_timer(self, now: float) -> None:
        """Nothing becomes due."""

    def close(self, now: float) -> None:
        """Take nothing any more; robots notice nothing."""
        self._closed = True

    def receive_datagram(self, data: Buffer, addr: Address, now: float, arrived_at: float | None = None) -> None:
        """Take a datagram that came from `addr`. Never raises for what is in it."""
        self._traffic.received(len(data))
        try:
            received = datagram.parse(data)
            if self._closed:
                raise DatagramError('unexpected')
            if received.type == datagram.HELLO:
                self._on_hello(received, addr, now)
            elif received.type == datagram.STATUS:
                self._on_report(received, addr, now)
            else:
                raise DatagramError('unexpected')
        except DatagramError as error:
            self._traffic.dropped[error.kind] += 1

    def _on_hello(self, received: Datagram, addr: Address, now: float) -> None:
        heard = self._gate.hear(received, addr, now)
        if self._gate.challenges(heard, received.size, addr, now):
            return
        route, reason = self.table.choose(heard.hello, addr, now)
        if not route:
            self._gate.refuse(heard, (reason,), received.size, addr)
            return
        self._gate.granted(heard.hello.robot, addr)
        body = redirect_body(heard.hello.instance, route)
        reply = datagram.build(datagram.REDIRECT, 0, 0, body) if heard.key is None else sign(heard.key.reply, datagram.REDIRECT, 0, 0, body)
        self._gate.repeat(reply, received.size, addr)
        self._events.append(RobotSent(heard.hello.robot, addr, tuple(f'{stop.host}:{stop.port}' for stop in route)))

    def _on_report(self, received: Datagram, addr: Address, now: float) -> None:
        if not received.sealed:
            raise DatagramError('unexpected')
        if not is_signed(self._key.report, received):
            raise DatagramError('corrupt')
        report = Status.parse(signed_body(received))
        if report.life != received.session_id:
            raise DatagramError('malformed')
        life, newest = self._sequences.get(report.bridge, (0, -1))
        nonces = [self._nonce(report, addr, now, before) for before in (0, 1)]
        heard = any(hmac.compare_digest(nonce, report.nonce) for nonce in nonces)
        if heard:
            if life == report.life and received.sequence <= newest:
                raise DatagramError('duplicate')
            known = self.table.bridges.get(report.bridge)
            if reason := self.table.take_report(report, addr, now):
                self._refuse(reason)
                raise DatagramError('unexpected')
            self._sequences[report.bridge] = report.life, received.sequence
            if known is None or known.report.life != report.life:
                self._events.append(BridgeReported(report.bridge, report.name, addr, report.version))
        peers = Peers(nonces[0], heard)
        if heard:
            peers = Peers(nonces[0], heard, self.table.bridges[report.bridge].drain, self.table.peers_of(report.bridge, now))
        reply = sign(self._key.report, datagram.PEERS, report.life, received.sequence, peers.to_bytes())
        if len(reply) <= received.size:
            self._transmit(reply, addr)

    def _refuse(self, reason: str) -> None:
        if reason != self._said:
            self._said = reason
            self._events.append(ReportRefused(reason))

    def _nonce(self, report: Status, addr: Address, now: float, before: int) -> str:
        about = f'{report.bridge} {report.life} {addr!r} {int(now // NONCE_S) - before}'
        return hmac.digest(self._secret, about.encode(), sha256)[:NONCE_BYTES].hex()

    def _transmit(self, data: bytes, addr: Address) -> None:
        self._traffic.sent(len(data))
        self._outgoing.append((data, addr))
