"""The off-board side: robots come and go, their frames are put together, their answers go out.

A session begins with a HELLO whose parameters equal the bridge's, and ends when its robot has been silent for
`session_timeout_s`, says BYE, or begins anew. The same robot, instance and bridge life give the same session, however
many copies of the HELLO arrive. Rules for a HELLO, in this order:

1. the parameters differ, or the name is not that of the device: REFUSE with every difference, both values named;
2. a session of that robot's name and that instance exists: WELCOME to it again, from whatever address the newest HELLO
   came;
3. one of that name and another instance exists: it is replaced when the address is the same (the edge was restarted),
   else REFUSE naming the other address, since two robots of one name would take turns forever;
4. `max_sessions` robots are connected: REFUSE;
5. a session with a random id, and WELCOME.

Replies to a HELLO are repeated, but are never more than three times as many bytes as it had, since its sender may have
written somebody else's address on it (RFC 9000, section 8.1). TOKENS and PING for a session that is not known are
answered with RESET, no larger than any trigger and rationed (`rate_limiter`); RESET to RESET is impossible.

A robot's address may change (a new access point, a NAT's new port): the session follows the datagram with the highest
sequence number, so that an overtaken one does not lead back (RFC 9000, section 9.3).

Sealed, with keys (`sealed_handshake`, `sealing`), a HELLO is heard only from who has the robot's key, and REFUSE, naming
the key, goes to others, rationed. A HELLO is judged in this order:

1. the session that its edge still has lives: PONG in that session, which says so;
2. a session of that instance lives: the same WELCOME again;
3. it has no cookie that proves its address, and that it is not an old one: CHALLENGE, and nothing is kept;
4. rules 1 and 3 to 5 from above.

A reply is no longer than what asked for it, until the address is proved. Only sealed datagrams of a session move it to
another address.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from random import Random, SystemRandom
from types import MappingProxyType

import numpy as np

from evitif.protocol.bridge.config import BridgeConfig
from evitif.protocol.bridge.rate_limiter import RateLimiter
from evitif.protocol.bridge.session import BridgeSession
from evitif.protocol.events import FrameReady, RobotConnected, RobotLost, RobotRefused
from evitif.protocol.frames.reassembly import Reassembler
from evitif.protocol.rate.statistics import LinkStatistics, SequenceTracker, Traffic, sufficient_copies
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.sealing.seal import Sealer, signed
from evitif.protocol.sealing.sealed_handshake import Cookies, SealedHello, challenge, welcome
from evitif.protocol.wire import datagram, runs
from evitif.protocol.wire.answer import Answer
from evitif.protocol.wire.datagram import Datagram, DatagramError
from evitif.protocol.wire.handshake import Hello, Refuse, Welcome
from evitif.protocol.wire.link_names import objection_to_name
from evitif.protocol.wire.parameters import StreamParameters, check_name
from evitif.vocabulary import Strategy

AMPLIFICATION = 3            # bytes sent for a byte received from an address that has proved nothing (RFC 9000, 8.1)
_OUTGOING = 8192             # datagrams that wait for the owner; the oldest are dropped
_NO_PING = -1.0              # the time stamp of a PONG that answers no PING
_PONG_FAILURE = 0.4          # share of the PINGs that arrive whose PONG may be lost
_REFUSALS_REMEMBERED = 256   # robots at an address, with the reason that was said last
# HELLOs that are read, a second and in a burst: for an address, and for each robot that may be served. To read one takes ten times as
# long as to see that another datagram is of nobody, so that a flood of them would take the time of the robots that are served.
_HELLOS_PER_ADDRESS = 100.0, 100.0
_LEAST_HELLOS, _HELLOS_PER_ROBOT = 500, 8
# Of what anybody can cause without a key, a second and in a burst: for an address, in all.
_KEY_REFUSALS = (5.0, 5.0), (100.0, 50.0)      # REFUSEs
_KEY_EVENTS = (0.1, 2.0), (1.0, 16.0)          # RobotRefused


class BridgeEndpoint:
    """The bridge's end of all its links, without socket and clock.

    The owner passes in what arrives, with the sender's address (any hashable value) and the time (`now`, seconds,
    monotonic), sends what `datagrams_to_send` returns, calls `handle_timer` at `get_timer`, after it has passed in what
    had arrived by then, and takes events until there is none.

    :param parameters: what a robot's have to be; of a partition those of each device, by which they are told apart
    :param name: the bridge's name, told to the robots
    :param keys: seal the links; None: they are unsealed
    :param random: where session ids come from; the system's randomness by default
    """

    def __init__(self, parameters: StreamParameters | Sequence[StreamParameters], name: str,
                 config: BridgeConfig | None = None, *, keys: RobotKeys | None = None, random: Random | None = None):
        streams = (parameters,) if isinstance(parameters, StreamParameters) else parameters
        self._streams = {stream.device: stream for stream in streams}
        self.name = check_name('bridge', name)
        self.config = config = config or BridgeConfig()
        self._random = random or SystemRandom()
        self._sessions: dict[int, BridgeSession] = {}
        self._due: dict[int, float] = {}                # by session, when it wants a timer; may be too early, never too late
        self._touched: set[int] = set()                 # sessions whose time may be another by now
        self._robots: dict[str, BridgeSession] = {}
        self._outgoing: deque[tuple[bytes, object]] = deque(maxlen=_OUTGOING)
        self._events: deque = deque()
        self._traffic = Traffic()
        self._past_frames: Counter[str] = Counter()      # of sessions that have ended
        self._reset_limit = RateLimiter()
        hellos = float(max(_LEAST_HELLOS, _HELLOS_PER_ROBOT * config.max_sessions))
        self._hello_limit = RateLimiter(_HELLOS_PER_ADDRESS, (hellos, hellos))
        self._refusals: OrderedDict[tuple[str, object], str] = OrderedDict()
        self._keys = keys
        self._cookies = Cookies()
        self._key_refusals, self._key_events = RateLimiter(*_KEY_REFUSALS), RateLimiter(*_KEY_EVENTS)
        self._closed = False

    # What the owner asks for

    @property
    def sessions(self) -> Mapping[int, BridgeSession]:
        """The connected robots, by session id."""
        return MappingProxyType(self._sessions)

    @property
    def sealed(self) -> bool:
        return self._keys is not None

    @property
    def statistics(self) -> LinkStatistics:
        """Of all robots since the start, and of the datagrams of no session; rates are of single links, so unknown."""
        present = (session.frames() for session in self._sessions.values())
        self._traffic.frames = sum(present, Counter(self._past_frames))
        return self._traffic.snapshot()

    def statistics_of(self, session_id: int) -> LinkStatistics:
        """Of one robot's link. Raises KeyError where there is no such session (any more)."""
        return self._sessions[session_id].statistics()

    def next_event(self):
        """The next event, or None."""
        return self._events.popleft() if self._events else None

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, object]]:
        """What is to be sent now and where to, in order."""
        datagrams = list(self._outgoing)
        self._outgoing.clear()
        return datagrams

    # What the owner does

    def send_answer(self, session_id: int, answer: Answer, now: float) -> bool:
        """Send an answer to a frame, several times, with as many of its classes as fit into a datagram. False: the session has ended,
        and nothing is sent.

        Raises ValueError where the answer cannot be written or does not fit into a datagram.
        """
        session = self._sessions.get(session_id)
        if session is None:
            return False
        parameters = session.parameters
        if answer.tokens_expected != parameters.tokens:
            raise ValueError(f'tokens_expected is {answer.tokens_expected}; expected {parameters.tokens}')
        if not all(0 <= class_id < parameters.classes for class_id in answer.class_ids):
            raise ValueError(f'class_ids are {answer.class_ids}; expected 0 to {parameters.classes - 1}')
        self._touched.add(session_id)
        for data in session.queue_answer(answer, self.config.answer_copies, self.config.max_datagram_bytes, now):
            self._transmit(data, session.address)
        return True

    def set_keys(self, keys: RobotKeys) -> None:
        """Have other keys from now on. A robot whose key is another one now, or was taken away, loses its session. Raises ValueError on
        an unsealed bridge."""
        if not self.sealed:
            raise ValueError('the bridge is unsealed; expected one that was given keys')
        former, self._keys = self._keys, keys
        for session in list(self._sessions.values()):
            key = keys.of(session.robot)
            if key is None or key.hello != former.of(session.robot).hello:
                self._lose(session, 'its key was changed or taken away')

    def close(self, now: float) -> None:
        """Say goodbye to all robots, and take nothing any more."""
        for session in self._sessions.values():
            for _ in range(self.config.bye_copies):
                self._transmit(session.build(datagram.BYE), session.address)
        self._sessions.clear()
        self._due.clear()
        self._robots.clear()
        self._closed = True

    # Time

    def get_timer(self) -> float | None:
        """When `handle_timer` wants to be called next, on the caller's clock; None: not before something arrives."""
        return min(self._times().values(), default=None)

    def _times(self) -> dict[int, float]:
        """`_due`, with what was touched looked at anew."""
        for session_id in self._touched:
            session = self._sessions.get(session_id)
            if session is not None:
                self._due[session_id] = min(session.get_timer(), session.heard_at + self.config.session_timeout_s)
        self._touched.clear()
        return self._due

    def handle_timer(self, now: float) -> None:
        """Do what has become due."""
        for session_id in [session_id for session_id, due in self._times().items() if due <= now]:
            session = self._sessions[session_id]
            session.reassembler.handle_timer(now)
            self._collect_frames(session)
            for data in session.copies_due(now):
                self._transmit(data, session.address)
        self._expire(now)

    def _expire(self, now: float) -> None:
        for session in list(self._sessions.values()):
            if now >= session.heard_at + self.config.session_timeout_s:
                self._lose(session, f'silent for {now - session.heard_at:.1f} s')

    def _lose(self, session: BridgeSession, reason: str) -> None:
        del self._sessions[session.session_id]
        del self._robots[session.robot]
        self._due.pop(session.session_id, None)
        self._past_frames += session.frames()
        self._events.append(RobotLost(session.session_id, session.robot, reason, session.parameters.device))

    def _collect_frames(self, session: BridgeSession) -> None:
        self._touched.add(session.session_id)
        while (frame := session.reassembler.next_frame()) is not None:
            self._events.append(FrameReady(frame))

    # What arrives

    def receive_datagram(self, data, addr, now: float, arrived_at: float | None = None) -> None:
        """Take a datagram that came from `addr` (bytes-like). Never raises for what is in it.

        `arrived_at`, by default `now`, is when it came to this host, never after `now`: what a PONG says of a PING.
        """
        session = None
        self._traffic.received(len(data))
        try:
            received = datagram.parse(data)
            if self._closed:
                raise DatagramError('unexpected')
            if received.type == datagram.HELLO:
                if not self._hello_limit.allows(addr, now):
                    raise DatagramError('rationed')
                if received.sealed and self.sealed:
                    self._on_sealed_hello(received, addr, now)
                elif received.sealed or self.sealed:
                    self._on_hello_of_another_kind(received, addr, now)
                else:
                    self._on_hello(received, addr, now)
            elif received.type in (datagram.TOKENS, datagram.PING, datagram.BYE):
                session = self._sessions.get(received.session_id)
                if session is None:
                    self._on_unknown_session(received, addr, now)
                    raise DatagramError('unknown_session')
                session.traffic.received(received.size)
                self._on_session_datagram(session, received, addr, now, now if arrived_at is None else arrived_at)
            else:
                raise DatagramError('unexpected')
        except DatagramError as error:
            self._drop([error.kind], session)
            if session is not None:
                self._check_seal(session)

    def receive_run(self, datagrams: np.ndarray, addr, now: float, arrived_at: float | None = None) -> None:
        """Take datagrams of one size that came together, uint8 [n, size], which is written to: `receive_datagram` each."""
        at = 0
        while at < len(datagrams):
            at += self._receive_tokens(datagrams[at:], addr, now) or self._receive_one(datagrams[at], addr, now, arrived_at)

    def _receive_one(self, data, addr, now: float, arrived_at: float | None) -> int:
        self.receive_datagram(data, addr, now, arrived_at)
        return 1

    def _receive_tokens(self, datagrams: np.ndarray, addr, now: float) -> int:
        """Take TOKENS of one session, from the first datagram on; how many these were."""
        size = datagrams.shape[1]
        if self._closed or size < datagram.HEADER.size + datagram.SEAL_BYTES:
            return 0
        magic, version, kind, session_id, _, _ = datagram.HEADER.unpack_from(datagrams[0])
        session = self._sessions.get(session_id)
        if magic != datagram.MAGIC or kind != datagram.TOKENS or session is None or version != session.version:
            return 0
        count = runs.of_one_session(datagrams)
        sequences, bodies, refused = session.open_run(datagrams[:count])
        self._traffic.received(count * size, count)
        # Whoever wrote a datagram with a wrong checksum, it may not be of this session.
        own = count if session.sealer is not None else len(sequences)
        session.traffic.received(own * size, own)
        self._drop(refused, session if session.sealer is not None else None)
        if sequences:
            self._take_tokens(session, sequences, bodies, size, addr, now)
        self._check_seal(session)
        return count

    def _take_tokens(self, session: BridgeSession, sequences: list[int], bodies, size: int, addr, now: float) -> None:
        """Take the bodies of opened TOKENS datagrams, uint8 [n, length] or a list of one; each datagram had `size` bytes."""
        fresh = session.hear(sequences, addr, now)
        if not all(fresh):
            self._drop(['duplicate'] * fresh.count(False), session)
            bodies = bodies[np.array(fresh)] if len(fresh) > 1 else []
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
        self._collect_frames(session)

    def _drop(self, kinds: list[str], session: BridgeSession | None) -> None:
        self._traffic.dropped.update(kinds)
        if session is not None:
            session.traffic.dropped.update(kinds)

    def _check_seal(self, session: BridgeSession) -> None:
        if session.sealer is not None and session.sealer.spent and session.session_id in self._sessions:
            self._lose(session, 'its keys have refused as many forgeries as they may')

    def _on_session_datagram(self, session: BridgeSession, received: Datagram, addr, now: float, arrived_at: float) -> None:
        if session.sealer is not None:
            received = session.sealer.open(received)
        elif received.sealed:
            raise DatagramError('unexpected')
        if received.type == datagram.TOKENS:
            self._take_tokens(session, [received.sequence], [received.body], received.size, addr, now)
            return
        if not all(session.hear([received.sequence], addr, now)):
            raise DatagramError('duplicate')
        if received.type == datagram.PING:
            t1, session.remote = datagram.parse_ping(received.body)
            self._pong(session, t1, addr, now, arrived_at)
        else:
            self._lose(session, 'the robot said goodbye')

    def _pong(self, session: BridgeSession, t1: float, addr, now: float, arrived_at: float) -> None:
        pong = datagram.pong_body(t1, arrived_at, now, session.tracker.report())
        # Two on a bad downlink: a robot without frames in flight hears nothing but PONGs.
        for _ in range(sufficient_copies(session.downlink_loss()[0], _PONG_FAILURE, 1, 2)):
            self._transmit(session.build(datagram.PONG, pong), addr)

    def _on_unknown_session(self, received: Datagram, addr, now: float) -> None:
        if received.type in (datagram.TOKENS, datagram.PING) and self._reset_limit.allows(addr, now):
            self._transmit(datagram.build(datagram.RESET, received.session_id, 0), addr)

    def _on_hello(self, received: Datagram, addr, now: float) -> None:
        hello = Hello.parse(received.body)
        self._expire(now)
        if reasons := self._reasons_against(hello, addr):
            self._refuse(hello, reasons, received.size, addr)
            return
        session = self._same_instance(hello)
        if session is None:
            session = self._begin(hello, addr, now)
        elif (received.sequence - session.hello_sequence) % (1 << 32) < 1 << 31:      # not overtaken by a newer one
            session.address = addr
        session.hello_sequence = max(session.hello_sequence, received.sequence)
        session.heard_at = now
        reply = Welcome(hello.instance, self.name).to_bytes()
        size = datagram.HEADER.size + len(reply)
        for _ in range(min(self.config.reply_copies, AMPLIFICATION * received.size // size)):
            self._transmit(session.build(datagram.WELCOME, reply), addr)

    def _on_sealed_hello(self, received: Datagram, addr, now: float) -> None:
        said = SealedHello.parse(received)
        hello = said.hello
        key = self._keys.of(hello.robot)
        if key is None or not said.is_from(key):
            reason = f'key: the bridge has {"no" if key is None else "another"} key for robot {hello.robot}'
            self._refuse_for_key(hello, reason, received.size, addr, now)
            raise DatagramError('corrupt')
        self._expire(now)
        kept = self._sessions.get(said.kept_session)
        if kept is not None and kept.robot == hello.robot:
            # Not as heard from the robot, nor where it is now: the HELLO may be an old one. What it sends next tells.
            self._pong(kept, _NO_PING, addr, now, now)
            return
        if (session := self._same_instance(hello)) is not None:
            self._repeat(session.welcome, self.config.reply_copies, received.size, addr)
            return
        if not self._cookies.is_valid(said, addr, now):
            reply = challenge(key, hello.instance, self._cookies.of(said, addr, now))
            self._repeat(reply, self.config.reply_copies, received.size, addr)
            return
        if reasons := self._reasons_against(hello, addr):
            self._refuse(hello, reasons, received.size, addr, key)
            return
        session_id = self._new_session_id()
        reply, sealer = welcome(key, said, session_id, self.name)
        session = self._begin(hello, addr, now, session_id, sealer)
        session.welcome = reply
        self._cookies.note_session(hello.robot, session_id)
        self._repeat(reply, self.config.reply_copies, AMPLIFICATION * received.size, addr)

    def _on_hello_of_another_kind(self, received: Datagram, addr, now: float) -> None:
        """Sealed at an unsealed bridge, or the other way round."""
        if received.sealed:
            hello = SealedHello.parse(received).hello
            reason = 'key: the edge seals the link with its key_file, the bridge is unsealed'
        else:
            hello = Hello.parse(received.body)
            reason = 'key: the edge is unsealed, the bridge seals the link with its key_file'
        self._refuse_for_key(hello, reason, received.size, addr, now)
        raise DatagramError('unexpected')

    def _same_instance(self, hello: Hello) -> BridgeSession | None:
        session = self._robots.get(hello.robot)
        return session if session is not None and session.instance == hello.instance else None

    def _reasons_against(self, hello: Hello, addr) -> tuple[str, ...]:
        """Why there can be no session; none where there can, or is."""
        if reasons := self._differences(hello.parameters):
            return tuple(reasons)
        if reason := objection_to_name(hello.robot, hello.parameters.device):
            return (reason,)
        session = self._robots.get(hello.robot)
        if session is None:
            if len(self._sessions) >= self.config.max_sessions:
                return (f'robots: the bridge serves at most {self.config.max_sessions}, and that many are connected',)
        elif session.instance != hello.instance and session.address != addr:
            return (f'robot: the name {hello.robot} is in use by another edge at {_shown(session.address)}',)
        return ()

    def _differences(self, parameters: StreamParameters) -> list[str]:
        known = self._streams.get(parameters.device)
        if known is not None:
            return parameters.differences(known)
        some = next(iter(self._streams.values()))
        if parameters.strategy == some.strategy == Strategy.PARTITION:
            return [f'device: the edge is {parameters.device}, the bridge has {", ".join(self._streams)}']
        return parameters.differences(some)

    def _new_session_id(self) -> int:
        session_id = 0
        while session_id == 0 or session_id in self._sessions:
            session_id = self._random.getrandbits(64)
        return session_id

    def _begin(self, hello: Hello, addr, now: float, session_id: int = 0, sealer: Sealer | None = None) -> BridgeSession:
        """A session for a robot against which there are no reasons; it replaces that of an edge that was restarted."""
        if (former := self._robots.get(hello.robot)) is not None:
            self._lose(former, 'the edge was restarted')
        session_id = session_id or self._new_session_id()
        tracker = SequenceTracker()
        parameters = self._streams[hello.parameters.device]
        reassembler = Reassembler(
            parameters, session_id=session_id, robot=hello.robot, reassembly_deadline_s=self.config.reassembly_deadline_s,
            frames=self.config.frames_in_flight, grace_floor_s=self.config.grace_floor_s,
            quiet_floor_s=self.config.quiet_floor_s, packet_error_rate=lambda: tracker.packet_error_rate, top_k=hello.top_k)
        session = BridgeSession(session_id, hello.robot, hello.instance, addr, parameters, reassembler, tracker, now, sealer)
        self._sessions[session_id] = self._robots[hello.robot] = session
        self._touched.add(session_id)
        self._refusals.pop((hello.robot, addr), None)
        self._events.append(RobotConnected(session_id, hello.robot, addr, parameters.device))
        return session

    def _refuse(self, hello: Hello, reasons: tuple[str, ...], size: int, addr, key: Key | None = None) -> None:
        refuse = Refuse(hello.instance, self.name, reasons)
        limit = min(self.config.max_datagram_bytes, AMPLIFICATION * size) - datagram.HEADER.size
        if key is None:
            reply = datagram.build(datagram.REFUSE, 0, 0, refuse.to_bytes(limit))
        else:
            reply = signed(key.reply, datagram.REFUSE, 0, 0, refuse.to_bytes(limit - datagram.SEAL_BYTES))
        self._repeat(reply, self.config.reply_copies, AMPLIFICATION * size, addr)
        self._say_refused(hello.robot, addr, refuse.reason)

    def _refuse_for_key(self, hello: Hello, reason: str, size: int, addr, now: float) -> None:
        """Without a seal, since there is no key in common, and rationed, since anybody can cause it."""
        if self._key_refusals.allows(addr, now):
            refuse = Refuse(hello.instance, self.name, (reason,))
            self._repeat(datagram.build(datagram.REFUSE, 0, 0, refuse.to_bytes()), 1, size, addr)
        if self._refusals.get((hello.robot, addr)) != reason and self._key_events.allows(addr, now):
            self._say_refused(hello.robot, addr, reason)

    def _say_refused(self, robot: str, addr, reason: str) -> None:
        if self._refusals.get((robot, addr)) != reason:
            self._refusals[robot, addr] = reason
            self._events.append(RobotRefused(robot, addr, reason))
        self._refusals.move_to_end((robot, addr))
        if len(self._refusals) > _REFUSALS_REMEMBERED:
            self._refusals.popitem(last=False)

    def _repeat(self, reply: bytes, copies: int, limit: int, addr) -> None:
        """Send as many copies of a reply as there may be, in no more than `limit` bytes."""
        for _ in range(min(copies, limit // len(reply))):
            self._transmit(reply, addr)

    def _transmit(self, data: bytes, addr) -> None:
        self._traffic.sent(len(data))
        self._outgoing.append((data, addr))


def _shown(address: object) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        return f'{address[0]}:{address[1]}'
    return str(address)
