"""The bridge's end of its links: robots come and go, their frames are put together, their answers go out.

A session begins when `admission` lets a robot in. It ends when its robot has been silent for `session_timeout_s`, says BYE, or
begins anew. A robot's address may change (another access point, a NAT's new port): the session follows it once the new address has
proved itself (`paths`).

TOKENS and PING for an unknown session are answered with RESET, no larger than what caused it and rationed (`rate_limiter`); RESET
never answers RESET.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from itertools import compress
from random import Random, SystemRandom
from types import MappingProxyType

import numpy as np

from evitif.protocol.arrivals import Arrivals, OnArrivals
from evitif.protocol.bridge.admission import NO_PING, Admission
from evitif.protocol.bridge.config import BridgeConfig
from evitif.protocol.bridge.paths import Paths
from evitif.protocol.bridge.rate_limiter import RateLimiter
from evitif.protocol.bridge.session import BridgeSession
from evitif.protocol.bridge.sessions import Sessions
from evitif.protocol.events import BridgeEvent, HeadsLeftOut, RobotMoved
from evitif.protocol.rate.statistics import LinkStatistics, Traffic
from evitif.protocol.sealing.keys import RobotKeys
from evitif.protocol.wire import datagram, runs
from evitif.protocol.wire.answer import Answer
from evitif.protocol.wire.coded import parse_coded
from evitif.protocol.wire.datagram import Address, Buffer, Datagram, DatagramError
from evitif.protocol.wire.map_part import MapPart
from evitif.protocol.wire.parameters import StreamParameters, check_name

BYE_COPIES = 5
_OUTGOING = 8192             # datagrams that wait for the owner; the oldest are dropped


class BridgeEndpoint:
    """The bridge's end of all its links, without socket and clock.

    The owner passes in each datagram that arrives, with its sender's address and the time (`now`, seconds, monotonic); sends what
    `datagrams_to_send` returns; calls `handle_timer` at `get_timer`, after passing in what had arrived by then; and takes events
    until there are none.

    :param parameters: what a robot's have to be; for a partition those of each device
    :param name: the bridge's name, which the robots are told
    :param keys: seal the links; None: they are unsealed
    :param random: where session ids come from; the system's randomness by default
    :raises ValueError: the name is unusable, or the bridge is to be silent to strangers and has no keys
    """

    takes_ecn = True

    def __init__(self, parameters: StreamParameters | Sequence[StreamParameters], name: str,
                 config: BridgeConfig | None = None, *, keys: RobotKeys | None = None, random: Random | None = None):
        streams = (parameters,) if isinstance(parameters, StreamParameters) else parameters
        self.name = check_name('bridge', name)
        self.config = config = config or BridgeConfig()
        if config.silent_to_strangers and keys is None:
            raise ValueError('silent_to_strangers is true and there are no keys: without a key everybody is a stranger; expected keys')
        self._events: deque[BridgeEvent] = deque()
        self._sessions = Sessions(config, self._events, random or SystemRandom())
        self._paths = Paths()
        self._admission = Admission({stream.device: stream for stream in streams}, name, config, keys, self._sessions, self._paths,
                                    self._events, self._transmit)
        self._outgoing: deque[tuple[bytes, Address]] = deque(maxlen=_OUTGOING)
        self._traffic = Traffic()
        self._reset_limit = RateLimiter()
        self._closed = False
        self.on_arrivals: OnArrivals | None = None      # is told of what arrives in a session
        self._ecn, self._arrived_at = 0, 0.0            # of what is being received

    # What the owner asks for

    @property
    def sessions(self) -> Mapping[int, BridgeSession]:
        """The connected robots, by session id."""
        return MappingProxyType(self._sessions.by_id)

    @property
    def sealed(self) -> bool:
        """Whether the links are sealed."""
        return self._admission.sealed

    @property
    def statistics(self) -> LinkStatistics:
        """Totals of all robots since the start, and of datagrams of no session; rates, which are a single link's, are NaN."""
        self._traffic.frames = sum((session.frames() for session in self.sessions.values()), Counter(self._sessions.past_frames))
        return self._traffic.snapshot()

    def statistics_of(self, session_id: int) -> LinkStatistics:
        """One robot's link. Raises KeyError where there is no such session (any more)."""
        return self.sessions[session_id].statistics()

    def next_event(self) -> BridgeEvent | None:
        """The next event, or None."""
        return self._events.popleft() if self._events else None

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """What to send now, and where to, in order."""
        datagrams = list(self._outgoing)
        self._outgoing.clear()
        return datagrams

    # What the owner does

    def send_answer(self, session_id: int, answer: Answer, now: float) -> bool:
        """Send an answer to a frame, several times, with as many of its heads and classes as fit into a datagram; an event names the heads
        that do not. False: the session has ended, and nothing is sent.

        Raises ValueError where the answer cannot be written or does not fit into a datagram.
        """
        session = self.sessions.get(session_id)
        if session is None:
            return False
        parameters = session.parameters
        if answer.tokens_expected != parameters.tokens:
            raise ValueError(f'tokens_expected is {answer.tokens_expected}; expected {parameters.tokens}')
        if not all(0 <= class_id < parameters.classes for class_id in answer.class_ids):
            raise ValueError(f'class_ids are {answer.class_ids}; expected 0 to {parameters.classes - 1}')
        copies, left_out = session.queue_answer(answer, self.config.answer_copies, self.config.max_datagram_bytes, now)
        for data in copies:
            self._transmit(data, session.address)
        if left_out:
            self._events.append(HeadsLeftOut(session_id, session.robot, left_out))
        self._sessions.touch(session)
        return True

    def map_room(self, session_id: int) -> int:
        """Bytes of content that a part of a map may have that is sent in this session; 0: it has ended."""
        session = self.sessions.get(session_id)
        return 0 if session is None else session.map_room(self.config.max_datagram_bytes)

    def send_map(self, session_id: int, parts: Sequence[MapPart], now: float) -> bool:
        """Send the parts of a map, as many copies of each as of an answer; the first ones are the most likely to arrive. False: the session
        has ended, and nothing is sent. Raises ValueError where a part does not fit into a datagram."""
        session = self.sessions.get(session_id)
        if session is None or not parts:
            return False
        for data in session.queue_map(parts, self.config.answer_copies, self.config.max_datagram_bytes, now):
            self._transmit(data, session.address)
        self._sessions.touch(session)
        return True

    def set_keys(self, keys: RobotKeys) -> None:
        """Use other keys from now on. A robot whose key has changed or gone loses its session. Raises ValueError on an unsealed
        bridge."""
        self._admission.set_keys(keys)

    def close(self, now: float) -> None:
        """Say goodbye to all robots, and take nothing any more."""
        for session in self.sessions.values():
            for _ in range(BYE_COPIES):
                self._transmit(session.build(datagram.BYE), session.address)
        self._sessions.clear()
        self._closed = True

    # Time

    def get_timer(self) -> float | None:
        """When to call `handle_timer` next, on the caller's clock; None: not before something arrives."""
        return self._sessions.get_timer()

    def handle_timer(self, now: float) -> None:
        """Do what has become due."""
        for session in self._sessions.due(now):
            session.reassembler.handle_timer(now)
            self._sessions.touch(session)
            for data in session.copies_due(now):
                self._transmit(data, session.address)
        self._sessions.expire(now)

    # What arrives

    def receive_datagram(self, data: Buffer, addr: Address, now: float, arrived_at: float | None = None, ecn: int = 0) -> None:
        """Take a datagram that came from `addr`. Never raises for what is in it.

        `arrived_at`, by default `now`, is when it reached this host, never after `now`: a PONG reports it. `ecn` is the ECN field of
        its IP header (RFC 3168).
        """
        session, self._ecn, self._arrived_at = None, ecn, now if arrived_at is None else arrived_at
        self._traffic.received(len(data))
        try:
            received = datagram.parse(data)
            if self._closed:
                raise DatagramError('unexpected')
            if received.type == datagram.HELLO:
                self._admission.on_hello(received, addr, now)
            elif received.type in (datagram.TOKENS, datagram.CODED, datagram.PING, datagram.BYE, datagram.PATH_RESPONSE):
                session = self._sessions.by_id.get(received.session_id)
                if session is None:
                    self._on_unknown_session(received, addr, now)
                    raise DatagramError('unknown_session')
                session.traffic.received(received.size)
                self._on_session_datagram(session, received, addr, now, self._arrived_at)
            else:
                raise DatagramError('unexpected')
        except DatagramError as error:
            self._drop([error.kind], session)

    def receive_run(self, datagrams: np.ndarray, addr: Address, now: float, arrived_at: float | None = None, ecn: int = 0) -> None:
        """Take datagrams of one size that came together, uint8 [n, size], which is written to: `receive_datagram` each."""
        at, self._ecn, self._arrived_at = 0, ecn, now if arrived_at is None else arrived_at
        while at < len(datagrams):
            taken = self._receive_tokens(datagrams[at:], addr, now)
            if not taken:
                self.receive_datagram(datagrams[at].data, addr, now, arrived_at, ecn)
            at += taken or 1

    def _receive_tokens(self, datagrams: np.ndarray, addr: Address, now: float) -> int:
        """Take TOKENS of one session, from the first datagram on; returns how many these were."""
        size = datagrams.shape[1]
        if self._closed or size < datagram.HEADER.size + datagram.SEAL_BYTES:
            return 0
        magic, version, kind, session_id, _, _ = datagram.HEADER.unpack_from(datagrams[0].data)
        session = self._sessions.by_id.get(session_id)
        if magic != datagram.MAGIC or kind != datagram.TOKENS or session is None or version != session.version or addr != session.address:
            return 0
        count = runs.of_one_session(datagrams)
        sequences, bodies, refused = session.open_run(datagrams[:count])
        self._traffic.received(count * size, count)
        # Anybody may have written a datagram whose checksum is wrong: it does not count for the session.
        own = len(sequences) if session.sealer is None else count
        session.traffic.received(own * size, own)
        if sequences:
            self._take_tokens(session, sequences, bodies, size, now)
        if refused:
            self._drop(refused, None if session.sealer is None else session)
        return count

    def _take_tokens(self, session: BridgeSession, sequences: list[int], bodies: list[Buffer] | np.ndarray, size: int,
                     now: float) -> None:
        """Take the bodies of opened TOKENS datagrams, uint8 [n, length] or a list of one; each datagram had `size` bytes."""
        fresh = session.hear(sequences, now)
        session.count_marks(self._ecn, fresh.count(True))
        if self.on_arrivals is not None:
            self.on_arrivals(Arrivals(session.robot, session.session_id, [*compress(sequences, fresh)], size, self._arrived_at))
        if not all(fresh):
            self._drop(['duplicate'] * fresh.count(False), session)
            bodies = bodies[np.array(fresh)] if isinstance(bodies, np.ndarray) else []
        at = 0
        while at < len(bodies):
            try:
                run = runs.parse_tokens(bodies[at:])
            except DatagramError as error:
                self._drop([error.kind], session)
                at += 1
                continue
            if dropped := session.reassembler.receive_run(run, size, now):
                self._drop(dropped, session)
            at += len(run.indices)
        self._sessions.touch(session)

    def _on_session_datagram(self, session: BridgeSession, received: Datagram, addr: Address, now: float, arrived_at: float) -> None:
        if not session.is_at(addr, received.sequence) or received.type == datagram.PATH_RESPONSE and addr != session.address:
            self._prove(session, received, addr, now)
        received = session.open(received)
        if received.type == datagram.TOKENS:
            self._take_tokens(session, [received.sequence], [received.body], received.size, now)
            return
        if not all(session.hear([received.sequence], now)):
            raise DatagramError('duplicate')
        session.count_marks(self._ecn, 1)
        if self.on_arrivals is not None:
            self.on_arrivals(Arrivals.of(session.robot, received, arrived_at))
        if received.type == datagram.CODED:
            if dropped := session.reassembler.receive_coded(parse_coded(received.body), received.size, now):
                self._drop([dropped], session)
            self._sessions.touch(session)
        elif received.type == datagram.PING:
            t1, report, unread = datagram.parse_ping(received.body)
            if received.sequence == session.tracker.highest:
                session.unread = unread
                session.take_report(report, now)
            for pong in session.pongs(t1, arrived_at, now):      # not to where an old one came from: the robot would miss it
                self._transmit(pong, session.address)
        elif received.type == datagram.PATH_RESPONSE and addr == session.address:
            self._paths.confirm(session, received.body)
        elif received.type == datagram.BYE:
            self._sessions.end(session, 'the robot said goodbye')

    def _prove(self, session: BridgeSession, received: Datagram, addr: Address, now: float) -> None:
        """Let a datagram pass that comes from where its robot has not proved to be, if it is the proof, or a goodbye.

        Any other, if it is authentic and newer than all that count, is asked for the proof, and not used until it comes: raises
        DatagramError. So is one that came a moment ago: the first may have been a copy with the robot's former address written on it.
        """
        newest, whole = session.is_ahead(received.sequence), bytes(received.header) + bytes(received.body)
        response, copy = received.type == datagram.PATH_RESPONSE, session.is_copy(received.sequence, now)
        if response or copy:
            said = session.read(received)      # also if a copy of it came first
        else:
            said = session.open(received, take=False) if newest or received.type == datagram.BYE else received
        if response and self._paths.proves(session, addr, said.body, now):
            self._move(session, addr, now)
        elif said.type != datagram.BYE:
            if newest or copy:
                self._admission.ask(session, addr, said.sequence, said.size, now)
                if newest and said.type in (datagram.TOKENS, datagram.CODED):
                    self._paths.hold(session, addr, whole, now)
            raise DatagramError('unproven')

    def _move(self, session: BridgeSession, addr: Address, now: float) -> None:
        """A robot has proved to be at `addr`."""
        session.move_to(addr)
        self._events.append(RobotMoved(session.session_id, session.robot, addr, session.parameters.device))
        for data in self._paths.release(session, addr, now):
            for counts in (self._traffic, session.traffic):
                counts.dropped['unproven'] -= 1
            try:
                self._on_session_datagram(session, datagram.parse(data), addr, now, now)
            except DatagramError as error:
                self._drop([error.kind], session)
        for pong in session.pongs(NO_PING, now, now):       # so that it hears something, even if it sends only HELLOs by now
            self._transmit(pong, addr)

    def _on_unknown_session(self, received: Datagram, addr: Address, now: float) -> None:
        if self.config.silent_to_strangers:
            return
        if received.type in (datagram.TOKENS, datagram.CODED, datagram.PING) and self._reset_limit.allows(addr, now):
            self._transmit(datagram.build(datagram.RESET, received.session_id, 0), addr)

    def _drop(self, kinds: list[str], session: BridgeSession | None) -> None:
        """Count datagrams that are not used, of a session or of none."""
        self._traffic.dropped.update(kinds)
        if session is not None:
            session.traffic.dropped.update(kinds)
            if session.sealer is not None and session.sealer.spent and session.session_id in self._sessions.by_id:
                self._sessions.end(session, 'its keys have refused as many forgeries as they may')

    def _transmit(self, data: bytes, addr: Address) -> None:
        self._traffic.sent(len(data))
        self._outgoing.append((data, addr))
