"""The robots that are connected, and when each needs a timer."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from random import Random

from evitif.protocol.bridge.answer_size import AnswerSizes
from evitif.protocol.bridge.config import BridgeConfig
from evitif.protocol.bridge.fleet_place import FIRST_TOLD_S
from evitif.protocol.bridge.session import BridgeSession
from evitif.protocol.events import AnswerSize, BridgeEvent, FrameReady, RobotConnected, RobotLost
from evitif.protocol.frames.reassembly import Reassembler
from evitif.protocol.rate.statistics import SequenceTracker
from evitif.protocol.sealing.seal import Sealer
from evitif.protocol.wire import answer
from evitif.protocol.wire.datagram import Address
from evitif.protocol.wire.handshake import Hello
from evitif.protocol.wire.parameters import StreamParameters

_UNTRUE = 64      # times in the heap that need not be true any more, and three more for each session


class Sessions:
    """Begins and ends sessions, and tells the owner about it through `events`."""

    def __init__(self, config: BridgeConfig, events: deque[BridgeEvent], random: Random, number: int | None = None):
        self._config, self._events, self._random, self._number = config, events, random, number
        self.by_id: dict[int, BridgeSession] = {}
        self.by_robot: dict[str, BridgeSession] = {}
        self.past_frames: Counter[str] = Counter()      # frames of sessions that have ended, by what became of them
        self._due: dict[int, float] = {}                # by session, when it needs a timer
        self._order: list[tuple[float, int]] = []       # a heap of the same, with some that are no longer true
        self._touched: set[int] = set()                 # sessions whose time may have changed

    def new_id(self) -> int:
        """A random id that no session has; never 0. In a fleet it begins with the bridge's number (after QUIC-LB)."""
        session_id = 0
        while session_id == 0 or session_id in self.by_id:
            session_id = self._random.getrandbits(64) if self._number is None else self._number << 48 | self._random.getrandbits(48)
        return session_id

    def begin(self, hello: Hello, parameters: StreamParameters, address: Address, now: float, session_id: int,
              sealer: Sealer | None = None) -> BridgeSession:
        """A session for a robot; it replaces the one of an edge that was restarted."""
        if (former := self.by_robot.get(hello.robot)) is not None:
            self.end(former, 'the edge was restarted')
        tracker = SequenceTracker(sealed=sealer is not None)
        reassembler = Reassembler(
            parameters, session_id=session_id, robot=hello.robot, reassembly_deadline_s=self._config.reassembly_deadline_s,
            frames=self._config.frames_in_flight, packet_error_rate=lambda: tracker.packet_error_rate, top_k=hello.top_k)
        sizes = AnswerSizes(self._config.max_datagram_bytes, answer.size_of(1, parameters.tokens, sealed=sealer is not None),
                            lambda size, before: self._events.append(AnswerSize(session_id, hello.robot, size, before)))
        session = BridgeSession(session_id, hello.robot, hello.instance, address, parameters, reassembler, tracker, now, sealer, sizes)
        if self._number is not None:
            session.told_at = now + FIRST_TOLD_S
        self.by_id[session_id] = self.by_robot[hello.robot] = session
        self._touched.add(session_id)
        self._events.append(RobotConnected(session_id, hello.robot, address, parameters.device))
        return session

    def end(self, session: BridgeSession, reason: str) -> None:
        """End a session, and tell the owner why."""
        del self.by_id[session.session_id]
        del self.by_robot[session.robot]
        self._due.pop(session.session_id, None)
        self.past_frames += session.frames()
        self._events.append(RobotLost(session.session_id, session.robot, reason, session.parameters.device))

    def expire(self, now: float) -> None:
        """End the sessions whose robots have been silent for too long: some of those that are due."""
        for session in self.due(now):
            if now >= session.heard_at + self._config.session_timeout_s:
                self.end(session, f'silent for {now - session.heard_at:.1f} s')
            elif now >= session.ends_at(self._config.session_timeout_s):
                self.end(session, f'what came for {now - session.proved_at:.1f} s may be old')

    def clear(self) -> None:
        """Forget all sessions, without events: the bridge closes."""
        self.by_id.clear()
        self.by_robot.clear()
        self._due.clear()
        self._order.clear()

    def touch(self, session: BridgeSession) -> None:
        """Something has happened in the session: pass on its frames, and look at its timer again."""
        self._touched.add(session.session_id)
        while (frame := session.reassembler.next_frame()) is not None:
            self._events.append(FrameReady(frame))

    def get_timer(self) -> float | None:
        """When the next session needs a timer."""
        self._update()
        return self._order[0][0] if self._order else None

    def due(self, now: float) -> list[BridgeSession]:
        """The sessions whose time has come; it is asked again next time."""
        sessions = []
        self._update()
        while self._order and self._order[0][0] <= now:
            session_id = heapq.heappop(self._order)[1]
            del self._due[session_id]
            self._touched.add(session_id)
            sessions.append(self.by_id[session_id])
            self._skip()
        return sessions

    def _update(self) -> None:
        """Look at the times of the sessions that were touched; its cost does not grow with the others' number."""
        for session_id in self._touched:
            session = self.by_id.get(session_id)
            if session is not None:
                due = min(session.get_timer(), session.ends_at(self._config.session_timeout_s))
                if self._due.get(session_id) != due:
                    self._due[session_id] = due
                    heapq.heappush(self._order, (due, session_id))
        self._touched.clear()
        if len(self._order) > _UNTRUE + 4 * len(self._due):
            self._order = [(due, session_id) for session_id, due in self._due.items()]
            heapq.heapify(self._order)
        self._skip()

    def _skip(self) -> None:
        while self._order and self._due.get(self._order[0][1]) != self._order[0][0]:
            heapq.heappop(self._order)
