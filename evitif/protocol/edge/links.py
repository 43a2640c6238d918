"""A robot's end of its links: to one bridge, or to those of a fleet that directories send it to.

Each link is an `EdgeConnection` to one address. A robot begins with its *homes*, the hosts of `bridge_host`: each is a bridge, which gives
it a session, or a directory, which redirects it. A home that says nothing is soon joined by the next one; the first that answers counts.

Frames go to the links *in use*, one or `redundant`. Such a link is replaced, make before break, when its bridge says MOVED, or falls silent
while another bridge is known: that one is tried while the first link goes on. Once it has given a session, new frames go there, and the
first link stays until its frames have ended. A frame goes to a link once, so each image is answered once; of two links in use the first
answer counts.

What may send a robot elsewhere is bounded: only who has been asked redirects, MOST_HOPS times in a row; only the session's bridge says
MOVED, as often as MOVES allows; and `address_of` refuses what the robot may not reach. Unsealed, anybody can say REDIRECT, so it leads only
to another port of the same host.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import numpy as np

from evitif.protocol.edge.connection import EdgeConnection
from evitif.protocol.edge.first_answers import FirstAnswers
from evitif.protocol.edge.links_view import HOME, RETIRED, TRIAL, USED, Link, LinksView
from evitif.protocol.edge.silence import PROBE_S
from evitif.protocol.events import Connected, EdgeEvent, FrameEvent, LinkLost, MovedOn, Redirected, Refused
from evitif.protocol.frames.coded_frame import CodedFrame
from evitif.protocol.frames.packetiser import TokenFrame
from evitif.protocol.rate.statistics import LinkStatistics, sum_of
from evitif.protocol.rate.token_bucket import TokenBucket
from evitif.protocol.wire.datagram import Address, Buffer
from evitif.protocol.wire.route import Route, address_of
from evitif.vocabulary import LinkState

MOST_HOMES = 8
MOST_HOPS = 3                # redirects in a row
HOME_S = 0.3                 # of silence of a home, before the next one is asked too
TRIAL_S = 1.0                # that a bridge has to give a session, which a directory or another bridge named
SECOND_S = 0.15              # of its silence, before the second one is tried too
AGAIN_S, MORE_S = 0.5, 5.0   # after no bridge gave a session, until the homes are asked anew: none is in use, or too few
RETIRED_S = 1.0              # that a replaced link stays at most, for the answers of its frames
MOVES = 0.5, 4.0             # replacements, a second and in a burst


class EdgeLinks(LinksView):
    """The links of one robot, without socket and clock. It is used as an `EdgeConnection`, but what comes and goes has addresses.

    :param connection: makes a link's connection, with the ticket that its bridge asks for; raises ValueError where no HELLO fits
    :param homes: hosts of `bridge_host`, at most MOST_HOMES; `remote_at` says where they are
    :param redundant: bridges that each frame goes to
    """

    def __init__(self, connection: Callable[[bytes], EdgeConnection], homes: int = 1, redundant: int = 1):
        self._new, self._wanted = connection, redundant
        self._homes: list[Address | None] = [None] * homes
        self._first: EdgeConnection = connection(b'')
        self.parameters, self.sealed, self.longest_name = self._first.parameters, self._first.sealed, self._first.longest_name
        self._links: list[Link] = []
        self._events: deque[EdgeEvent] = deque()
        self._answers = FirstAnswers(self._events.append)
        self._past = LinkStatistics()            # of links that are gone
        self._goodbyes: deque[tuple[bytes | np.ndarray, Address]] = deque()
        self._moves = TokenBucket(*MOVES)
        self._refused = ''
        self._open = False
        self._unread = 0
        self._sending: Link | None = None
        # A search for a bridge: homes that are asked one after the other, then what one of them named.
        self._turn, self._asked = 0, homes       # the home that is asked first; how many are asked by now
        self._ask_at = self._second_at = self._again_at = math.inf
        self._second: tuple[Route, int, Address] | None = None
        self._leaves: Link | None = None         # the link that is to be replaced
        self._moved = False                      # because its bridge said so, whether or not it is heard

    # What the owner takes

    def next_event(self) -> EdgeEvent | None:
        """The next event, or None."""
        return self._events.popleft() if self._events else None

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """What to send now, and where to, in order."""
        found = []
        while (sent := self.run_to_send(now)) is not None:
            run, address = sent
            found += [(data, address) for data in ([run] if isinstance(run, bytes) else [row.tobytes() for row in run])]
        return found

    def run_to_send(self, now: float) -> tuple[bytes | np.ndarray, Address] | None:
        """The next datagram or run, uint8 [n, size], and where to; None: no more."""
        if self._goodbyes:
            return self._goodbyes.popleft()
        for link in self._links:
            while (run := link.connection.run_to_send(now)) is not None:
                if link.address is not None:
                    self._sending = link
                    return run, link.address
        return None

    # What the owner does

    def remote_at(self, home: int, address: Address) -> None:
        """A home is at this address now."""
        self._homes[home] = address
        for link in self._links:
            if link.home == home:
                link.address = address

    def connect(self, now: float) -> None:
        """Begin to ask, if that was not begun before."""
        if not self._open:
            self._open = True
            self._links.clear()
            self._ask_homes(now)
            self.handle_timer(now)

    def close(self, now: float) -> None:
        """Say goodbye to all."""
        self._open = False
        self._ask_at = self._second_at = self._again_at = math.inf
        for link in self._links:
            link.connection.close(now)
            self._collect(link, now)

    def send_frame(self, frame: TokenFrame | CodedFrame, now: float, session_id: int = 0) -> bool:
        """Send a frame over the links in use; one that refers to others of a session goes where that is, also if it is being left.

        :return: whether it was sent: False if there is no link, or the session that it refers to is over
        """
        over = self._of(USED)
        if session_id and isinstance(frame, CodedFrame) and frame.tokens.reference is not None:
            over = [link for link in over + self._of(RETIRED) if link.is_up and link.connection.session_id == session_id]
        sent = [link for link in over if link.connection.send_frame(frame, now)]
        self._answers.expect(frame.frame_id, [id(link) for link in sent])
        return bool(sent)

    # Time

    def get_timer(self) -> float | None:
        """When to call `handle_timer` next; None: never."""
        times = [self._ask_at, self._second_at, self._again_at]
        for link in self._links:
            timer = link.connection.get_timer()
            times += [math.inf if timer is None else timer, link.until, self._probe_at(link)]
        due = min(times)
        return None if due == math.inf else due

    def handle_timer(self, now: float) -> None:
        """Do what has become due."""
        for link in [*self._links]:
            timer = link.connection.get_timer()
            if timer is not None and timer <= now:
                link.connection.handle_timer(now)
                self._collect(link, now)
        for link in [*self._links]:
            if now >= link.until or link.role == RETIRED and not link.connection.waiting:
                self._drop(link, now)
            elif now >= self._probe_at(link):
                self._probe(link, now)
        if now >= self._second_at and self._second is not None:
            route, hops, teller = self._second
            self._second, self._second_at = None, math.inf
            self._try(route, hops, teller, now)
        if now >= self._ask_at:
            self._ask_next_home(now)
        self._look_again(now)

    @staticmethod
    def _probe_at(link: Link) -> float:
        """When a silent bridge is asked once more; never where no other is known."""
        if link.role != USED or not link.spare or not link.is_up:
            return math.inf
        return max(link.connection.probes_at, link.probed_at + PROBE_S)

    def _probe(self, link: Link, now: float) -> None:
        link.probed_at = now
        if link.connection.suspects(now) and not self._searching and link.address is not None and self._moves.take(now):
            self._leaves, self._moved = link, False
            self._try(link.spare, 0, link.address, now)
        link.connection.probe(now)
        self._collect(link, now)

    # What arrives

    def receive_datagram(self, data: Buffer, addr: Address, now: float, arrived_at: float | None = None) -> None:
        """Take a datagram from `addr`, which `expects` knows."""
        right = [link for link in self._links if link.leads_to(addr)]
        for link in right or [*self._links]:
            if right or link.address is not None and link.address[1] == addr[1]:
                link.connection.receive_datagram(data, now, arrived_at)
                self._collect(link, now)

    def _collect(self, link: Link, now: float) -> None:
        """Take a connection's events."""
        while (event := link.connection.next_event()) is not None:
            if isinstance(event, Connected):
                self._on_connected(link, event, now)
            elif isinstance(event, Redirected):
                self._on_redirected(link, event.route, now)
            elif isinstance(event, MovedOn):
                self._on_moved(link, event, now)
            elif isinstance(event, LinkLost):
                self._on_lost(link, event, now)
            elif isinstance(event, Refused):
                self._on_refused(link, event, now)
            elif isinstance(event, FrameEvent):
                self._answers.take(event, id(link))
            elif link.role == USED:
                self._events.append(event)

    def _on_connected(self, link: Link, event: Connected, now: float) -> None:
        if link.role == RETIRED or not self._open:
            return
        leaves = self._leaves
        if link.role != USED and leaves is not None and not self._moved and leaves.is_up and not leaves.connection.suspects(now):
            self._drop(link, now)            # the silent bridge has spoken again
        else:
            link.role, link.until = USED, math.inf
            if leaves is not None and leaves is not link and leaves in self._links:
                leaves.role, leaves.until = RETIRED, now + RETIRED_S
            self._refused = ''
            self._events.append(event)
        used = [each for each in self._of(USED) if each.is_up]
        for spent in used[self._wanted:]:
            self._drop(spent, now)
        if leaves is link or link is not leaves and len(used) >= self._wanted:
            self._end_search(now)

    def _on_redirected(self, link: Link, route: Route, now: float) -> None:
        teller = link.address
        if link.role not in (HOME, TRIAL) or teller is None:
            return
        if link.hops >= MOST_HOPS:
            self._say_refused(f'it was redirected {MOST_HOPS} times, and once more by {teller[0]}:{teller[1]}; expected a bridge')
            self._drop(link, now)
            return
        for asked in self._of(HOME):
            self._drop(asked, now)
        self._drop(link, now)
        self._ask_at, self._asked = math.inf, len(self._homes)
        self._try(route, link.hops + 1, teller, now)

    def _on_moved(self, link: Link, event: MovedOn, now: float) -> None:
        if not event.now:
            link.spare = event.route
        elif link.role == USED and not self._searching and self._moves.take(now):
            self._leaves, self._moved = link, True
            if event.route and link.address is not None:
                link.spare = event.route
                self._try(event.route, 0, link.address, now)
            else:
                self._ask_homes(now)

    def _on_lost(self, link: Link, event: LinkLost, now: float) -> None:
        if link.role != USED:
            return
        if not self.connected:
            self._events.append(event)
        if not self._searching and self._open:
            self._leaves, self._moved = link, False
            if link.spare and link.address is not None:
                self._try(link.spare, 0, link.address, now)
            self._ask_homes(now + (HOME_S if self._of(TRIAL) else 0.0))

    def _on_refused(self, link: Link, event: Refused, now: float) -> None:
        self._say_refused(event.reason)
        if link.home is None and link.role in (TRIAL, USED):
            self._drop(link, now)
            self._second_at = min(self._second_at, now) if self._second is not None else math.inf

    def _say_refused(self, reason: str) -> None:
        if not self.connected and reason != self._refused:
            self._refused = reason
            self._events.append(Refused(reason))

    # The search

    @property
    def _searching(self) -> bool:
        return not math.isinf(min(self._ask_at, self._second_at)) or any(link.role in (HOME, TRIAL) for link in self._links)

    def _end_search(self, now: float) -> None:
        self._leaves = self._second = None
        self._ask_at = self._second_at = self._again_at = math.inf
        self._asked = len(self._homes)
        for link in self._of(HOME) + self._of(TRIAL):
            self._drop(link, now)

    def _look_again(self, now: float) -> None:
        """Ask the homes anew where a search has found too little."""
        up = sum(link.is_up for link in self._of(USED))
        if not self._open or up >= self._wanted or self._searching:
            self._again_at = math.inf
        elif math.isinf(self._again_at):
            self._turn = (self._turn + 1) % len(self._homes)      # the other directory may know better
            self._again_at = now + (MORE_S if up else AGAIN_S)
        elif now >= self._again_at:
            self._again_at = math.inf
            self._leaves = next((link for link in self._of(USED) if not link.is_up), None)
            self._ask_homes(now)

    def _ask_homes(self, at: float) -> None:
        self._asked, self._ask_at = 0, at

    def _ask_next_home(self, now: float) -> None:
        home = (self._turn + self._asked) % len(self._homes)
        self._asked += 1
        self._ask_at = now + HOME_S if self._asked < len(self._homes) else math.inf
        if not any(link.home == home for link in self._links):
            fresh = self._first if self._first.state == LinkState.DISCONNECTED and not self._links else self._new(b'')
            self._add(Link(fresh, self._homes[home], HOME, now + TRIAL_S if self.connected else math.inf, home), now)

    def _try(self, route: Route, hops: int, teller: Address, now: float) -> None:
        """Say hello to the first bridge of the route that will do, and a little later to the next."""
        up = [link for link in self._of(USED) if link.is_up]
        for at, stop in enumerate(route):
            address = address_of(stop, teller)
            if address is None or not self.sealed and address[0] != teller[0]:
                self._say_refused(f'{teller[0]}:{teller[1]} sends this robot to {stop.host}:{stop.port}, which '
                                  + ('it may not reach from here' if address is None else 'an unsealed link does not follow'))
                continue
            if any(link.leads_to(address) for link in up + self._of(TRIAL)):
                continue
            try:
                connection = self._new(stop.ticket)
            except ValueError as error:
                self._say_refused(str(error))
                continue
            rest = route[at + 1:]
            self._second, self._second_at = ((rest, hops, teller), now + SECOND_S) if rest else (None, math.inf)
            if len(up) + 1 < self._wanted and rest:
                self._second_at = now
            self._add(Link(connection, address, TRIAL, now + TRIAL_S, None, hops, rest), now)
            return

    def _add(self, link: Link, now: float) -> None:
        link.connection.unread, link.connection.on_arrivals = self._unread, self.on_arrivals
        self._links.append(link)
        link.connection.connect(now)
        self._collect(link, now)

    def _drop(self, link: Link, now: float) -> None:
        """Give a link up; it says goodbye to a bridge."""
        if link not in self._links:
            return
        self._links.remove(link)
        link.role = RETIRED
        link.connection.close(now)
        self._collect(link, now)
        while (run := link.connection.run_to_send(now)) is not None:
            if link.address is not None:
                self._goodbyes.append((run, link.address))
        self._past = sum_of(self._past, link.connection.statistics)
