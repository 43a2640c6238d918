"""How long to wait for a frame's missing packets, learnt from how packets arrive.

The edge sends a frame's packets back to back and in order. So there are two waits:

* Grace: the frame's last packet, or a packet of a newer frame, has arrived, so the rest is lost or was overtaken. A packet that
  comes after one with a higher index shows by how much; the grace follows the largest recent lag.
* Quiet: nothing has come for several times the usual gap, so the frame's end is lost or held up. The quiet time follows the mean
  gap and the longest recent silence after which a frame went on.

A packet that comes after its frame was delivered proves the wait too short, and raises it. Raised waits decay frame by frame, so
that one hiccup does not cost for long. Both waits have floors; the frame's deadline is their ceiling.
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
        """Wait since the frame's end was seen."""
        return min(max(GRACE_FLOOR_S, _MARGIN * self._lag), self._deadline)

    @property
    def quiet_s(self) -> float:
        """Wait since the frame's last arrival."""
        # While packets may still be overtaken, silence is not the end either.
        learnt = max(_QUIET_GAPS * self._gap, _MARGIN * self._silence, self.grace_s)
        return min(max(self._quiet_floor, learnt), self._deadline)

    def gap(self, seconds: float) -> None:
        """A packet came `seconds` after the one before it, both of one frame."""
        self._gap += _GAP_GAIN * (seconds - self._gap)
        self.silence(seconds)

    def together(self, packets: int) -> None:
        """`packets` more came at the same time."""
        self._gap *= (1 - _GAP_GAIN) ** packets

    def overtaken(self, seconds: float) -> None:
        """A packet came `seconds` after one with a higher index, or after the frame's grace had begun."""
        self._lag = max(self._lag, min(seconds, self._deadline))

    def silence(self, seconds: float) -> None:
        """A frame went on after this silence, whether or not that had been taken for its end."""
        self._silence = max(self._silence, min(seconds, self._deadline))

    def frame_ended(self) -> None:
        """Let what was raised decay."""
        self._lag *= _DECAY
        self._silence *= _DECAY
