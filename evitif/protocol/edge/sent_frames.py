"""The frames that wait for their answers. Each leaves exactly once: answered, or expired. Before it expires it may be overdue: its answer
can no longer be expected, though it is still taken if it comes."""

import math
from collections import OrderedDict

from evitif.bounded import BoundedDict
from evitif.protocol.edge.answer_times import AnswerTimes
from evitif.protocol.events import FrameOverdue, SentFrame
from evitif.protocol.wire.datagram import DatagramError
from evitif.protocol.wire.map_part import MapPart

ANSWERED_REMEMBERED = 256
PARTS_REMEMBERED = 2048


class SentFrames:
    """The frames that an edge has sent.

    :param most: that wait; the oldest makes room for a newer one
    :param deadline_s: from being sent to expiring
    """

    def __init__(self, most: int, deadline_s: float):
        self._most, self._deadline = most, deadline_s
        self._waiting: OrderedDict[int, SentFrame] = OrderedDict()          # by frame id, oldest first
        self._expected: OrderedDict[int, SentFrame] = OrderedDict()         # those that are not overdue
        self._times = AnswerTimes()
        self._answered_until = -math.inf                                    # when the newest that was answered had been sent
        self._answered: BoundedDict[tuple[int, int], float] = BoundedDict(ANSWERED_REMEMBERED)      # when each would have expired
        self._parts: BoundedDict[tuple, None] = BoundedDict(PARTS_REMEMBERED)                       # of maps, that came

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, frame: SentFrame) -> SentFrame | None:
        """Let a frame wait. Returns the one that has to make room, which expires."""
        place = frame.frame_id if frame.frame_id in self._waiting or len(self._waiting) < self._most else next(iter(self._waiting))
        former = self._waiting.pop(place, None)
        self._expected.pop(place, None)
        self._waiting[frame.frame_id] = self._expected[frame.frame_id] = frame
        return former

    def due_at(self) -> float:
        """When the oldest is overdue or expires; infinite where none waits."""
        return min(self._expires_at(), self._overdue_at())

    def _expires_at(self) -> float:
        return next(iter(self._waiting.values())).sent_at + self._deadline if self._waiting else math.inf

    def _overdue_at(self) -> float:
        if not self._expected:
            return math.inf
        oldest = next(iter(self._expected.values()))
        overtaken = oldest.sent_at < self._answered_until
        return oldest.sent_at + (self._times.overtaken_s if overtaken else self._times.longest_s)

    def overdue(self, now: float) -> list[FrameOverdue]:
        """What to say of those whose answers can no longer be expected by `now`; it is said once of each."""
        found = []
        while self._expected and now >= self._overdue_at():
            frame = self._expected.popitem(last=False)[1]
            found.append(FrameOverdue(frame.frame_id, frame.capture_stamp_ns))
        return found

    def expired(self, now: float) -> list[SentFrame]:
        """Take those that have expired by `now`; all, if that is infinite."""
        frames = []
        while self._waiting and now >= self._expires_at():
            frame_id, frame = self._waiting.popitem(last=False)
            self._expected.pop(frame_id, None)
            frames.append(frame)
        return frames

    def take(self, frame_id: int, capture_stamp_ns: int, now: float) -> SentFrame:
        """The frame that was answered by `now`. Raises `DatagramError`: 'answer_copy' (answered already), 'late' (it does not wait)."""
        frame = self._waiting.get(frame_id)
        if frame is None or frame.capture_stamp_ns != capture_stamp_ns:
            raise DatagramError('answer_copy' if (frame_id, capture_stamp_ns) in self._answered else 'late')
        del self._waiting[frame_id]
        self._expected.pop(frame_id, None)
        self._times.add(now - frame.sent_at)
        self._answered_until = max(self._answered_until, frame.sent_at)
        self._answered[frame_id, capture_stamp_ns] = frame.sent_at + self._deadline
        return frame

    def take_part(self, part: MapPart, now: float) -> MapPart:
        """A part of a map of a frame whose deadline is not over. Raises `DatagramError`: 'answer_copy' (it came already), 'late'."""
        frame, place = self._waiting.get(part.frame_id), (*part.map_key, part.index)
        due = self._answered.get((part.frame_id, part.capture_stamp_ns), -math.inf)
        if frame is not None and frame.capture_stamp_ns == part.capture_stamp_ns:
            due = frame.sent_at + self._deadline
        if now >= due:
            raise DatagramError('late')
        if place in self._parts:
            raise DatagramError('answer_copy')
        self._parts[place] = None
        return part
