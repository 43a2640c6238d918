"""The robot's end of a link: says hello, sends frames, takes answers, and knows when the link is gone.

DISCONNECTED  until `connect()` and after `close()`.
CONNECTING    HELLO goes out, again and again (`hello`). WELCOME leads to CONNECTED, REFUSE to REFUSED.
REFUSED       HELLO goes out slowly, since the reason may go away. `Refused` is said when the reason is a new one.
CONNECTED     Frames and PINGs go out; the newest that the bridge sends in this session keeps the link alive. After `link_timeout_s` of
              silence: `LinkLost`, and LOST.
LOST          As CONNECTING, but the session is kept: its next datagram leads back to CONNECTED, as does WELCOME.

RESET (the bridge does not know the session: it was restarted) and BYE (it closes) end the session; HELLO goes out at once.

A WELCOME or REFUSE is believed only if it echoes the edge's random instance number, anything else only if it carries the session's
random id. That keeps out strays and whoever cannot see the traffic, nobody else. On a sealed link nothing is believed without its
seal, but two things can only be said without one, and are hints. RESET: HELLO goes out, naming the session, which ends only with the
WELCOME to another. REFUSE from a bridge that has another key, or none: `Refused` is said, now and then, and HELLO goes on as before.

Each sent frame ends in one event: `AnswerArrived` with its answer's first copy, or `FrameExpired` at its deadline, when its session ends,
or when newer frames need its record. `FrameOverdue` may come before, `MapArrived` before or after it. Nothing is sent again.
"""

from __future__ import annotations

import math
from collections import deque
from random import Random, SystemRandom

import numpy as np

from evitif.protocol.arrivals import Arrivals, OnArrivals
from evitif.protocol.edge.config import PING_INTERVAL_S, EdgeConfig
from evitif.protocol.edge.frame_sender import FrameSender
from evitif.protocol.edge.hello import Hellos
from evitif.protocol.edge.pings import copies_of_ping
from evitif.protocol.edge.sent_frames import SentFrames
from evitif.protocol.edge.session import EdgeSession
from evitif.protocol.edge.view import EdgeView
from evitif.protocol.events import (
    AnswerArrived,
    Connected,
    EdgeEvent,
    FrameExpired,
    LinkLost,
    MapArrived,
    MovedOn,
    Redirected,
    Refused,
    SentFrame,
)
from evitif.protocol.frames.coded_frame import CodedFrame
from evitif.protocol.frames.packetiser import TokenFrame
from evitif.protocol.rate.report import Report
from evitif.protocol.rate.statistics import Traffic
from evitif.protocol.sealing.keys import Key
from evitif.protocol.wire import answer as answers
from evitif.protocol.wire import datagram, map_part
from evitif.protocol.wire.datagram import Buffer, Datagram, DatagramError
from evitif.protocol.wire.parameters import StreamParameters, check_name
from evitif.protocol.wire.route import NOW, parse_moved
from evitif.vocabulary import LinkState

BYE_COPIES = 5
_HINT_INTERVAL_S = 10.0      # between two `Refused` that anybody could have caused


