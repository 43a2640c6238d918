"""Whether loss without delay follows the rate: a policer or a short queue loses what is too much, a radio loses a share of anything.

When more is lost than a radio is known to lose here, less is sent for a moment. If the share that passes stays, the loss is the radio's
from now on, and is tried again when it grows, or after half a minute, a minute, and so on. If it rises, and falls again with the rate
of before, the bottleneck is full. (Without the way back, a radio that was bad for a moment would be taken for a full bottleneck.)
"""

import math

from evitif.protocol.rate.report import Report, lost_between

LESS = 0.7                   # of the rate used, in a trial
RISE = 0.05                  # of the share lost, which starts one
FEW, FIRST = 6, 100          # datagrams without frames that tell a little, and enough, of what the radio loses
DATAGRAMS, TRIAL_S, LONGEST_S = 60, 0.2, 1.0
BUSY_BYTES, IDLE_S = 3000, 0.25      # of an interval, more than PINGs alone; less for that time is no frame
SOON_S, AGAIN_S = 10.0, 30.0      # after which the loss of a radio is tried again, then after twice that time
CONFIRM_S = 1.5              # within which the loss has to be back
LONGEST_RUN = 6.0            # of losses on a radio; a full queue loses more in a row
_KEEP = 0.85                 # of the counts of former intervals


