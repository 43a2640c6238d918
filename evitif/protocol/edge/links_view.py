"""A robot's links, and what they show together; nothing here changes them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from evitif.protocol.arrivals import OnArrivals
from evitif.protocol.edge.connection import EdgeConnection
from evitif.protocol.edge.frame_sender import UplinkState
from evitif.protocol.rate.statistics import LinkStatistics, sum_of
from evitif.protocol.wire.datagram import Address
from evitif.protocol.wire.route import Route
from evitif.vocabulary import LinkState

HOME, TRIAL, USED, RETIRED = 'home', 'trial', 'used', 'retired'
_ORDER = {USED: 0, HOME: 1, TRIAL: 2, RETIRED: 3}


@dataclass(eq=False)
class Link:
    """One connection, and what it is for."""

    connection: EdgeConnection
    address: Address | None      # None: the home's name does not resolve yet
    role: str
    until: float = math.inf      # when it is given up
    home: int | None = None      # which of the homes it is
    hops: int = 0
    spare: Route = ()            # where to go when its bridge falls silent
    probed_at: float = -math.inf

    def leads_to(self, address: Address) -> bool:
        """Whether that is its host and port; a zone that the kernel adds to the host is not compared."""
        return self.address is not None and self.address[1] == address[1] and _host(self.address) == _host(address)

    @property
    def is_up(self) -> bool:
        """Whether it has a session that is alive."""
        return self.connection.connected


class LinksView:
    """The state of `EdgeLinks`, which is the only one to set what is named here."""

    _links: list[Link]
    _first: EdgeConnection
    _past: LinkStatistics
    _wanted: int
    _sending: Link | None
    _unread: int

    def _of(self, role: str) -> list[Link]:
        return [link for link in self._links if link.role == role]

    @property
    def main(self) -> EdgeConnection:
        """The connection whose state stands for all."""
        links = [*self._links]
        return min(links, key=lambda link: (not link.is_up, _ORDER[link.role])).connection if links else self._first

    @property
    def connected(self) -> bool:
        """Whether frames are sent."""
        return any(link.is_up for link in self._of(USED))

    @property
    def state(self) -> LinkState:
        """The state of the link."""
        return self.main.state

    @property
    def session_id(self) -> int | None:
        """The main session's id; None where there is none."""
        return self.main.session_id

    @property
    def addresses(self) -> list[Address]:
        """Where the links in use lead to."""
        return [link.address for link in self._of(USED) if link.address is not None]

    @property
    def uplink(self) -> UplinkState:
        """Of the main link; any thread may read it without a lock. With several bridges in use no frame refers to an earlier one, which
        may have arrived at one of them only."""
        uplink = self.main.uplink
        return replace(uplink, session_id=0) if self._wanted > 1 else uplink

    @property
    def statistics(self) -> LinkStatistics:
        """Counts since the start over all links, and figures of the main one."""
        main = self.main
        return sum_of(main.statistics, self._past, *(link.connection.statistics for link in self._links if link.connection is not main))

    @property
    def marking(self) -> LinksView:
        """What says by `on` whether datagrams are to be marked for ECN."""
        return self

    @property
    def on(self) -> bool:
        """Whether what was taken last from `run_to_send` is to be marked."""
        return self._sending is not None and self._sending.connection.marking.on

    @property
    def on_arrivals(self) -> OnArrivals | None:
        """Who is told of what arrives in the sessions."""
        return self._first.on_arrivals

    @on_arrivals.setter
    def on_arrivals(self, told: OnArrivals | None) -> None:
        for connection in (self._first, *(link.connection for link in self._links)):
            connection.on_arrivals = told

    @property
    def unread(self) -> int:
        """Bits of the heads that nobody reads."""
        return self._unread

    @unread.setter
    def unread(self, bits: int) -> None:
        self._unread = bits
        for link in self._links:
            link.connection.unread = bits

    def expects(self, addr: Address) -> bool:
        """Whether some link leads to this port: a host of several addresses may answer from another one; seals and sessions tell."""
        return any(link.address is not None and link.address[1] == addr[1] for link in self._links)


def _host(address: Address) -> str:
    return str(address[0]).partition('%')[0]
