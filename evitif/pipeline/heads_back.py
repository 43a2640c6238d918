"""What heads say, on its way back to the robots: in the answer where it fits, maps in datagrams of their own."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable

from evitif.heads.maps import PlaceMap
from evitif.heads.results import Result
from evitif.pipeline.runtime import Log
from evitif.protocol.bridge.endpoint import BridgeEndpoint
from evitif.protocol.events import HeadsLeftOut
from evitif.protocol.frames.reassembly import ReceivedFrame
from evitif.protocol.wire.map_part import MapPart


class HeadsBack:
    """Of all sessions of a bridge. What does not fit is left out, said once for each robot and head, and counted; the other heads go on.

    :param call: `UdpLoop.call` of the endpoint's loop
    """

    def __init__(self, endpoint: BridgeEndpoint, call: Callable, log: Log):
        self._endpoint, self._call, self._log = endpoint, call, log
        self._left_out: defaultdict[int, Counter[str]] = defaultdict(Counter)       # by session, results of each head

    @property
    def left_out(self) -> dict[str, int]:
        """How often what a head says was left out, by 'HEAD of ROBOT', of the robots that are connected."""
        robots = {session_id: session.robot for session_id, session in list(self._endpoint.sessions.items())}
        return {f'{name} of {robots[session_id]}': count for session_id, counts in list(self._left_out.items()) if session_id in robots
                for name, count in list(counts.items())}

    def forget(self, session_id: int) -> None:
        """A session has ended."""
        self._left_out.pop(session_id, None)

    def read_on_robot(self, frame: ReceivedFrame) -> tuple[str, ...]:
        """The heads that somebody reads on the robot of this frame."""
        session = self._endpoint.sessions.get(frame.session_id)
        return () if session is None else session.heads_read

    def in_answer(self, frame: ReceivedFrame, results: dict[str, Result]) -> dict[int, bytes]:
        """What travels in the answer to a frame: of the heads that the robot reads, by their place among its own."""
        session = self._endpoint.sessions.get(frame.session_id)
        if session is None or not results:
            return {}
        read = session.heads_read
        said = {index: results[name].pack() for index, (name, _) in enumerate(session.parameters.heads)
                if name in results and name in read}
        return {index: content for index, content in said.items() if content}

    def left_out_of_answer(self, event: HeadsLeftOut) -> None:
        """What these heads say did not fit into an answer."""
        for name, size in event.heads.items():
            self._leave_out(event.session_id, event.robot, name, f'takes {size} bytes, for which an answer has no room: expected fewer '
                            'heads before it, a lower top_k, or a larger max_datagram_bytes on both sides')

    def send_maps(self, frame: ReceivedFrame, results: dict[str, Result]) -> None:
        """Code and send what heads say of each place, behind the answers, which need not wait for that."""
        session = self._endpoint.sessions.get(frame.session_id)
        if session is None:
            return
        for index, (name, _) in enumerate(session.parameters.heads):
            found = results.get(name)
            if not isinstance(found, PlaceMap) or name not in session.heads_read:
                continue
            try:
                room = self._call(lambda now: self._endpoint.map_room(frame.session_id))
                contents = found.parts(room) if room else []
                parts = [MapPart(frame.frame_id, frame.capture_stamp_ns, index, number, len(contents), content)
                         for number, content in enumerate(contents)]
                self._call(lambda now, parts=parts: self._endpoint.send_map(frame.session_id, parts, now))
            except ValueError as error:
                self._leave_out(frame.session_id, frame.robot, name, f'does not fit into datagrams: {error}')

    def _leave_out(self, session_id: int, robot: str, name: str, why: str) -> None:
        counts = self._left_out[session_id]
        if name not in counts:
            self._log(logging.WARNING, f'what the head {name} says does not reach robot {robot}: it {why}')
        counts[name] += 1
