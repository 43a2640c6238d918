"""A bridge's place in a fleet: whom it lets in, what it tells the directories, and where it sends its robots.

A robot needs a ticket, which the bridge checks by itself. Every STATUS_S it says to each directory how it is; the directory's PEERS name
other bridges that serve the same. So the bridge can tell each robot by itself which bridge to turn to, with a ticket: for later, if this
one falls silent, or now, if it is drained. Directories may be gone meanwhile.

A directory believes a STATUS only if it echoes the nonce of its last PEERS. Whatever is played back to it is older.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evitif.protocol.bridge.session import BridgeSession
from evitif.protocol.sealing.seal import is_signed, sign, signed_body
from evitif.protocol.sealing.tickets import LIFETIME_S, FleetKey
from evitif.protocol.wire import datagram
from evitif.protocol.wire.datagram import Address, Datagram, DatagramError
from evitif.protocol.wire.fleet_status import Peer, Peers, Status
from evitif.protocol.wire.handshake import Hello
from evitif.protocol.wire.link_names import group_of
from evitif.protocol.wire.route import LATER, MOST_STOPS, NOW, Route, Stop, moved_body
from evitif.rendezvous import ranked

STATUS_S = 0.5
PEERS_LAST_S = 10.0          # without a directory's answer, that its peers are still believed
TOLD_S, AGAIN_S = 10.0, 0.1      # between two MOVEDs for later; between those for now, until the robot has left
FIRST_TOLD_S = 0.3           # after a session began
LOOK_S, AT_ONCE = 0.05, 8    # between two looks at whom to tell; robots that begin to move at a time


@dataclass
class _Directory:
    nonce: str = ''
    answered_at: float = -math.inf
    peers: tuple[Peer, ...] = ()
    drain: bool = False
    sequence: int = 0


class FleetPlace:
    """:param number: of this bridge in its fleet, 0 to 65,535; the first two bytes of its sessions' ids
    :param life: random, new for each life of the process
    :param clock_ahead_s: of the bridge's own clock, which tickets expire by, ahead of `now`; the same after a restart, as the clock of the
        host is
    :param announce: (host, port) where robots reach the bridge; None: as the directories see it
    """

    def __init__(self, number: int, key: FleetKey, life: int, *, clock_ahead_s: float = 0.0, version: str = '',
                 announce: tuple[str, int] | None = None):
        if not 0 <= number <= 65535:
            raise ValueError(f'the bridge number is {number}; expected 0 to 65535')
        self.number, self.version, self.announce = number, version, announce
        self._key, self._life, self._ahead = key, life, clock_ahead_s
        self._directories: dict[Address, _Directory] = {}
        self._report_at = -math.inf
        self.moves_at = -math.inf            # when to look again which robots are to be told
        self.load = self.wait_ms = 0.0       # for the owner to set
        self.told_to_drain = False           # by the owner, or since a directory said so

    def set_directories(self, addresses: Sequence[Address]) -> None:
        """Report to these from now on."""
        self._directories = {address: self._directories.get(address) or _Directory() for address in addresses}

    @property
    def draining(self) -> bool:
        """Whether the robots are sent elsewhere."""
        return self.told_to_drain or any(directory.drain for directory in self._directories.values())

    def heard_by(self, now: float) -> int:
        """How many directories have answered of late."""
        return sum(now < directory.answered_at + PEERS_LAST_S for directory in self._directories.values())

    # Who gets in

    def objection(self, hello: Hello, session: BridgeSession | None, now: float) -> str:
        """Why a robot gets no session; '' if it does. Who has one here already needs no new ticket."""
        if session is not None:
            return ''
        if self.draining:
            return 'bridge: it is being drained; expected a robot to ask a directory'
        return self._key.objection(hello.ticket, self.number, hello.robot, now + self._ahead)

    # Where robots go

    def route(self, robot: str, device: str, now: float) -> Route:
        """The bridges that this robot is to turn to; the devices of one robot to the same."""
        peers = {peer.number: peer for directory in self._directories.values() if now < directory.answered_at + PEERS_LAST_S
                 for peer in directory.peers if peer.number != self.number}
        best = ranked(group_of(robot, device), {number: peer.weight for number, peer in peers.items()})
        clock = now + self._ahead
        return tuple(Stop(peers[number].host, peers[number].port,
                          self._key.ticket(number, robot, clock + peers[number].ahead + LIFETIME_S)) for number in best[:MOST_STOPS])

    def moves(self, sessions: Iterable[BridgeSession], now: float) -> list[tuple[BridgeSession, bytes]]:
        """The MOVEDs that are due, each with its session."""
        if now < self.moves_at:
            return []
        self.moves_at = now + LOOK_S
        due, begun = [], 0
        for session in sessions:
            if now < session.told_at:
                continue
            drain = self.draining
            if drain and not session.leaving:
                begun += 1
                if begun > AT_ONCE:
                    continue
                session.leaving = True
            route = self.route(session.robot, session.parameters.device, now)
            session.told_at = now + (AGAIN_S if drain else TOLD_S)
            if drain or route:
                due.append((session, session.build(datagram.MOVED, moved_body(NOW if drain else LATER, route))))
        return due

    # What directories are told

    @property
    def due_at(self) -> float:
        """When the next STATUS is due; infinite without directories."""
        return self._report_at if self._directories else math.inf

    def reports(self, name: str, serves: tuple[str, ...], grouped: bool, robots: int, capacity: int, frames: tuple[int, int],
                now: float) -> list[tuple[bytes, Address]]:
        """The STATUSes that are due, and to whom; `grouped`: robots have devices; `frames`: delivered, and not."""
        if now < self._report_at:
            return []
        self._report_at = now + STATUS_S
        host, port = self.announce or ('', 0)
        made = []
        for address, directory in self._directories.items():
            report = Status(self.number, name, self._life, now + self._ahead, serves, self.version, robots, capacity,
                            min(max(self.load, 0.0), 1.0), self.draining, grouped, host, port, directory.nonce, *frames, self.wait_ms)
            directory.sequence += 1
            made.append((sign(self._key.report, datagram.STATUS, self._life, directory.sequence, report.to_bytes()), address))
        return made

    def take_peers(self, received: Datagram, address: Address, now: float) -> None:
        """Take what a directory answered. Raises DatagramError."""
        directory = self._directories.get(address)
        if directory is None or not received.sealed or received.session_id != self._life:
            raise DatagramError('unexpected')
        if not is_signed(self._key.report, received):
            raise DatagramError('corrupt')
        if received.sequence != directory.sequence:      # an earlier one: whoever plays it back says nothing new
            raise DatagramError('duplicate')
        said = Peers.parse(signed_body(received))
        if not said.heard and directory.nonce != said.nonce:
            self._report_at = now            # a directory that does not know this bridge yet, or was restarted
        directory.nonce = said.nonce
        if said.heard:
            directory.answered_at, directory.peers, directory.drain = now, said.peers, said.drain