class EdgeConnection(EdgeView):
    """The edge's end of one link, without socket and clock.

    The owner passes in each datagram that arrives and the time (`now`, seconds, monotonic); sends what `datagrams_to_send` returns;
    calls `handle_timer` at `get_timer`, after passing in what had arrived by then; and takes events until there are none.

    :param robot: the robot's name, unique among a bridge's robots
    :param key: seals the link; None: it is unsealed
    :param random: where the instance number comes from; the system's randomness by default
    :param ticket: that a bridge of a fleet asks for
    :raises ValueError: a row or the HELLO does not fit into a datagram, or the name is unusable
    """

    def __init__(self, parameters: StreamParameters, robot: str, config: EdgeConfig | None = None, *,
                 key: Key | None = None, random: Random | None = None, ticket: bytes = b''):
        self.parameters = parameters
        self.robot = check_name('robot', robot)
        self.config = config = config or EdgeConfig()
        self._hellos = Hellos(robot, parameters, key, random or SystemRandom(), config.top_k, config.bridge_name,
                              config.max_datagram_bytes, ticket)
        if self._hellos.size > config.max_datagram_bytes:
            raise ValueError(f'HELLO takes {self._hellos.size} bytes; expected at most max_datagram_bytes, {config.max_datagram_bytes}')
        self._seal_bytes = datagram.SEAL_BYTES if self.sealed else 0
        self._events: deque[EdgeEvent] = deque()
        self._sender = FrameSender(parameters, config, config.max_datagram_bytes - self._seal_bytes, self._events.append)
        self.marking = self._sender.marking
        self._state, self._closed = LinkState.DISCONNECTED, False
        self._session: EdgeSession | None = None
        self._latest = EdgeSession(0)            # the session, or the last one: statistics show its figures
        self._traffic = Traffic()
        self._sent = SentFrames(config.frames_remembered, config.answer_deadline_s)
        self._outgoing: deque[bytes | np.ndarray] = deque()
        self._release_at: float | None = None    # when more of the waiting frame may leave
        self._released = False                   # some of it has, so a PING follows
        self._heard_at = 0.0
        self.unread = 0                          # bits of the heads that nobody reads (`datagram.UNREAD`)
        self.on_arrivals: OnArrivals | None = None      # is told of what arrives in a session
        self._refused_reason: str | None = None
        self._hinted_at = -math.inf              # when `Refused` was last said for an unsealed REFUSE

    # What the owner takes

    def next_event(self) -> EdgeEvent | None:
        """The next event, or None."""
        return self._events.popleft() if self._events else None

    def datagrams_to_send(self, now: float) -> list[bytes]:
        """What to send now, in order."""
        datagrams = []
        while (run := self.run_to_send(now)) is not None:
            datagrams += [run] if isinstance(run, bytes) else [row.tobytes() for row in run]
        return datagrams

    def run_to_send(self, now: float) -> bytes | np.ndarray | None:
        """The next datagram or run, uint8 [n, size], or None. Send it before asking for the next: it travels while that is made ready."""
        while not self._outgoing and self._release_at is not None:
            self._release(self._release_at)
        return self._outgoing.popleft() if self._outgoing else None

    # What the owner does

    def connect(self, now: float) -> None:
        """Begin to say hello, if that was not begun before."""
        if self._state == LinkState.DISCONNECTED:
            if self._closed:
                self._hellos.renew()
            self._say_hello_from(now)
            self.handle_timer(now)

    def close(self, now: float) -> None:
        """Say goodbye. Frames without an answer expire."""
        if self._session is not None:
            for _ in range(BYE_COPIES):
                self._send(datagram.BYE, now)
        self._forget_session()
        self._state, self._closed = LinkState.DISCONNECTED, True
        self._hellos.due_at = math.inf

    def send_frame(self, frame: TokenFrame | CodedFrame, now: float) -> bool:
        """Send a frame. False: there is no session. Raises ValueError for one that does not fit, see `Packetiser`, `coded_datagrams`."""
        if self._state != LinkState.CONNECTED or self._session is None:
            return False
        while self._release_at is not None:      # nobody has asked for what may leave of the frame before
            self._release(self._release_at)
        packets, size, tokens = self._sender.begin(frame, now)
        sent = SentFrame(frame.frame_id, frame.capture_stamp_ns, now, packets, size + packets * self._seal_bytes, tokens)
        if (former := self._sent.add(sent)) is not None:
            self._expire(former)
        self._traffic.frames['sent'] += 1
        if self._sender.asks_first(now) and self._session.pings.go_ahead(now):
            self._send_pings(self._session, 1, now)
        self._release_at = now
        return True

    def _release(self, now: float) -> None:
        """Send what pacing allows of the waiting frame, a run at a time, and a PING behind it."""
        run = None
        if self._state == LinkState.CONNECTED and self._session is not None:
            run = self._sender.release(self._session.finish, now)
            if run is not None:
                self._traffic.sent(run.size, len(run))
                self._outgoing.append(run)
            elif self._released and self._session.pings.follow(now):
                self._send_pings(self._session, 1, now)
        self._released, self._release_at = (False, None) if run is None else (True, now)

    def get_timer(self) -> float | None:
        """When to call `handle_timer` next, on the caller's clock; None: never."""
        if self._state == LinkState.DISCONNECTED:
            return None
        times = [self._hellos.due_at, self._sent.due_at()]
        if self._state == LinkState.CONNECTED:
            times += [self._latest.pings.due_at, self._heard_at + self.config.link_timeout_s, self._sender.get_timer()]
        return min(times)

    def handle_timer(self, now: float) -> None:
        """Do what has become due."""
        self._events += self._sent.overdue(now)
        self._expire_due(now)
        if self._state == LinkState.CONNECTED and self._session is not None:
            if now >= self._heard_at + self.config.link_timeout_s:
                self._events.append(LinkLost(now - self._heard_at))
                self._say_hello_from(now)
            else:
                if now >= self._session.pings.due_at:
                    self._ping(self._session, now)
                self._release_at = now
        if self._state in (LinkState.CONNECTING, LinkState.LOST, LinkState.REFUSED) and now >= self._hellos.due_at:
            self._hello(now)

    def _hello(self, now: float) -> None:
        for data in self._hellos.take(self.session_id, now):
            self._transmit(data, now)
        if self._state != LinkState.CONNECTED:      # else a RESET, which may be forged, made it say hello
            self._hellos.wait(now, self._state == LinkState.REFUSED)

    def _ping(self, session: EdgeSession, now: float) -> None:
        downlink = session.tracker.packet_error_rate
        uplink = session.remote.packet_error_rate if session.remote else downlink      # not reported yet
        self._send_pings(session, copies_of_ping(downlink, uplink, session.least_copies), now)
        session.pings.due_at = now + PING_INTERVAL_S

    def _send_pings(self, session: EdgeSession, copies: int, now: float) -> None:
        session.pings.note(now, self._sender.sent_before(now))
        session.silence.ask(now)
        for _ in range(copies):
            self._send(datagram.PING, now, datagram.ping_body(now, session.tracker.report(), self.unread))

    def probe(self, now: float) -> None:
        """Ask a silent bridge once more."""
        if self.connected and self._session is not None:
            self._send_pings(self._session, 1, now)

    def _expire_due(self, now: float) -> None:
        for frame in self._sent.expired(now):
            self._expire(frame)
            if self._state == LinkState.CONNECTED and math.isfinite(now):
                self._sender.path.on_expired(frame, now)

    def _expire(self, frame: SentFrame) -> None:
        self._sender.abandon(frame.frame_id)
        self._traffic.frames['expired'] += 1
        self._events.append(FrameExpired(frame.frame_id, frame.capture_stamp_ns))

    # What arrives

    def receive_datagram(self, data: Buffer, now: float, arrived_at: float | None = None) -> None:
        """Take a datagram from the bridge. Never raises for what is in it.

        `arrived_at`, by default `now`, is when it reached this host, never after `now`: a round trip ends then.
        """
        try:
            self._traffic.received(len(data))
            received = datagram.parse(data)
            if self._state == LinkState.DISCONNECTED or received.sealed and not self.sealed:
                raise DatagramError('unexpected')
            if received.type == datagram.WELCOME:
                self._on_welcome(received, now)
            elif received.type == datagram.CHALLENGE:
                if self._hellos.handshake.take_challenge(received) and self._hellos.prompts(now, self._state == LinkState.REFUSED):
                    self._hello(now)
                    self._hellos.prompted = True
            elif received.type == datagram.REFUSE:
                self._on_refuse(received, now)
            elif received.type == datagram.REDIRECT and self._session is None:
                self._events.append(Redirected(self._hellos.redirect(received)))
            elif received.type == datagram.RESET:
                self._on_reset(received, now)
            elif received.type == datagram.PATH_CHALLENGE:
                for data in self._session_of(received).responses(received, now):
                    self._transmit(data, now)
            elif received.type in (datagram.ANSWER, datagram.MAP, datagram.PONG, datagram.BYE, datagram.MOVED):
                self._on_session_datagram(self._session_of(received), received, now, now if arrived_at is None else arrived_at)
            else:
                raise DatagramError('unexpected')
        except DatagramError as error:
            self._traffic.dropped[error.kind] += 1
            if self._session is not None and self._session.sealer is not None and self._session.sealer.spent:      # needs other keys
                self._on_end_of_session(now)

    def _on_welcome(self, received: Datagram, now: float) -> None:
        known = received.session_id == self.session_id
        if known and self.sealed:
            raise DatagramError('duplicate')
        bridge, sealer = self._hellos.handshake.take_welcome(received)
        if self._state == LinkState.CONNECTED and not known:
            if not self.sealed:      # another life of the bridge answers late; if it is this session that is dead, RESET will say so
                raise DatagramError('unexpected')
            self._events.append(LinkLost(now - self._heard_at))      # the RESET was true
            self._state = LinkState.LOST
        if not known:
            self._forget_session()
            self._session = self._latest = EdgeSession(received.session_id, bridge, sealer)
        if self.sealed:
            self._hellos.renew()
        else:
            self._latest.open(received)
        self._heard(self._latest, now, now)

    def _on_refuse(self, received: Datagram, now: float) -> None:
        hint = self.sealed and not received.sealed      # from a bridge that cannot seal it, or from anybody
        if self._state == LinkState.CONNECTED or hint and now < self._hinted_at + _HINT_INTERVAL_S:      # before it is read
            raise DatagramError('unexpected')
        reason = self._hellos.refusal(received).reason
        if hint:
            reason += ' (said without a seal)'
            self._hinted_at = now
        else:
            self._forget_session()
            if self._state != LinkState.REFUSED:
                self._state = LinkState.REFUSED
                self._hellos.wait(now, refused=True)
        if reason != self._refused_reason:
            self._refused_reason = reason
            self._events.append(Refused(reason))

    def _on_reset(self, received: Datagram, now: float) -> None:
        self._session_of(received)
        if received.body or received.sealed:
            raise DatagramError('malformed')
        if not self.sealed:
            self._on_end_of_session(now)
        elif self._hellos.believes_reset(now):
            self._hello(now)

    def _session_of(self, received: Datagram) -> EdgeSession:
        if self._session is None or received.session_id != self._session.session_id:
            raise DatagramError('unknown_session')
        return self._session

    def _on_session_datagram(self, session: EdgeSession, received: Datagram, now: float, arrived_at: float) -> None:
        received = session.open(received)
        if self.on_arrivals is not None:
            self.on_arrivals(Arrivals.of(self.robot, received, arrived_at))
        newest = received.sequence == session.tracker.highest      # one that was held back does not say that the bridge is there
        if received.type == datagram.BYE:
            self._on_end_of_session(now)
        elif received.type == datagram.PONG:
            t1, t2, t3, report, marks = datagram.parse_pong(received.body)
            if newest:
                session.remote = report
                self._heard(session, session.there_at(t1, t3, now), now)
            if (sent := session.pings.take(t1)) is not None:      # else a further copy
                session.clock.add(t1, t2, t3, arrived_at)
                round_trip = max(arrived_at - t1 - (t3 - t2), 0.0)
                self._sender.on_report(Report(t1, t2, round_trip, report.expected, report.received, *sent, *marks),
                                       report.packet_error_rate, report.mean_burst, now)
        elif received.type == datagram.MOVED:
            when, route = parse_moved(received.body)
            self._events.append(MovedOn(when == NOW, route))
        elif received.type == datagram.MAP:
            self._events.append(MapArrived(self._sent.take_part(map_part.decode(received.body)[0], now)))
        else:
            self._on_answer(session, received, newest, now)

    def _on_answer(self, session: EdgeSession, received: Datagram, newest: bool, now: float) -> None:
        answer, copies = answers.decode(received.body)
        if not answer.is_of(self.parameters):
            raise DatagramError('inconsistent')
        if newest:
            self._heard(session, session.there_at(-math.inf, answer.first_arrival + answer.hold_s, now), now)
        self._expire_due(now)
        sent = self._sent.take(answer.frame_id, answer.capture_stamp_ns, now)
        self._traffic.frames['answered'] += 1
        # A frame and its answer are an exchange of four time stamps too, and there are more of them than PINGs.
        times = session.exchange(sent.sent_at, answer.first_arrival, answer.first_arrival + answer.hold_s, now)
        rate, round_trip = answer.packet_error_rate if newest else math.nan, max(now - sent.sent_at - answer.hold_s, 0.0)
        self._sender.on_answer(sent, rate, round_trip, now)
        self._events += AnswerArrived(answer, sent, now - sent.sent_at, *times, copies * received.size), *self._sent.overdue(now)

    def _heard(self, session: EdgeSession, there_at: float, now: float) -> None:
        """The bridge was heard in this session, and was there at that time."""
        self._heard_at = max(self._heard_at, there_at)
        session.silence.heard()
        if self._state != LinkState.CONNECTED and now < self._heard_at + self.config.link_timeout_s:
            self._state, self._refused_reason = LinkState.CONNECTED, None
            self._hellos.due_at, session.pings.due_at = math.inf, now
            self._sender.restart(session.session_id, now)
            self._events.append(Connected(session.session_id, session.bridge))

    def _on_end_of_session(self, now: float) -> None:
        self._forget_session()
        if self._state == LinkState.CONNECTED:
            self._events.append(LinkLost(now - self._heard_at))
        self._say_hello_from(now)
        self.handle_timer(now)

    def _say_hello_from(self, now: float) -> None:
        if self._state == LinkState.CONNECTED:
            self._sender.stop()
        self._state = LinkState.LOST if self._state in (LinkState.CONNECTED, LinkState.LOST) else LinkState.CONNECTING
        self._hellos.begin(now)

    def _forget_session(self) -> None:
        """No answer of this session can come any more."""
        self._session = None
        self._expire_due(math.inf)

    def _send(self, kind: int, now: float, body: bytes = b'') -> None:
        if self._session is not None:
            self._transmit(self._session.build(kind, body), now)

    def _transmit(self, data: bytes, now: float) -> None:
        self._sender.spend(len(data), now)
        self._traffic.sent(len(data))
        self._outgoing.append(data)
