"""How the edge asks for a session: what its HELLO says, and when it goes out."""

from __future__ import annotations

import math
from random import Random

from evitif.protocol.sealing.keys import Key
from evitif.protocol.sealing.sealed_handshake import EdgeHandshake
from evitif.protocol.wire import datagram
from evitif.protocol.wire.datagram import Datagram, DatagramError
from evitif.protocol.wire.handshake import Hello, Refuse, Welcome
from evitif.protocol.wire.parameters import StreamParameters

HELLO_COPIES = 3
HELLO_INTERVAL_S, HELLO_INTERVAL_MAX_S = 0.1, 0.3
HELLO_PATIENCE_S = 3.0       # silence after which the interval begins to grow
REFUSED_INTERVAL_S = 1.0


class UnsealedHandshake:
    """The unsealed counterpart of `EdgeHandshake`: its random instance number keeps strays out, but nobody who sees the traffic."""

    def __init__(self, robot: str, parameters: StreamParameters, random: Random, top_k: int = 0):
        self._robot, self._parameters, self._random, self._top_k = robot, parameters, random, top_k
        self.renew()

    def renew(self) -> None:
        """Begin anew: nothing that answers an earlier HELLO is believed any more."""
        self.instance = self._random.getrandbits(64)
        self._body = Hello(self._robot, self.instance, self._parameters, self._top_k).to_bytes()

    def hello(self, session_id: int | None, sequence: int) -> bytes:
        """A HELLO; it does not say which session the edge still has."""
        return datagram.build(datagram.HELLO, 0, sequence, self._body)

    def take_challenge(self, received: Datagram) -> bool:
        """Only sealed links have challenges: raises DatagramError."""
        raise DatagramError('unexpected')

    def take_welcome(self, received: Datagram) -> tuple[str, None]:
        """The bridge's name, and no seal. Raises DatagramError."""
        welcome = Welcome.parse(received.body)
        if welcome.instance != self.instance or received.session_id == 0:
            raise DatagramError('unexpected')
        return welcome.bridge, None


class Hellos:
    """The HELLOs of one edge: HELLO_COPIES at a time, every HELLO_INTERVAL_S; after a long silence less often."""

    def __init__(self, robot: str, parameters: StreamParameters, key: Key | None, random: Random, top_k: int):
        self.sealed = key is not None
        self.handshake: EdgeHandshake | UnsealedHandshake = UnsealedHandshake(robot, parameters, random, top_k) if key is None else \
            EdgeHandshake(key, robot, parameters, random, top_k)
        self.due_at = math.inf
        self.asked_at = -math.inf        # when they last went out
        self.prompted = False            # whether that was because of a CHALLENGE
        self._sequence = 0
        self._interval = HELLO_INTERVAL_S
        self._since = 0.0

    @property
    def instance(self) -> int:
        """The random number that a WELCOME or REFUSE has to echo."""
        return self.handshake.instance

    @property
    def size(self) -> int:
        """Bytes of a HELLO."""
        return len(self.handshake.hello(None, 0))

    def renew(self) -> None:
        """Another life of this edge, or another session."""
        self.handshake.renew()
        self._sequence = 0

    def begin(self, now: float) -> None:
        """Begin to ask."""
        self.due_at = self._since = now
        self._interval = HELLO_INTERVAL_S

    def take(self, session_id: int | None, now: float) -> list[bytes]:
        """The HELLOs to send now, from an edge that still has this session, or none."""
        self.asked_at, self.prompted = now, False
        self._sequence += HELLO_COPIES
        return [self.handshake.hello(session_id, self._sequence - left) for left in range(HELLO_COPIES, 0, -1)]

    def wait(self, now: float, refused: bool) -> None:
        """Schedule the next ones, after the interval."""
        if not refused and now - self._since >= HELLO_PATIENCE_S:
            self._interval = min(2 * self._interval, HELLO_INTERVAL_MAX_S)
        self.due_at = now + (REFUSED_INTERVAL_S if refused else self._interval)

    def refusal(self, received: Datagram) -> Refuse:
        """What a REFUSE says; unsealed, anybody may have said it. Raises DatagramError."""
        refuse = self.handshake.take_refusal(received) if received.sealed and isinstance(self.handshake, EdgeHandshake) else \
            Refuse.parse(received.body)
        if refuse.instance != self.instance:
            raise DatagramError('unexpected')
        return refuse
