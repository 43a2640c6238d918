"""Joins the frames that several devices make of one image, by capture stamp (strategy `partition`).

The devices of a robot are a group: their links are named `<robot>.<device>`. Each sends its part of an image as a frame of its
own. A joint frame is handed on

1. complete, when every device that it waits for has delivered;
2. at its deadline, counted from the first packet of its first frame;
3. with a newer one that is handed on, since each device sends in order;
4. when its place among JOINTS_IN_FLIGHT of its group is needed.

It waits for each connected device, except one that missed the last PATIENCE joint frames of its group. A device that delivers
within the deadline, even after a joint frame that did not wait for it, is waited for again. So a dead device costs the
others a few deadlines until its session ends, a slow one costs them nothing, and a restarted one counts from its first frame on.

A frame that is not newer than the last joint frame is late: counted and not used. If one of the last HANDED_ON joint frames was its
image's, `FrameLate` says so, and its device can be given the others' answer. After ORDER_MEMORY_S without a joint frame any stamp is
taken, which lets a camera through whose clock was set back. Frames whose stamps do not identify their image are refused, and one whose
stamp is far from all other devices' is handed on alone at its deadline, and makes no other late (`stamps`). Memory is bounded by the
sessions: a group is kept while one of its devices is connected.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from evitif.protocol.bridge.config import BridgeConfig
from evitif.protocol.bridge.endpoint import BridgeEndpoint
from evitif.protocol.bridge.stamps import DeviceStamps, objection, stands_apart
from evitif.protocol.events import BridgeEvent, FrameLate, FrameReady, FramesJoined, JoinEvent, RobotConnected, RobotLost, StampRefused
from evitif.protocol.frames.reassembly import ORDER_MEMORY_S, ReceivedFrame
from evitif.protocol.wire.datagram import Address, Buffer
from evitif.protocol.wire.link_names import group_of
from evitif.protocol.wire.parameters import StreamParameters, check_seconds
from evitif.settings import PartitionBridgeSettings

JOINTS_IN_FLIGHT = 4
DEADLINE_S = PartitionBridgeSettings.join_deadline
PATIENCE = 3                 # joint frames without a device until they no longer wait for it
HANDED_ON = 16               # joint frames whose late frames are recognised


@dataclass
class _Member:
    """A connected device."""

    session_id: int
    stamps: DeviceStamps
    missed: int = 0          # joint frames in a row of which it delivered nothing in time


@dataclass
class _Joint:
    """A joint frame in flight."""

    stamp: int
    first_arrival: float
    frames: dict[str, ReceivedFrame] = field(default_factory=dict)       # by device


@dataclass
class _Group:
    members: dict[str, _Member] = field(default_factory=dict)            # by device
    joints: list[_Joint] = field(default_factory=list)                   # in flight, by stamp, oldest first
    apart: list[_Joint] = field(default_factory=list)                    # in flight, of one device each, with stamps far from all others'
    handed_on: deque[_Joint] = field(default_factory=lambda: deque(maxlen=HANDED_ON))
    handed_on_at: float = -math.inf
    count: int = 0                                                       # of those handed on
    joined: int = 0                                                      # devices, those that have left included

    def joint_of(self, frame: ReceivedFrame) -> _Joint:
        """The joint frame in flight that a frame belongs to; a new one where there is none."""
        for joint in self.joints:
            if joint.stamp == frame.capture_stamp_ns:
                return joint
        joint = next((joint for joint in self.apart if joint.stamp == frame.capture_stamp_ns), None)      # that all clocks have now
        if joint is None:
            joint = _Joint(frame.capture_stamp_ns, frame.first_arrival)
        else:
            self.apart.remove(joint)
        self.joints.append(joint)
        self.joints.sort(key=lambda joint: joint.stamp)
        return joint

    def is_late(self, stamp: int, now: float) -> bool:
        return bool(self.handed_on) and stamp <= self.handed_on[-1].stamp and now - self.handed_on_at <= ORDER_MEMORY_S


class Joiner:
    """Joins the frames of any number of groups, without clock. The owner says who is there, passes in frames as they become ready,
    calls `handle_timer` at `get_timer`, and takes joint frames until there are none.

    :param deadline_s: from the first packet of a joint frame until it is handed on with what it has, seconds
    """

    def __init__(self, deadline_s: float = DEADLINE_S):
        self._deadline = check_seconds('deadline_s', deadline_s)
        self._groups: dict[str, _Group] = {}
        self._sessions: dict[int, tuple[str, str]] = {}      # group and device
        self._ready: deque[JoinEvent] = deque()
        self.counts: Counter[str] = Counter()                # joint frames complete, partial; frames late, duplicate, refused

    def join(self, group: str, device: str, session_id: int) -> None:
        """A device is connected, for the first time or again."""
        joined = self._groups.setdefault(group, _Group())
        members = joined.members
        if device in members:
            self._sessions.pop(members[device].session_id, None)
        members[device] = _Member(session_id, DeviceStamps(joined.joined))
        joined.joined += 1
        self._sessions[session_id] = group, device

    def leave(self, session_id: int, now: float) -> None:
        """A device's session has ended; nothing where another session has replaced it."""
        if session_id not in self._sessions:
            return
        name, device = self._sessions.pop(session_id)
        group = self._groups[name]
        del group.members[device]
        if group.members:
            self._hand_on_complete(name, group, now)
        else:
            self._hand_on(name, group, len(group.joints), now)
            self._hand_on_apart(name, group, len(group.apart))
            del self._groups[name]

    def receive(self, frame: ReceivedFrame, now: float) -> None:
        """Take one device's frame."""
        if frame.session_id not in self._sessions:
            self.counts['late'] += 1
            return
        name, device = self._sessions[frame.session_id]
        group = self._groups[name]
        member = group.members[device]
        stamps = {name: other.stamps for name, other in group.members.items()}
        if reason := objection(stamps, device, frame.capture_stamp_ns, frame.frame_id, now):
            self.counts['refused'] += 1
            self._ready.append(StampRefused(name, device, frame.session_id, frame.capture_stamp_ns, reason))
            return
        if stands_apart(stamps, device, frame.capture_stamp_ns, now):
            group.apart.append(_Joint(frame.capture_stamp_ns, frame.first_arrival, {device: frame}))
            self._hand_on_apart(name, group, len(group.apart) - JOINTS_IN_FLIGHT)
            return
        if group.is_late(frame.capture_stamp_ns, now):
            for joint in group.handed_on:
                if joint.stamp == frame.capture_stamp_ns:
                    self._ready.append(FrameLate(name, frame))
                    if now <= joint.first_arrival + self._deadline:
                        member.missed = 0
            self.counts['late'] += 1
            return
        joint = group.joint_of(frame)
        if device in joint.frames:
            self.counts['duplicate'] += 1       # a restarted device's: only the newer one can be answered
        joint.first_arrival = min(joint.first_arrival, frame.first_arrival)
        joint.frames[device] = frame
        member.missed = 0
        self._hand_on_complete(name, group, now)
        self._hand_on(name, group, len(group.joints) - JOINTS_IN_FLIGHT, now)

    def get_timer(self) -> float | None:
        """When to call `handle_timer`, on the clock of the frames' arrival; None: nothing is in flight."""
        return min((joint.first_arrival + self._deadline for group in self._groups.values() for joint in (*group.joints, *group.apart)),
                   default=None)

    def handle_timer(self, now: float) -> None:
        """Hand on the joint frames whose time has come."""
        for name, group in self._groups.items():
            due = [index for index, joint in enumerate(group.joints, 1) if joint.first_arrival + self._deadline <= now]
            self._hand_on(name, group, max(due, default=0), now)
            self._hand_on_apart(name, group, sum(joint.first_arrival + self._deadline <= now for joint in group.apart))

    def next_joint(self) -> JoinEvent | None:
        """The next joint frame, or a frame that is late or cannot be joined; or None."""
        return self._ready.popleft() if self._ready else None

    def _hand_on_complete(self, name: str, group: _Group, now: float) -> None:
        awaited = {device for device, member in group.members.items() if member.missed < PATIENCE}
        whole = [index for index, joint in enumerate(group.joints, 1) if awaited <= joint.frames.keys()]
        self._hand_on(name, group, max(whole, default=0), now)

    def _hand_on(self, name: str, group: _Group, count: int, now: float) -> None:
        """Hand on the oldest `count` joint frames."""
        for _ in range(count):
            joint = group.joints.pop(0)
            absent = group.members.keys() - joint.frames.keys()
            for device in absent:
                group.members[device].missed += 1
            self._emit(name, group, joint)
            group.handed_on.append(_Joint(joint.stamp, joint.first_arrival))
            group.handed_on_at = now

    def _hand_on_apart(self, name: str, group: _Group, count: int) -> None:
        """Hand on the oldest `count` frames that are joined with none."""
        for _ in range(count):
            self._emit(name, group, group.apart.pop(0))

    def _emit(self, name: str, group: _Group, joint: _Joint) -> None:
        self.counts['partial' if group.members.keys() - joint.frames.keys() else 'complete'] += 1
        self._ready.append(FramesJoined(name, group.count, joint.stamp, joint.frames, frozenset(group.members)))
        group.count += 1


