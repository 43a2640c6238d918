"""What an edge's connection shows of itself; nothing here changes it."""

from __future__ import annotations

import math

from evitif.protocol.edge.frame_sender import FrameSender, UplinkState
from evitif.protocol.edge.hello import Hellos
from evitif.protocol.edge.sent_frames import SentFrames
from evitif.protocol.edge.session import EdgeSession
from evitif.protocol.rate.statistics import LinkStatistics, Traffic
from evitif.vocabulary import LinkState


class EdgeView:
    """The state of an `EdgeConnection`, which is the only one to set what is named here."""

    _state: LinkState
    _session: EdgeSession | None
    _latest: EdgeSession
    _hellos: Hellos
    _sender: FrameSender
    _sent: SentFrames
    _traffic: Traffic

    @property
    def connected(self) -> bool:
        """Whether frames are sent."""
        return self._state == LinkState.CONNECTED

    @property
    def state(self) -> LinkState:
        """The state of the link."""
        return self._state

    @property
    def session_id(self) -> int | None:
        """The session's random id; None where there is none."""
        return None if self._session is None else self._session.session_id

    @property
    def sealed(self) -> bool:
        """Whether the link is sealed."""
        return self._hellos.sealed

    @property
    def longest_name(self) -> int:
        """The bytes that the name of a frame's source may take."""
        return self._sender.longest_name

    @property
    def statistics(self) -> LinkStatistics:
        """Counts since the start, and figures of the latest session."""
        self._traffic.frames['cut'] = self._sender.frames_cut
        clock = self._latest.clock
        return self._traffic.snapshot(self._latest.tracker, self._latest.remote, round_trip_s=clock.round_trip_s,
                                      round_trip_variation_s=clock.round_trip_variation_s, clock_offset_s=clock.offset_s)

    @property
    def uplink(self) -> UplinkState:
        """The state of the path and the size of frame that it allows, as last known; any thread may read it without a lock."""
        return self._sender.uplink

    @property
    def probes_at(self) -> float:
        """When a PING should have been answered that was not; infinite where all were."""
        return math.inf if self._session is None else self._session.probes_at

    @property
    def waiting(self) -> int:
        """Frames that wait for their answers."""
        return len(self._sent)

    def suspects(self, now: float) -> bool:
        """Whether the bridge seems to be gone, sooner than the link counts as lost."""
        return self._session is not None and self._session.suspicious(now)
