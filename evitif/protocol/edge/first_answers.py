"""Of a frame that went to several bridges the first answer counts, and it expires when it has expired everywhere."""

from __future__ import annotations

from collections.abc import Callable

from evitif.bounded import BoundedDict
from evitif.protocol.events import AnswerArrived, EdgeEvent, FrameEvent, FrameExpired, FrameOverdue, MapArrived

REMEMBERED = 512             # frames


class FirstAnswers:
    """:param say: takes what the owner is to hear"""

    def __init__(self, say: Callable[[EdgeEvent], None]):
        self._say = say
        self._waiting: BoundedDict[int, tuple[set[int], set[int]]] = BoundedDict(REMEMBERED)      # links: not expired; not overdue
        self._mapped: BoundedDict[int, int] = BoundedDict(REMEMBERED)      # the link whose maps count, by frame
        self.second = 0              # answers that came after another one

    def expect(self, frame_id: int, links: list[int]) -> None:
        """A frame went to these links."""
        if len(links) > 1:
            self._waiting[frame_id] = set(links), set(links)
        else:
            self._waiting.pop(frame_id, None)

    def take(self, event: FrameEvent, link: int) -> None:
        """What a link says of a frame; its first and its last word are passed on."""
        frame_id = event.sent.frame_id if isinstance(event, AnswerArrived) else \
            event.part.frame_id if isinstance(event, MapArrived) else event.frame_id
        if isinstance(event, MapArrived):
            if self._mapped.setdefault(frame_id, link) == link:      # parts of two bridges' maps do not go together
                self._say(event)
        elif frame_id not in self._waiting:
            self._say(event)
        else:
            self._take_of_several(event, frame_id, link)

    def _take_of_several(self, event: AnswerArrived | FrameExpired | FrameOverdue, frame_id: int, link: int) -> None:
        waiting, expected = self._waiting[frame_id]
        if isinstance(event, FrameOverdue):
            answered = not expected
            expected.discard(link)
            if not expected and not answered:
                self._say(event)
        elif isinstance(event, AnswerArrived):
            if waiting:
                self._say(event)
            else:
                self.second += 1
            waiting.clear()
            expected.clear()
        elif link in waiting:
            waiting.discard(link)
            if not waiting:
                self._say(event)
