"""The robot's side of a link: says hello, sends frames, takes answers, and knows when the link is gone.

States. IDLE until `connect()`, CLOSED after `close()`, and in between:

CONNECTING  A HELLO goes out (`hello_copies` at a time) every `hello_interval_s`; when the bridge has been silent for
            long, the interval doubles up to `hello_interval_max_s`. WELCOME leads to CONNECTED, REFUSE to REFUSED.
REFUSED     HELLO every `refused_interval_s`, since the reason may go away. `Refused` is said when the reason is a new
         one.
CONNECTED   Frames go out. A PING goes out every `ping_interval_s`. Whatever comes from the bridge in this session keeps
            the link alive; after `link_timeout_s` without, `LinkLost` is said and the state is CONNECTING, but the
            session is kept: the first datagram of it that comes leads back to CONNECTED, as does the WELCOME to a
            HELLO. RESET for this session means that the bridge does not know it (it was restarted): the session is
            given up and HELLO goes out at once. BYE means that the bridge has closed: the same.

A WELCOME or REFUSE is believed only when it echoes the edge's random instance number, anything else only when it
carries the session's random id; on an unsealed link that keeps out strays and whoever cannot see the traffic, nobody else.

Sealed, with a key (`sealed_handshake`, `sealing`), nothing is believed without its seal. Two things can only be said
without one, and are hints, which change nothing by themselves. RESET: HELLO goes out, with the session that the edge still
has, and it is kept until the bridge answers with a datagram of it or with the WELCOME to another. REFUSE from a bridge that
has another key, or none: `Refused` is said, now and then, and HELLO goes on as before.

Frames. Each frame that was sent ends in exactly one event: `AnswerArrived` with the first copy of its answer, or
`FrameExpired` at its deadline, when its session ends, or when so many newer frames are waiting that its record is
needed. Nothing is sent again.
"""

import math
from collections import deque
from random import Random, SystemRandom

import numpy as np

from evitif.protocol.edge.config import EdgeConfig
from evitif.protocol.edge.frame_sender import FrameSender, UplinkState
from evitif.protocol.edge.pings import Pings, copies_of_ping
from evitif.protocol.edge.sent_frames import SentFrames
from evitif.protocol.events import AnswerArrived, Connected, FrameExpired, LinkLost, Refused, SentFrame
from evitif.protocol.frames.packetiser import TokenFrame
from evitif.protocol.rate.clock import ClockFilter
from evitif.protocol.rate.congestion import Report
from evitif.protocol.rate.statistics import LinkStatistics, SequenceTracker, Traffic
from evitif.protocol.sealing.keys import Key
from evitif.protocol.sealing.seal import Sealer
from evitif.protocol.sealing.sealed_handshake import EdgeHandshake
from evitif.protocol.wire import answer as answers
from evitif.protocol.wire import datagram, runs
from evitif.protocol.wire.datagram import Datagram, DatagramError
from evitif.protocol.wire.handshake import Hello, Refuse, Welcome
from evitif.protocol.wire.parameters import StreamParameters, check_name
from evitif.vocabulary import LinkState

_HINT_INTERVAL_S = 10.0      # between two `Refused` that anybody could have caused