class JoiningEndpoint(BridgeEndpoint):
    """A bridge of devices: `FramesJoined`, `FrameLate` and `StampRefused` instead of `FrameReady`; `join_deadline_s`: see `Joiner`."""

    def __init__(self, parameters: Sequence[StreamParameters], name: str, config: BridgeConfig | None = None, *,
                 join_deadline_s: float = DEADLINE_S, **options):
        super().__init__(parameters, name, config, **options)
        self.joiner = Joiner(join_deadline_s)
        self._joined: deque[BridgeEvent] = deque()

    def next_event(self) -> BridgeEvent | None:
        """The next event, or None."""
        return self._joined.popleft() if self._joined else None

    def receive_datagram(self, data: Buffer, addr: Address, now: float, arrived_at: float | None = None, ecn: int = 0) -> None:
        """See `BridgeEndpoint`."""
        super().receive_datagram(data, addr, now, arrived_at, ecn)
        self._join(now)

    def receive_run(self, datagrams: np.ndarray, addr: Address, now: float, arrived_at: float | None = None, ecn: int = 0) -> None:
        """See `BridgeEndpoint`."""
        super().receive_run(datagrams, addr, now, arrived_at, ecn)
        self._join(now)

    def get_timer(self) -> float | None:
        """When to call `handle_timer` next."""
        return min((timer for timer in (super().get_timer(), self.joiner.get_timer()) if timer is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Do what has become due."""
        super().handle_timer(now)
        self._join(now)
        self.joiner.handle_timer(now)
        self._take_joint()

    def close(self, now: float) -> None:
        """Say goodbye to all devices."""
        super().close(now)
        self._join(now)

    def _join(self, now: float) -> None:
        while (event := super().next_event()) is not None:
            if isinstance(event, FrameReady):
                self.joiner.receive(event.frame, now)
            else:
                if isinstance(event, RobotConnected):
                    self.joiner.join(group_of(event.robot, event.device), event.device, event.session_id)
                elif isinstance(event, RobotLost):
                    self.joiner.leave(event.session_id, now)
                self._joined.append(event)
            self._take_joint()

    def _take_joint(self) -> None:
        while (joint := self.joiner.next_joint()) is not None:
            self._joined.append(joint)
