"""What the edge's and the bridge's state machines tell their owners, through `next_event()`."""

from collections.abc import Mapping
from dataclasses import dataclass

from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.protocol.wire.answer import Answer
from evitif.protocol.wire.datagram import Address
from evitif.protocol.wire.map_part import MapPart


@dataclass(frozen=True)
class SentFrame:
    """What the edge remembers of a frame that it sent."""

    frame_id: int
    capture_stamp_ns: int
    sent_at: float           # seconds on the edge's clock
    packets: int
    bytes: int               # UDP payload
    tokens: int              # that were sent, prefix tokens included


@dataclass(frozen=True)
class Connected:
    """The bridge has accepted the edge, or is heard again in the same session after `LinkLost`."""

    session_id: int
    bridge: str


@dataclass(frozen=True)
class Refused:
    """The bridge has refused the edge, for another reason than last time. The edge goes on asking, slowly."""

    reason: str


@dataclass(frozen=True)
class LinkLost:
    """The bridge fell silent, said goodbye, or forgot the session. The edge goes on asking."""

    silent_s: float


@dataclass(frozen=True, eq=False)
class AnswerArrived:
    """The first copy of a frame's answer. Each sent frame ends in one `AnswerArrived` or one `FrameExpired`."""

    answer: Answer
    sent: SentFrame
    round_trip_s: float      # frame sent to answer received, the edge's clock
    uplink_s: float          # frame sent to its first packet at the bridge; never negative, NaN when unknown
    downlink_s: float        # answer sent to answer received, the same
    copies_bytes: int        # of all copies that the bridge sends of this answer, UDP payload


@dataclass(frozen=True)
class MapArrived:
    """The first copy of a part of a map of a frame that was sent at most the deadline before, answered yet or not."""

    part: MapPart


@dataclass(frozen=True)
class FrameExpired:
    """No answer came by the deadline, or none can come any more."""

    frame_id: int
    capture_stamp_ns: int


@dataclass(frozen=True)
class FrameOverdue:
    """A frame's answer can no longer be expected, by what answers have taken, though the deadline has not passed. It may still come."""

    frame_id: int
    capture_stamp_ns: int


@dataclass(frozen=True)
class DatagramSize:
    """Frames travel in datagrams of another size. Smaller than before: the path swallows larger ones. The same: it swallows these too,
    and a row fits into no smaller one; once these arrive again, `before` is 0.
    """

    size: int                # bytes of UDP payload, at most
    before: int


@dataclass(frozen=True)
class MarksDropped:
    """The path drops datagrams that are marked for ECN, so that none is marked any more; or it takes them again."""

    dropped: bool


@dataclass(frozen=True)
class RobotConnected:
    """A robot has a session."""

    session_id: int
    robot: str
    address: Address
    device: str = ''         # of a partition: which one it is


@dataclass(frozen=True)
class RobotRefused:
    """A robot asked and was refused, for another reason than last time."""

    robot: str
    address: Address
    reason: str


@dataclass(frozen=True)
class RobotLost:
    """A robot's session has ended."""

    session_id: int
    robot: str
    reason: str
    device: str = ''


@dataclass(frozen=True)
class AnswerSize:
    """A robot's answers have another size: the path swallows larger ones. The same: it swallows these too, and nothing smaller holds an
    answer; once these arrive again, `before` is 0.
    """

    session_id: int
    robot: str
    size: int                # bytes of UDP payload, at most
    before: int


@dataclass(frozen=True)
class HeadsLeftOut:
    """What these heads say did not fit into an answer, and was not sent."""

    session_id: int
    robot: str
    heads: Mapping[str, int]        # by name, bytes of what it says


@dataclass(frozen=True)
class RobotMoved:
    """A robot has proved to be at another address; its session goes on there."""

    session_id: int
    robot: str
    address: Address
    device: str = ''


@dataclass(frozen=True, eq=False)
class FrameReady:
    """A frame for the tail, complete or not."""

    frame: ReceivedFrame


@dataclass(frozen=True, eq=False)
class FrameLate:
    """A device's frame whose joint frame was handed on without it."""

    robot: str
    frame: ReceivedFrame


@dataclass(frozen=True)
class StampRefused:
    """A device's frame cannot be joined with the others' by its stamp; `reason` names both stamps, and what was expected."""

    robot: str
    device: str
    session_id: int
    capture_stamp_ns: int
    reason: str


@dataclass(frozen=True, eq=False)
class FramesJoined:
    """The frames of one image that came in time from the devices of a robot, at least one."""

    robot: str
    number: int                              # of the robot's joint frames, counted from its first device's arrival
    capture_stamp_ns: int
    frames: Mapping[str, ReceivedFrame]      # by device
    connected: frozenset[str]                # devices


EdgeEvent = Connected | Refused | LinkLost | AnswerArrived | MapArrived | FrameOverdue | FrameExpired | DatagramSize | MarksDropped
JoinEvent = FramesJoined | FrameLate | StampRefused
BridgeEvent = RobotConnected | RobotRefused | RobotMoved | RobotLost | AnswerSize | HeadsLeftOut | FrameReady | JoinEvent
