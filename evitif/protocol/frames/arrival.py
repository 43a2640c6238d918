"""How long it is worth waiting for a frame's missing packets, learnt from how packets arrive.

The edge sends a frame's packets back to back and in order. Two waits follow from that.

* Grace: the last packet of the frame, or a packet of a newer frame, has arrived, so the rest is lost or was overtaken.
  Overtaking shows: a packet that comes after one with a higher index tells by how much. The grace follows the largest
  such lag of late.
* Quiet: nothing has come for several times the usual gap, so the frame's end is lost, or its packets are held up. The
  quiet time follows the mean gap and the longest silence of late after which a frame went on.

A packet that comes when its frame has been delivered proves the wait that ended too short, and raises it above what
would have sufficed. What was raised decays, frame by frame, so that one hiccup does not cost for long. Both waits have
floors, and the frame's deadline is their ceiling.
"""

GRACE_FLOOR_S = 0.002
QUIET_FLOOR_S = 0.005
_GAP_GAIN = 1 / 16
_QUIET_GAPS = 8
_MARGIN = 1.25           # above what would just have sufficed
_DECAY = 0.97            # of what was raised, for each frame: half is gone after 23 frames


class ArrivalEstimator:
    """The two waits of one stream, seconds."""

    def __init__(self, deadline_s: float, *, quiet_floor_s: float = QUIET_FLOOR_S):
        self._deadline = deadline_s
        self._quiet_floor = quiet_floor_s
        self._gap = 0.0              # mean time between a frame's consecutive arrivals
        self._lag = 0.0              # how far behind a higher index packets come: decaying maximum
        self._silence = 0.0          # a silence that was not the end: decaying maximum

    @property
    def grace_s(self) -> float:
        return min(max(GRACE_FLOOR_S, _MARGIN * self._lag), self._deadline)

    @property
    def quiet_s(self) -> float:
        # While packets may still be overtaken, silence does not mean the end either.
        learnt = max(_QUIET_GAPS * self._gap, _MARGIN * self._silence, self.grace_s)
        return min(max(self._quiet_floor, learnt), self._deadline)

    def gap(self, seconds: float) -> None:
        """A packet came so long after the one before it, both of the same frame."""
        self._gap += _GAP_GAIN * (seconds - self._gap)
        self.silence(seconds)

    def together(self, packets: int) -> None:
        """So many more packets came at the same time."""
        self._gap *= (1 - _GAP_GAIN) ** packets

    def overtaken(self, seconds: float) -> None:
        """A packet came so long after one of a higher index of its frame, or after the frame's grace had begun."""
        self._lag = max(self._lag, min(seconds, self._deadline))

    def silence(self, seconds: float) -> None:
        """A frame went on after such a silence, whether or not that was taken for its end."""
        self._silence = max(self._silence, min(seconds, self._deadline))

    def frame_ended(self) -> None:
        self._lag *= _DECAY
        self._silence *= _DECAY
