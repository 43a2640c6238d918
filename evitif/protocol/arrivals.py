"""What an owner may be told of each datagram of a session that arrives, such as to write a trace of the link."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from evitif.protocol.wire import answer as answers
from evitif.protocol.wire import datagram
from evitif.protocol.wire.datagram import Datagram, DatagramError


class Arrivals(NamedTuple):
    """Datagrams of one size that came together, none of them here before."""

    robot: str
    session_id: int
    sequences: Sequence[int]        # numbers of their sender, u32
    size: int                       # bytes of UDP payload of each
    arrived_at: float               # seconds on this side's clock
    sent_at: float = math.nan       # on the sender's; NaN: they do not say

    @classmethod
    def of(cls, robot: str, received: Datagram, arrived_at: float) -> Arrivals:
        """A single datagram, opened."""
        return cls(robot, received.session_id, [received.sequence], received.size, arrived_at, said_sent_at(received))


OnArrivals = Callable[[Arrivals], object]


def said_sent_at(received: Datagram) -> float:
    """When its sender says that an opened datagram left, on the sender's clock: PING, PONG and ANSWER do. NaN: it does not say."""
    try:
        if received.type == datagram.PING:
            return datagram.parse_ping(received.body)[0]
        if received.type == datagram.PONG:
            return datagram.parse_pong(received.body)[2]
        if received.type == datagram.ANSWER:
            answer = answers.decode(received.body)[0]
            return answer.first_arrival + answer.hold_s
    except DatagramError:
        pass
    return math.nan
