"""Two robots, each with a key of its own, and their bridge, in simulated time, over a network that belongs to an attacker.

`Network` is what is honest: the robots send frames and are answered, datagrams arrive after some milliseconds. `attacks` has what the
attacker does between. All that both sides say is judged here. On a sealed link, whatever the attacker does:

- nothing raises, and nothing works without end at one moment;
- a frame has the content that its robot sent in that session, and is delivered once; an answer is the one that was given to it, and
  each frame that was sent ends once;
- a session ends only if its robot ended it, its key was changed, or the attacker kept its datagrams away long enough;
- as long as the attacker only adds datagrams, each robot gets an answer at least every PATIENCE_S, and nobody believes that the link
  loses much; once the attack is over, both get answers again within the same time;
- an address that has proved nothing gets at most three bytes for one, and both sides keep little.

Unsealed, the attacker is a network that reorders, repeats and damages, and strangers who do not see the traffic. Then sessions may
end and frames may come twice, and a robot is back later; all else holds.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from random import Random

import numpy as np

from evitif.protocol.bridge.admission import AMPLIFICATION
from evitif.protocol.bridge.endpoint import BridgeConfig, BridgeEndpoint
from evitif.protocol.edge.connection import EdgeConfig, EdgeConnection
from evitif.protocol.events import (
    AnswerArrived,
    BridgeEvent,
    Connected,
    EdgeEvent,
    FrameExpired,
    FrameReady,
    LinkLost,
    RobotConnected,
    RobotLost,
)
from evitif.protocol.frames.packetiser import TokenFrame
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.wire.answer import Answer
from fuzz.footprint import footprint
from fuzz.parsers import PARAMETERS

PATIENCE_S = 2.0              # without an answer
ONE_WAY_S, TAIL_S, FRAME_S = 0.004, 0.005, 0.1
MOST_BYTES = 3_000_000        # that a side may keep after one input
MOST_LOSS = 0.1               # that may be believed where nothing was kept away
CLOCKS_DIFFER_S = 1000.0      # the bridge's is ahead
AT_ONE_MOMENT = 2000          # events, before it counts as endless
STRANGER = 'stranger'         # a robot of the attacker's, with a key of its own
REMEMBERED = 3000             # datagrams that the attacker keeps, and of each type
_OF_A_TYPE = 64
ROBOT_ADDRESSES = tuple((f'10.0.0.{host}', 4000) for host in range(4))
OTHER_ADDRESSES = tuple((f'10.9.9.{host}', 4000) for host in range(3))
_EDGE = EdgeConfig(min_packets=2, frames_remembered=16)
_BRIDGE = BridgeConfig()
# A robot that comes back from another address waits until its former life counts as gone, and asks once a second meanwhile.
RETURN_S = _BRIDGE.session_timeout_s + 1.0


def rows_of(robot: int, life: int, frame_id: int, row_bytes: int) -> np.ndarray:
    """The tokens of a frame, uint8 [units, row_bytes]: no two frames have a row in common."""
    rows = np.full((PARAMETERS.units, row_bytes), 0xE5, np.uint8)
    rows[:, :5] = robot, life & 255, frame_id >> 8 & 255, frame_id & 255, life >> 8
    rows[:, 5] = np.arange(PARAMETERS.units)
    return rows


class Robot:
    """One robot through its lives."""

    def __init__(self, number: int, name: str, key: Key | None, address: tuple):
        self.number, self.name, self.key, self.address = number, name, key, address
        self.life = -1
        self.frames = 0
        self.edge: EdgeConnection
        self.outcomes: Counter[int] = Counter()       # of this life's frames, by id
        self.sent: dict[int, int] = {}                # stamps of all lives' frames, and in which session they went
        self.next_frame_at = 0.0
        self.disturbed_at = 0.0                       # when something was last kept from it, or it changed
        self.patient_until = 0.0                      # it may be without answers until then
        self.sent_last = self.answered_last = 0       # stamps
        self.up = self.down = 'clean'                 # or 'lossy', 'held'
        self.up_loss = self.down_loss = 0.5


class Network:
    """
    The two robots and the bridge.

    :param sealed: with keys
    :param seed: of what is random in the sides and in the loss
    """

    def __init__(self, sealed: bool, seed: int):
        self.sealed = sealed
        self.now = 10.0
        self.random = Random(seed)
        self._coming: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.robots = [Robot(number, name, Key(bytes([number + 1] * 32)) if sealed else None, ROBOT_ADDRESSES[number])
                       for number, name in enumerate(('rover', 'rover.left'))]
        self.keys = {robot.name: robot.key for robot in self.robots if robot.key}      # the bridge's
        if sealed:
            self.keys[STRANGER] = Key(bytes([9] * 32))
        self.heard: deque[tuple[bytes, bool]] = deque(maxlen=REMEMBERED)      # all that the attacker heard, and whether it goes up
        self.kept: defaultdict[int, deque[bytes]] = defaultdict(lambda: deque(maxlen=_OF_A_TYPE))      # the same by type
        self.held: deque[tuple[bytes, bool, Robot]] = deque(maxlen=REMEMBERED)
        self.others: dict[tuple, EdgeConnection] = {}                         # the attacker's own edges, by address
        self.each_moment: list[Callable[[], None]] = []                       # what the attacker does every few milliseconds
        self.answers: dict[int, tuple] = {}                                   # by stamp
        self.delivered: set[int] = set()                                      # stamps
        self.created: dict[int, tuple[str, Key | None]] = {}                  # sessions, of whom and by which key
        self.said_goodbye: set[int] = set()                                   # sessions that their robots ended
        self.taken: Counter = Counter()                                       # bytes by address that the bridge got and sent
        self.given: Counter = Counter()
        self.proved: set = {*ROBOT_ADDRESSES}
        self.kept_away = False                                                # whether anything that was sent did not arrive
        self.start_bridge()
        for robot in self.robots:
            self.start(robot)
        self.kept_away = False

    # Lives

    def start_bridge(self) -> None:
        """Another life of the bridge."""
        self.bridge = BridgeEndpoint(PARAMETERS, 'bridge', _BRIDGE, keys=RobotKeys(self.keys) if self.sealed else None,
                                     random=Random(self.random.random()))
        for robot in self.robots:
            if robot.life >= 0:
                self.disturb(robot)

    def start(self, robot: Robot) -> None:
        """Another life of a robot."""
        robot.life += 1
        robot.frames = 0
        robot.outcomes.clear()
        robot.edge = EdgeConnection(PARAMETERS, robot.name, _EDGE, key=robot.key, random=Random(self.random.random()))
        robot.next_frame_at = self.now + FRAME_S * (0.5 + 0.5 * robot.number)
        robot.edge.connect(self.now)
        self.disturb(robot)

    def say_goodbye(self, robot: Robot) -> None:
        """A robot ends its session."""
        if robot.edge.session_id is not None:
            self.said_goodbye.add(robot.edge.session_id)
        robot.edge.close(self.now)
        self.collect()

    def disturb(self, robot: Robot) -> None:
        """Something that is not merely an added datagram happens to a robot."""
        elsewhere = not robot.edge.connected and any(
            session.robot == robot.name and session.address in ROBOT_ADDRESSES and session.address != robot.address
            for session in self.bridge.sessions.values())
        patience_s = PATIENCE_S + (RETURN_S if elsewhere or robot.up != 'clean' else 0.0)
        robot.disturbed_at, robot.patient_until = self.now, max(robot.patient_until, self.now + patience_s)
        self.kept_away = True

    def set_keys(self, keys: dict[str, Key]) -> None:
        """Give the bridge other keys."""
        self.keys = keys
        self.bridge.set_keys(RobotKeys(keys))

    def has_right_key(self, robot: Robot) -> bool:
        """Whether robot and bridge have the same key."""
        return not self.sealed or self.keys.get(robot.name) is robot.key

    # Time

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._coming, (self.now + seconds, next(self._order), action))

    def run(self, seconds: float) -> None:
        """Let time pass: frames are sent, datagrams arrive, timers are due."""
        end, moment, steps = self.now + seconds, self.now, 0
        while True:
            self.collect()
            when = min(self._next_timer(), self._coming[0][0] if self._coming else math.inf)
            if when > end:
                break
            steps = 0 if when > moment else steps + 1
            moment = max(moment, when)
            assert steps < AT_ONE_MOMENT, 'it does not come to rest'
            self.now = max(self.now, when)
            while self._coming and self._coming[0][0] <= self.now:
                heapq.heappop(self._coming)[2]()
            for robot in self.robots:
                if robot.next_frame_at <= self.now:
                    self._send_frame(robot)
            for edge in self._edges():
                if (timer := edge.get_timer()) is not None and timer <= self.now:
                    edge.handle_timer(self.now)
            if (timer := self.bridge.get_timer()) is not None and timer <= self.now + CLOCKS_DIFFER_S + 1e-9:
                self.bridge.handle_timer(self.now + CLOCKS_DIFFER_S + 1e-9)
        self.now = end

    def _edges(self) -> list[EdgeConnection]:
        return [*(robot.edge for robot in self.robots), *self.others.values()]

    def _next_timer(self) -> float:
        times = [robot.next_frame_at for robot in self.robots]
        times += [timer for edge in self._edges() if (timer := edge.get_timer()) is not None]
        if (timer := self.bridge.get_timer()) is not None:
            times.append(timer - CLOCKS_DIFFER_S)
        return min(times)

    def _send_frame(self, robot: Robot) -> None:
        robot.next_frame_at = self.now + FRAME_S
        if not self.has_right_key(robot):
            self.disturb(robot)
        elif self.sealed:
            assert self.now <= robot.patient_until, f'{robot.name} gets no answers, and nothing was kept from it'
        robot.frames += 1
        stamp = robot.number << 56 | robot.life << 32 | robot.frames
        kind = 'int4' if robot.frames % 3 == 0 else 'int8'
        rows = rows_of(robot.number, robot.life, robot.frames, PARAMETERS.row_formats[kind])
        session = robot.edge.session_id
        if robot.edge.send_frame(TokenFrame(robot.frames, stamp, robot.name, rows, kind), self.now):
            robot.sent[stamp] = session or 0
            robot.sent_last = stamp

    # The honest network

    def collect(self) -> None:
        """Take what all sides send and say, and judge it."""
        for robot in self.robots:
            for data in robot.edge.datagrams_to_send(self.now):
                self._hear(data, True)
                self._carry(data, True, robot)
            while (event := robot.edge.next_event()) is not None:
                self._judge_edge(robot, event)
        for address, edge in self.others.items():
            for data in edge.datagrams_to_send(self.now):
                self.after(ONE_WAY_S, lambda data=data, address=address: self.to_bridge(data, address))
            while (event := edge.next_event()) is not None:
                assert not (self.sealed and isinstance(event, Connected) and edge.robot != STRANGER), 'connected by another key'
        told = self.bridge.datagrams_to_send(self.now + CLOCKS_DIFFER_S)
        while (event := self.bridge.next_event()) is not None:
            self._judge_bridge(event)
        self.proved.update(session.address for session in self.bridge.sessions.values())
        for data, address in told:
            self.given[address] += len(data)
            self._hear(data, False)
            robot = next((robot for robot in self.robots if robot.address == address), None)
            if robot is not None:
                self._carry(data, False, robot)
            elif address in self.others:
                self.after(ONE_WAY_S, lambda data=data, edge=self.others[address]: edge.receive_datagram(data, self.now))
            if address not in self.proved:
                assert self.given[address] <= AMPLIFICATION * self.taken[address], f'amplification towards {address}'

    def _hear(self, data: bytes, up: bool) -> None:
        self.heard.append((data, up))
        self.kept[data[3]].append(data)

    def _carry(self, data: bytes, up: bool, robot: Robot) -> None:
        policy, loss = (robot.up, robot.up_loss) if up else (robot.down, robot.down_loss)
        if policy == 'held' or policy == 'lossy' and self.random.random() < loss:
            self.disturb(robot)
            if policy == 'held':
                self.held.append((data, up, robot))
        elif up:
            self.after(ONE_WAY_S, lambda address=robot.address: self.to_bridge(data, address))
        else:
            self.after(ONE_WAY_S, lambda edge=robot.edge: edge.receive_datagram(data, self.now))

    def to_bridge(self, data: bytes, address: tuple) -> None:
        """A datagram reaches the bridge."""
        self.taken[address] += len(data)
        self.bridge.receive_datagram(data, address, self.now + CLOCKS_DIFFER_S)

    def to_robot(self, data: bytes, robot: Robot) -> None:
        """A datagram reaches a robot."""
        robot.edge.receive_datagram(data, self.now)

    # What is said

    def _judge_edge(self, robot: Robot, event: EdgeEvent) -> None:
        if isinstance(event, (AnswerArrived, FrameExpired)):
            frame_id = event.sent.frame_id if isinstance(event, AnswerArrived) else event.frame_id
            robot.outcomes[frame_id] += 1
            assert robot.outcomes[frame_id] == 1, f'frame {frame_id} ended twice'
        if isinstance(event, AnswerArrived):
            stamp, answer = event.sent.capture_stamp_ns, event.answer
            assert stamp >> 56 == robot.number and stamp in robot.sent
            said = answer.frame_id, answer.capture_stamp_ns, answer.class_ids, answer.scores
            assert self.answers.get(stamp) == said, f'frame {stamp:x} was answered {self.answers.get(stamp)}, and {said} arrived'
            robot.patient_until = max(robot.patient_until, self.now + PATIENCE_S)
            robot.answered_last = max(stamp, robot.answered_last)
        elif isinstance(event, Connected) and self.sealed:
            name, key = self.created.get(event.session_id, ('nobody', None))
            assert name == robot.name and key is robot.key, f'{robot.name} is in a session of {name}'
        elif isinstance(event, LinkLost) and self.sealed:
            assert self.now <= robot.disturbed_at + _EDGE.link_timeout_s + 0.5, f'{robot.name} lost its link, and nothing was kept from it'

    def _judge_bridge(self, event: BridgeEvent) -> None:
        if isinstance(event, FrameReady):
            self._judge_frame(event.frame)
        elif isinstance(event, RobotConnected):
            self.created[event.session_id] = event.robot, self.keys.get(event.robot)
        elif isinstance(event, RobotLost) and self.sealed and event.robot != STRANGER:
            robot = next(robot for robot in self.robots if robot.name == event.robot)
            own = robot.edge.session_id == event.session_id
            since = self.now - robot.disturbed_at - 0.5
            if not self.has_right_key(robot):
                return
            fair = {'the robot said goodbye': event.session_id in self.said_goodbye, 'the edge was restarted': not own,
                    'its key was changed or taken away': self.created[event.session_id][1] is not self.keys.get(event.robot)}
            timeout = _BRIDGE.session_timeout_s * (1 if event.reason.startswith('silent') else 5)
            assert fair.get(event.reason, not own or since <= timeout), f'{event.robot} lost its session unfairly: {event.reason}'

    def _judge_frame(self, frame: ReceivedFrame) -> None:
        robot = next((robot for robot in self.robots if robot.name == frame.robot), None)
        if robot is None:
            assert frame.session_id in self.bridge.sessions
            return
        stamp = frame.capture_stamp_ns
        assert stamp in robot.sent, f'{frame.robot} did not send frame {stamp:x}'
        assert frame.session_id == robot.sent[stamp], f'frame {stamp:x} came in another session'
        expected = rows_of(robot.number, stamp >> 32 & 0xFFFFFF, frame.frame_id, frame.rows.shape[1])
        assert frame.frame_id == stamp & 0xFFFFFFFF and frame.source_frame == robot.name
        assert (frame.rows[frame.received] == expected[frame.received]).all() and not frame.rows[~frame.received].any(), 'other content'
        if self.sealed:
            assert self.created[frame.session_id] == (robot.name, self.keys.get(robot.name)), 'a frame by a key that was taken away'
            assert stamp not in self.delivered, f'frame {stamp:x} was delivered twice'
        self.delivered.add(stamp)
        answer = Answer(
            frame_id=frame.frame_id, capture_stamp_ns=stamp, class_ids=((frame.frame_id + 3 * robot.number) % PARAMETERS.classes,),
            scores=((stamp * 2654435761 % 65536) / 65536,), strategy='split', recovery='omission', packets_received=frame.packets_received,
            packets_expected=frame.packets_expected, bytes_received=frame.bytes_received, tokens_received=int(frame.received.sum()),
            tokens_expected=len(frame.received), received=frame.received, packet_error_rate=frame.packet_error_rate,
            first_arrival=frame.first_arrival, wait_s=0.0, recovery_s=0.0, tail_s=TAIL_S,
            hold_s=max(0.0, self.now + CLOCKS_DIFFER_S + TAIL_S - frame.first_arrival))
        self.answers[stamp] = frame.frame_id, stamp, answer.class_ids, answer.scores
        self.after(TAIL_S, lambda bridge=self.bridge: bridge.send_answer(frame.session_id, answer, self.now + CLOCKS_DIFFER_S) and None)

    # The end

    def settle(self) -> None:
        """The attack is over: both robots get answers to what they send from now on, soon."""
        self.each_moment.clear()
        self.others.clear()
        self.held.clear()
        lossless = not self.kept_away
        for robot in self.robots:
            robot.up = robot.down = 'clean'
        if self.sealed:
            self.set_keys(self.keys | {robot.name: robot.key for robot in self.robots if robot.key})
        self.collect()
        since = self.now
        waiting = [(robot, robot.sent_last) for robot in self.robots]
        while waiting:
            self.run(0.1)
            waiting = [(robot, stamp) for robot, stamp in waiting if robot.answered_last <= stamp]
            for robot, _ in waiting:
                limit = max(PATIENCE_S, robot.patient_until - since) if self.sealed else PATIENCE_S + RETURN_S
                assert self.now - since <= limit + 0.1, f'{robot.name} has no answer {self.now - since:.1f} s after the attack'
        for robot in self.robots:
            known = robot.edge.statistics
            if self.sealed and lossless:
                loss = max(known.packet_error_rate, known.remote_packet_error_rate)
                assert loss <= MOST_LOSS, f'{robot.name} believes in {100 * loss:.0f} % loss'
        for robot in self.robots:
            self.say_goodbye(robot)

    def check_memory(self) -> None:
        """What the sides keep is little."""
        for side in (self.bridge, *(robot.edge for robot in self.robots)):
            kept = footprint(side)
            assert kept <= MOST_BYTES, f'{type(side).__name__} keeps {kept} bytes'
