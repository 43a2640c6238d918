"""Whether an edge's datagrams are marked ECT(1), so that a queue that can says that it grows (RFC 9331).

A few paths drop what is marked. So marks are tried, as in QUIC (RFC 9000, section 13.4.2 and appendix A.4), and taken off again where
nothing gets through with them and something does without:

* HELLO is not marked. Marks begin with the first report of a PING that had none.
* If nothing is reported for 0.4 s, a round trip after they began, marks are taken off. The next reports tell: if one is of a PING that
  was marked, they pass. If three are of PINGs that were not, marks are tried once more. The path drops them if this happens twice in a
  row, and as many PINGs were marked as would not all be lost by chance, as often as those without marks are reported.
* Then nothing is marked. A session that begins, or is back, at least a minute later tries again; after each failure it takes twice as
  long, at most an hour.

A path that removes the mark (bleaching) changes nothing: no marks come, and what is lost is judged as without.
"""

import math
from collections import deque
from collections.abc import Callable

from evitif.protocol.events import MarksDropped
from evitif.protocol.rate.report import Report

SILENT_S, SILENT_SHARE, SILENT_PINGS = 0.4, 0.4, 3      # at least; of what ends a link; PINGs without a report
MOST_SILENCES, REPORTS, CHANCE = 2, 3, 1e-3
AGAIN_S, MOST_AGAIN_S = 60.0, 3600.0
_CHANGES = 8                 # that are remembered; reports of PINGs from before tell nothing


class Marking:
    """Tries the marks of one edge.

    :param wanted: whether to mark at all
    :param link_timeout_s: silence after which the link counts as lost
    :param say: takes an event
    """

    def __init__(self, wanted: bool, link_timeout_s: float, say: Callable[[MarksDropped], None]):
        self.on = False
        self._wanted, self._say = wanted, say
        self._silent_s = min(SILENT_S, SILENT_SHARE * link_timeout_s)
        self._changes: deque[tuple[float, bool]] = deque([(-math.inf, False)], maxlen=_CHANGES)      # when, and to what
        self._reported_at, self._round_trip = -math.inf, 0.0
        self._pings = 0                      # since the last report or change
        self._dropped = self._said = False
        self._again_at, self._again_after = -math.inf, AGAIN_S
        self._begin()

    def _begin(self) -> None:
        """Marks pass, as far as is known."""
        self._silences = 0                   # in a row, in which nothing marked was reported
        self._marked = 0                     # PINGs, not reported
        self._plain = self._plain_reported = self._reports = 0      # unmarked PINGs; of these, reported; since marks were taken off

    def restart(self, now: float) -> None:
        """A session begins, or is back after a silence: the path may be another."""
        if self.on:
            self._silences += 1
        if self._dropped and now >= self._again_at:
            self._dropped = False
            self._begin()
        self._set(False, now)

    def on_ping(self, now: float) -> None:
        """A PING is about to go out."""
        if self.on and self._pings >= SILENT_PINGS and now - self._reported_at > self._silent_s \
                and now - self._changes[-1][0] > self._silent_s + self._round_trip:
            self._silences += 1
            self._set(False, now)
        self._pings += 1
        if self.on:
            self._marked += 1
        else:
            self._plain += 1

    def on_report(self, report: Report, now: float) -> None:
        """A PING was reported."""
        self._reported_at, self._round_trip, self._pings = now, report.round_trip_s, 0
        if next((on for when, on in reversed(self._changes) if report.sent_at >= when), False):
            self._begin()
            self._again_after = AGAIN_S
            if self._said:
                self._dropped = self._said = False
                self._say(MarksDropped(False))
        else:
            self._plain_reported, self._reports = self._plain_reported + 1, self._reports + 1
        if self.on or self._dropped or not self._wanted or self._silences and self._reports < REPORTS:
            return
        reported = self._plain_reported / (self._plain + 2)
        if self._silences >= MOST_SILENCES and (1 - reported) ** self._marked < CHANCE:
            self._dropped, self._again_at = True, now + self._again_after
            self._again_after = min(2 * self._again_after, MOST_AGAIN_S)
            if not self._said:
                self._said = True
                self._say(MarksDropped(True))
        else:
            self._set(True, now)

    def _set(self, on: bool, now: float) -> None:
        if on != self.on:
            self.on, self._pings, self._reports = on, 0, 0
            self._changes.append((now, on))
