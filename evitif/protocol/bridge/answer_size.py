"""How large an answer may be that the path lets through.

As for frames (`edge.path_size`), what arrives tells. Suppose that for a second the robot reports at least as many datagrams lost as there
were answers of more than 548 bytes. Then answers have, for a second, only the classes that fit into 548 bytes. If far less is lost, they
stay so until the robot's address changes, which may lead to another path. If not, it was the radio, and they are as large as before. Few
answers are that large: those with more than about 50 classes, or of models with some thousand tokens.
"""

from collections import deque
from collections.abc import Callable

from evitif.protocol.rate.report import since
from evitif.protocol.wire.datagram import SMALL_PATH, Address, ReceiverReport

NOTICE_S, NOTICE_DATAGRAMS, NOTICE_REPORTS = 1.0, 16, 3
TRY_S, MAX_TRY_S = 5.0, 60.0     # after the path was suspected wrongly twice, until it is again; doubles each time. The first time a second
#                                  look follows at once: if the way up had just become as small, there was little to judge by
_UNREPORTED = 4096               # large answers whose fate no report tells yet


class AnswerSizes:
    """The size of one robot's answers, seal included.

    :param largest: the configured size
    :param least: of an answer with one class
    :param say: is told the size, and that of before, when it changes; twice the same: large answers are swallowed, and nothing smaller
        is left; once they arrive again, the second is 0
    """

    def __init__(self, largest: int, least: int, say: Callable[[int, int], None] = lambda size, before: None):
        self._largest, self._least, self._say = largest, least, say
        self._address: Address | None = None
        self._left: deque[int] = deque(maxlen=_UNREPORTED)      # sequence numbers of the large ones
        self._last: ReceiverReport | None = None
        self._hopeless = False
        self._reset()

    def at(self, address: Address) -> int:
        """The most bytes that an answer to this address may have."""
        if address != self._address:
            self._address = address
            self._reset()
        return self._size

    def left(self, size: int, sequence: int) -> None:
        """A copy of an answer leaves."""
        if size > SMALL_PATH:
            self._left.append(sequence)

    def on_report(self, report: ReceiverReport, sequence: int, now: float) -> None:
        """Take the robot's newest report; `sequence`: the next datagram's number."""
        last, self._last = self._last, report
        reached, large = sequence + since(sequence, report.expected), 0
        while self._left and self._left[0] < reached:
            self._left.popleft()
            large += 1
        if last is None or now < self._try_at:
            return
        trial = self._few is not None
        if trial and large or not (trial or large or self._large):      # still on the way; nothing to watch
            self._watch()
            return
        if not self._reports:
            self._since = now
        expected = since(last.expected, report.expected)
        self._large += large
        self._expected += expected
        self._lost += expected - since(last.received, report.received)
        self._reports += 1
        enough = self._expected >= NOTICE_DATAGRAMS and self._reports >= NOTICE_REPORTS and now >= self._since + NOTICE_S
        if self._few is not None:
            if enough:
                self._judge(self._lost / self._expected <= self._few, now)
        elif self._lost < self._large:      # one has arrived
            self._watch()
            if self._hopeless:
                self._hopeless = False
                self._say(self._size, 0)
        elif enough and self._large >= NOTICE_DATAGRAMS:
            self._suspect()

    def _suspect(self) -> None:
        """Nothing large has arrived, or not much at all."""
        if self._least <= SMALL_PATH < self._size:
            others = self._expected - self._large
            lost_others = (self._lost - self._large) / others if others else 0.0
            self._size, self._few = SMALL_PATH, (self._lost / self._expected + lost_others) / 2
        elif not self._hopeless:
            self._hopeless = True
            self._say(self._size, self._size)
        self._watch()

    def _judge(self, arrives: bool, now: float) -> None:
        """The trial is over."""
        self._few = None
        if arrives:
            self._say(SMALL_PATH, self._largest)
        else:
            self._size, self._try_at, self._wait = self._largest, now + self._wait, min(max(2 * self._wait, TRY_S), MAX_TRY_S)
        self._watch()

    def _watch(self) -> None:
        self._large = self._expected = self._lost = self._reports = 0

    def _reset(self) -> None:
        self._size, self._few = self._largest, None             # during a trial, the share that may be lost
        self._try_at = self._wait = self._since = 0.0
        self._watch()