class EdgeConnection:
    """The edge's end of one link, without socket and clock.

    The owner passes in what arrives and the time (`now`, seconds, monotonic), sends what `datagrams_to_send` returns,
    calls `handle_timer` at `get_timer`, after it has passed in what had arrived by then, and takes events until there
    is none.

    :param robot: the robot's name, unique among a bridge's robots
    :param key: seals the link; None: it is unsealed
    :param random: where the instance number comes from; the system's randomness by default
    :raises ValueError: a row or the HELLO does not fit into a datagram, or the name is unusable
    """

    def __init__(self, parameters: StreamParameters, robot: str, config: EdgeConfig | None = None, *,
                 key: Key | None = None, random: Random | None = None):
        self.parameters = parameters
        self.robot = check_name('robot', robot)
        self.config = config = config or EdgeConfig()
        self._random = random or SystemRandom()
        self._handshake = None if key is None else EdgeHandshake(key, robot, parameters, self._random, config.top_k)
        self._state, self._closed = LinkState.DISCONNECTED, False
        self._session_id: int | None = None
        self._traffic = Traffic()
        self._outgoing: deque[bytes | np.ndarray] = deque()
        self._release_at: float | None = None    # as of when more of the frame that waits may leave
        self._released = False                   # whether some of it has, so that a PING follows
        self._events: deque = deque()

        self._new_instance()
        size = len(self._hello_datagram())
        if size > config.max_datagram_bytes:
            raise ValueError(f'HELLO takes {size} bytes; expected at most max_datagram_bytes, {config.max_datagram_bytes}')
        self._sender = FrameSender(parameters, config, config.max_datagram_bytes - self._seal_bytes)

        self._sealer: Sealer | None = None       # of this session
        self._bridge = ''
        self._sequence = 0                       # of this session
        self._tracker = SequenceTracker()        # of what the bridge sends in this session
        self._remote = None                      # the bridge's last report
        self._clock = ClockFilter()
        self._pings = Pings()

        self._hello_at = math.inf
        self._hello_interval = config.hello_interval_s
        self._hello_since = 0.0
        self._heard_at = 0.0
        self._refused_reason: str | None = None
        self._hinted_at = -math.inf              # when `Refused` was last said for an unsealed REFUSE
        self._asked_at = -math.inf               # when HELLO last went out
        self._prompted = False                   # whether that was because of a CHALLENGE

        self._sent = SentFrames(config.frames_remembered, config.answer_deadline_s)

    # What the owner asks for

    @property
    def connected(self) -> bool:
        return self._state == LinkState.CONNECTED

    @property
    def state(self) -> LinkState:
        return self._state

    @property
    def session_id(self) -> int | None:
        return self._session_id

    @property
    def sealed(self) -> bool:
        return self._handshake is not None

    @property
    def longest_name(self) -> int:
        """Bytes that the name of a frame's source may take."""
        return min(packetiser.longest_name for packetiser in self._sender.packetisers.values())

    @property
    def max_datagram_bytes(self) -> int:
        return self.config.max_datagram_bytes

    @property
    def statistics(self) -> LinkStatistics:
        self._traffic.frames['cut'] = self._sender.frames_cut
        clock = self._clock
        return self._traffic.snapshot(self._tracker, self._remote, round_trip_s=clock.round_trip_s,
                                      round_trip_variation_s=clock.round_trip_variation_s, clock_offset_s=clock.offset_s)

    def next_event(self):
        """The next event, or None."""
        return self._events.popleft() if self._events else None

    def datagrams_to_send(self, now: float) -> list[bytes]:
        """What is to be sent now, in order."""
        datagrams = []
        while (run := self.run_to_send(now)) is not None:
            datagrams += [run] if isinstance(run, bytes) else [row.tobytes() for row in run]
        return datagrams

    def run_to_send(self, now: float) -> bytes | np.ndarray | None:
        """What is to be sent next, in order: a datagram, or a run of them, uint8 [n, size]; None: nothing is to be sent now. A run that
        is sent before the next is asked for is on its way while that is made ready."""
        while not self._outgoing and self._release_at is not None:
            self._release(self._release_at)
        return self._outgoing.popleft() if self._outgoing else None

    # What the owner does

    def connect(self, now: float) -> None:
        """Begin to say hello; nothing happens where that was begun already."""
        if self._state == LinkState.DISCONNECTED:
            if self._closed:
                self._new_instance()
            self._say_hello_from(now)
            self.handle_timer(now)

    def close(self, now: float) -> None:
        """Say goodbye. Frames without an answer expire."""
        if self._session_id is not None:
            for _ in range(self.config.bye_copies):
                self._send(datagram.BYE, now)
        self._forget_session()
        self._state, self._closed = LinkState.DISCONNECTED, True
        self._hello_at = math.inf

    @property
    def uplink(self) -> UplinkState:
        """The state of the path and what a frame may take, as last known; may be read from any thread without a lock."""
        return self._sender.uplink

    def send_frame(self, frame: TokenFrame, now: float) -> bool:
        """Send a frame. False: there is no session, and nothing was sent.

        Raises ValueError where the frame does not fit the stream's parameters, see `Packetiser.packetise`.
        """
        if self._state != LinkState.CONNECTED:
            return False
        while self._release_at is not None:      # nobody has asked for what may leave of the frame before
            self._release(self._release_at)
        packets, size = self._sender.give(frame, now)
        sent = SentFrame(frame.frame_id, frame.capture_stamp_ns, now, packets, size + packets * self._seal_bytes,
                         self.parameters.tokens if frame.sent is None else len(frame.sent))
        if (former := self._sent.add(sent)) is not None:
            self._expire(former)
        self._traffic.frames['sent'] += 1
        if self._sender.delayed and self._pings.go_ahead(now):
            self._send_pings(1, now)
        self._release_at = now
        return True

    def _release(self, now: float) -> None:
        """Send what pacing allows of the frame that waits, a run at a time, and a PING behind it."""
        run = None
        if self._state == LinkState.CONNECTED:
            finish = runs.finish if self._sealer is None else self._sealer.finish_run
            run = self._sender.release(finish, self._session_id, self._sequence, now)
            if run is not None:
                self._sequence += len(run)
                self._traffic.sent(run.size, len(run))
                self._outgoing.append(run)
            elif self._released and self._pings.follow(now):
                self._send_pings(1, now)
        self._released, self._release_at = (False, None) if run is None else (True, now)

    # Time

    def get_timer(self) -> float | None:
        """When `handle_timer` wants to be called next, on the caller's clock; None: never."""
        if self._state == LinkState.DISCONNECTED:
            return None
        times = [self._hello_at]
        if self._state == LinkState.CONNECTED:
            times += [self._pings.due_at, self._heard_at + self.config.link_timeout_s]
            times.append(self._sender.get_timer())
        return min(*times, self._sent.expires_at())

    def handle_timer(self, now: float) -> None:
        """Do what has become due."""
        self._expire_due(now)
        if self._state == LinkState.CONNECTED:
            if now >= self._heard_at + self.config.link_timeout_s:
                self._events.append(LinkLost(now - self._heard_at))
                self._say_hello_from(now)
            else:
                if now >= self._pings.due_at:
                    self._ping(now)
                self._release_at = now
        if self._state in (LinkState.CONNECTING, LinkState.LOST, LinkState.REFUSED) and now >= self._hello_at:
            self._hello(now)

    def _hello(self, now: float) -> None:
        for _ in range(self.config.hello_copies):
            self._transmit(self._hello_datagram(), now)
            self._hello_sequence += 1
        self._asked_at, self._prompted = now, False
        if self._state == LinkState.CONNECTED:      # on a RESET that may be forged
            return
        if self._state == LinkState.REFUSED:
            self._hello_at = now + self.config.refused_interval_s
            return
        if now - self._hello_since >= self.config.hello_patience_s:
            self._hello_interval = min(2 * self._hello_interval, self.config.hello_interval_max_s)
        self._hello_at = now + self._hello_interval

    def _ping(self, now: float) -> None:
        downlink = self._tracker.packet_error_rate
        uplink, fewest = (self._remote.packet_error_rate, 1) if self._remote else (downlink, self.config.hello_copies)      # not told yet
        self._send_pings(copies_of_ping(downlink, uplink, fewest), now)
        self._pings.due_at = now + self.config.ping_interval_s

    def _send_pings(self, copies: int, now: float) -> None:
        self._pings.note(now, self._sender.sent_bytes, self._sender.ahead_bytes(now))
        for _ in range(copies):
            self._send(datagram.PING, now, datagram.ping_body(now, self._tracker.report()))

    def _expire_due(self, now: float) -> None:
        for frame in self._sent.expired(now):
            self._expire(frame)

    def _expire(self, frame: SentFrame) -> None:
        self._sender.abandon(frame.frame_id)
        self._traffic.frames['expired'] += 1
        self._events.append(FrameExpired(frame.frame_id, frame.capture_stamp_ns))

    # What arrives

    def receive_datagram(self, data, now: float, arrived_at: float | None = None) -> None:
        """Take a datagram from the bridge (bytes-like). Never raises for what is in it.

        `arrived_at`, by default `now`, is when it came to this host, never after `now`: what a round trip ends with.
        """
        try:
            self._traffic.received(len(data))
            received = datagram.parse(data)
            if self._state == LinkState.DISCONNECTED or received.sealed and not self.sealed:
                raise DatagramError('unexpected')
            if received.type == datagram.WELCOME:
                if self.sealed:
                    self._on_sealed_welcome(received, now)
                else:
                    self._on_welcome(received, now)
            elif received.type == datagram.CHALLENGE and self.sealed:
                if self._handshake.take_challenge(received) and not self._prompted:
                    self._hello(now)
                    self._prompted = True      # so that CHALLENGEs that are played back make it say no more
            elif received.type == datagram.REFUSE:
                self._on_refuse(received, now)
            elif received.type == datagram.RESET:
                self._on_reset(received, now)
            elif received.type in (datagram.ANSWER, datagram.PONG, datagram.BYE):
                self._on_session_datagram(received, now, now if arrived_at is None else arrived_at)
            else:
                raise DatagramError('unexpected')
        except DatagramError as error:
            self._traffic.dropped[error.kind] += 1
            if self._sealer is not None and self._sealer.spent:      # other keys
                self._on_end_of_session(now)

    def _on_welcome(self, received: Datagram, now: float) -> None:
        welcome = Welcome.parse(received.body)
        if welcome.instance != self._instance or received.session_id == 0:
            raise DatagramError('unexpected')
        if self._state == LinkState.CONNECTED and received.session_id != self._session_id:
            # A late answer to a hello that another life of the bridge heard. If it is this session that is dead, RESET
            # will say so.
            raise DatagramError('unexpected')
        if received.session_id != self._session_id:
            self._begin_session(received.session_id)
        self._bridge = welcome.bridge
        if not self._tracker.receive(received.sequence):
            raise DatagramError('duplicate')
        self._heard(now)

    def _on_sealed_welcome(self, received: Datagram, now: float) -> None:
        if received.session_id == self._session_id:
            raise DatagramError('duplicate')
        bridge, sealer = self._handshake.take_welcome(received)
        if self._state == LinkState.CONNECTED:      # the RESET was true
            self._events.append(LinkLost(now - self._heard_at))
            self._state = LinkState.CONNECTING
        self._begin_session(received.session_id, sealer)
        self._bridge = bridge
        self._new_instance()
        self._heard(now)

    def _begin_session(self, session_id: int, sealer: Sealer | None = None) -> None:
        self._forget_session()
        self._session_id = session_id
        self._sealer = sealer
        self._sequence = 0
        self._tracker = SequenceTracker()
        self._remote = None
        self._clock = ClockFilter()
        self._pings.clear()

    def _on_refuse(self, received: Datagram, now: float) -> None:
        refuse = self._handshake.take_refusal(received) if received.sealed else Refuse.parse(received.body)
        if refuse.instance != self._instance or self._state == LinkState.CONNECTED:
            raise DatagramError('unexpected')
        if self.sealed and not received.sealed:
            self._on_hint(refuse.reason, now)
            return
        self._forget_session()
        if self._state != LinkState.REFUSED:
            self._state = LinkState.REFUSED
            self._hello_at = now + self.config.refused_interval_s
        if refuse.reason != self._refused_reason:
            self._refused_reason = refuse.reason
            self._events.append(Refused(refuse.reason))

    def _on_hint(self, reason: str, now: float) -> None:
        """A REFUSE without a seal, from a bridge that cannot seal it, or from anybody."""
        reason += ' (said without a seal)'
        if reason != self._refused_reason and now >= self._hinted_at + _HINT_INTERVAL_S:
            self._hinted_at = now
            self._refused_reason = reason
            self._events.append(Refused(reason))

    def _on_reset(self, received: Datagram, now: float) -> None:
        self._check_session(received)
        if received.body or received.sealed:
            raise DatagramError('malformed')
        if not self.sealed:
            self._on_end_of_session(now)
        elif now >= self._asked_at + self.config.hello_interval_s:
            self._hello(now)

    def _check_session(self, received: Datagram) -> None:
        if self._session_id is None or received.session_id != self._session_id:
            raise DatagramError('unknown_session')

    def _on_session_datagram(self, received: Datagram, now: float, arrived_at: float) -> None:
        self._check_session(received)
        if self._sealer is not None:
            received = self._sealer.open(received)
        if not self._tracker.receive(received.sequence):
            raise DatagramError('duplicate')
        if received.type == datagram.BYE:
            self._on_end_of_session(now)
            return
        if received.type == datagram.PONG:
            t1, t2, t3, self._remote = datagram.parse_pong(received.body)
            self._heard(now)
            if (sent := self._pings.take(t1)) is not None:      # else a further copy
                self._clock.add(t1, t2, t3, arrived_at)
                round_trip = max(arrived_at - t1 - (t3 - t2), 0.0)
                self._sender.on_report(Report(t1, t2, round_trip, self._remote.expected, self._remote.received, *sent),
                                       self._remote.packet_error_rate, self._remote.mean_burst, now)
        else:
            self._on_answer(received, now)

    def _on_answer(self, received: Datagram, now: float) -> None:
        answer, copies = answers.decode(received.body)
        if answer.tokens_expected != self.parameters.tokens or max(answer.class_ids) >= self.parameters.classes:
            raise DatagramError('inconsistent')
        self._heard(now)
        self._expire_due(now)
        sent = self._sent.take(answer.frame_id, answer.capture_stamp_ns)
        self._traffic.frames['answered'] += 1
        # A frame and its answer are an exchange of four time stamps too, and there are more of them than PINGs.
        answer_sent = answer.first_arrival + answer.hold_s
        self._clock.add(sent.sent_at, answer.first_arrival, answer_sent, now)
        self._sender.on_round_trip(max(now - sent.sent_at - answer.hold_s, 0.0), now)
        self._events.append(AnswerArrived(answer, sent, now - sent.sent_at, self._clock.uplink_s(sent.sent_at, answer.first_arrival),
                                          self._clock.downlink_s(answer_sent, now), copies * received.size))

    def _heard(self, now: float) -> None:
        """The bridge was heard in this session."""
        self._heard_at = now
        if self._state != LinkState.CONNECTED:
            self._state = LinkState.CONNECTED
            self._refused_reason = None
            self._hello_at = math.inf
            self._pings.due_at = now
            self._sender.restart(now)
            self._events.append(Connected(self._session_id, self._bridge))

    def _on_end_of_session(self, now: float) -> None:
        was_connected = self._state == LinkState.CONNECTED
        self._forget_session()
        if was_connected:
            self._events.append(LinkLost(now - self._heard_at))
        self._say_hello_from(now)
        self.handle_timer(now)

    # The session

    def _new_instance(self) -> None:
        self._hello_sequence = 0
        if self._handshake is None:
            self._instance = self._random.getrandbits(64)
            self._hello_body = Hello(self.robot, self._instance, self.parameters, self.config.top_k).to_bytes()
        else:
            self._handshake.renew()
            self._instance = self._handshake.instance

    def _hello_datagram(self) -> bytes:
        if self._handshake is None:
            return datagram.build(datagram.HELLO, 0, self._hello_sequence, self._hello_body)
        return self._handshake.hello(self._session_id, self._hello_sequence)

    @property
    def _seal_bytes(self) -> int:
        return datagram.SEAL_BYTES if self.sealed else 0

    @property
    def _finish(self) -> datagram.Finish:
        return datagram.finish if self._sealer is None else self._sealer.finish

    def _say_hello_from(self, now: float) -> None:
        if self._state == LinkState.CONNECTED:
            self._sender.stop()
        self._state = LinkState.LOST if self._state in (LinkState.CONNECTED, LinkState.LOST) else LinkState.CONNECTING
        self._hello_at = self._hello_since = now
        self._hello_interval = self.config.hello_interval_s

    def _forget_session(self) -> None:
        """No answer of this session can come any more."""
        self._session_id = self._sealer = None
        self._expire_due(math.inf)

    def _send(self, kind: int, now: float, body: bytes = b'') -> None:
        self._transmit(datagram.build(kind, self._session_id, self._sequence, body, self._finish), now)
        self._sequence += 1

    def _transmit(self, data: bytes, now: float) -> None:
        self._sender.spend(len(data), now)
        self._traffic.sent(len(data))
        self._outgoing.append(data)