class LossTrial:
    """Follows the loss of one session. `trusted`: the share lost that does not depend on the rate."""

    def __init__(self):
        self.trusted = 0.0
        self.resume_bit_s = 0.0      # the rate before the trial that runs; 0: none runs
        self._risen = 0              # intervals in a row in which more was lost
        self._base_burst = math.nan
        self._base = 0.0             # datagrams that `trusted` rests on
        self._expected = self._lost = 0.0
        self._used = self._before = self._began_at = self._until = 0.0
        self._last: Report | None = None
        self._sent = self._took = self._idle_s = 0.0
        self._again_at, self._again_after = math.inf, AGAIN_S
        self._verdict, self._confirm_until, self._confirm_above = 0.0, -math.inf, 0.0
        self._first_sent_at = 0.0
        self._queued = 0             # intervals of the trial in which others filled the queue, less those in which nobody did
        self._rest_until = -math.inf

    @property
    def running(self) -> bool:
        """Whether less is sent because of a trial."""
        return self.resume_bit_s > 0

    def suspects(self, expected: int, missing: int, sent_bytes: int, elapsed: float, mean_burst: float, now: float) -> bool:
        """Note an interval without a trial; whether one should begin. `missing` is negative where more came late than was lost."""
        self._expected = _KEEP * self._expected + expected
        self._lost = max(_KEEP * self._lost + missing, 0.0)
        began = self._idle_s > IDLE_S and sent_bytes >= BUSY_BYTES
        self._idle_s = 0.0 if sent_bytes >= BUSY_BYTES else self._idle_s + elapsed
        if began or self._idle_s > IDLE_S:      # no frames are sent: what was used with them counts
            self._sent = self._took = 0.0
        else:
            self._sent, self._took = _KEEP * self._sent + sent_bytes, _KEEP * self._took + elapsed
        if sent_bytes < BUSY_BYTES and self._base < FIRST:      # what is lost while next to nothing is sent is the radio's
            self.trusted = (self._base * self.trusted + max(missing, 0)) / max(self._base + expected, 1)
            self._base += expected
            self._base_burst = mean_burst
            self._again_at = now + (AGAIN_S if self._base > FEW else SOON_S)
        if now <= self._confirm_until:
            return self._expected >= DATAGRAMS / 2 and self._lost > self._confirm_above * self._expected
        if self._expected < DATAGRAMS or self._took < IDLE_S or now < self._rest_until:
            return False
        share = self._lost / self._expected
        if share < self.trusted:
            self.trusted += (share - self.trusted) / 8
        if now >= self._again_at and min(share, self.trusted) > 2 * RISE:      # what was taken for the radio's
            return True
        # Frames may come as soon as there is a session: then nothing is known of the radio alone, and any loss is worth a trial.
        known = deviation(self.trusted, self._base, self._base_burst) if self._base else 0.0
        doubt = math.hypot(deviation(share, self._expected, mean_burst), known)
        self._risen = self._risen + 1 if share > self.trusted + RISE + 3 * doubt else 0
        return self._risen >= 2

    def risen_by(self) -> float:
        """How much more is lost than `trusted`, as a share."""
        return self._lost / max(self._expected, 1.0) - self.trusted

    def verdict(self, now: float) -> float:
        """The rate that the last trial has found, bit/s, if more was lost again as soon as it was over; else 0."""
        if now > self._confirm_until:
            return 0.0
        self._again_after, self._again_at, self._confirm_until = AGAIN_S, math.inf, -math.inf
        self._base = max(self._base, 10 * FIRST)      # its loss follows the rate: look closer from now on
        self._expected = self._lost = self._sent = self._took = 0.0
        return self._verdict

    def begin(self, rate_bit_s: float, now: float) -> float:
        """A trial begins; returns its rate, bit/s."""
        self._used = min(8 * self._sent / self._took, rate_bit_s)
        self.resume_bit_s, self._before = rate_bit_s, self._lost / self._expected
        self._began_at, self._last, self._until, self._queued = now, None, now + LONGEST_S, 0
        self._expected = self._lost = 0.0
        self._sent = self._took = 0.0
        return LESS * self._used

    def abort(self) -> None:
        """Something else tells what the path takes."""
        self.resume_bit_s = 0.0

    def observe(self, reports: list[Report], queued: bool, mean_burst: float, now: float) -> float:
        """Take the reports of an interval of the trial; the rate to go on with, bit/s, 0 while it is not sure.

        :param queued: whether one of them met a queue
        """
        self._queued += 1 if queued else -1
        for report in reports:
            if report.sent_at < self._began_at:
                continue
            if self._last is not None:
                expected, lost = lost_between(self._last, report)
                self._expected, self._lost = self._expected + expected, self._lost + lost * expected
            else:
                self._until = max(self._until, now + LONGEST_S)
                self._first_sent_at = report.sent_at
            self._last = report
        if self._last is None or self._expected < 1 or (self._last.sent_at - self._first_sent_at < TRIAL_S and now < self._until):
            return 0.0
        share = self._lost / self._expected
        passes, passed = 1 - share, 1 - self._before
        rises = (min(passed / LESS, 1 - self.trusted) - passed) / 2      # half of what a full bottleneck would bring
        doubt = deviation(self._before, self._expected, mean_burst)
        if now < self._until and abs(passes - passed - rises) < 2 * doubt:
            return 0.0
        resume, self.resume_bit_s = self.resume_bit_s, 0.0
        if passes - passed > max(rises, 0.0):
            self._expected = self._lost = 0.0
            self._confirm_above = (share + self._before) / 2
            self._verdict, self._confirm_until = 0.9 * self._used * passed / passes, now + CONFIRM_S
            return resume
        if self._queued > 0:      # who filled it took what was left, so that the loss stayed: it may be the queue's
            self._rest_until, self._again_after = now + self._again_after, 2 * self._again_after
            return resume
        self.trusted, self._base = max(share, self._before), max(self._base, self._expected)
        self._again_at, self._again_after = now + self._again_after, 2 * self._again_after
        return resume


def deviation(share: float, datagrams: float, mean_burst: float) -> float:
    """The standard deviation of a share lost, of so many datagrams, in runs of `mean_burst` (Gilbert's model)."""
    runs = max(2 * min(mean_burst, LONGEST_RUN) * (1 - share) - 1, 1.0) if mean_burst >= 1 else 1.0
    return math.sqrt(max(share * (1 - share), 1 / datagrams) * runs / datagrams)
