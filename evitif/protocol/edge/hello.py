"""How the edge asks for a session: what its HELLO says, and when it goes out."""

from __future__ import annotations

import math
from random import Random

from evitif.protocol.sealing.keys import Key
from evitif.protocol.sealing.sealed_handshake import EdgeHandshake
from evitif.protocol.wire import datagram
from evitif.protocol.wire.datagram import MAX_UDP_PAYLOAD, SMALL_PATH, Datagram, DatagramError
from evitif.protocol.wire.handshake import Hello, Refuse, Welcome
from evitif.protocol.wire.parameters import StreamParameters

HELLO_COPIES = 3
DOUBTFUL_HELLO_COPIES = 6    # where several cookies are known; then no CHALLENGE makes it say more, so the rate is at most the same
HELLO_INTERVAL_S, HELLO_INTERVAL_MAX_S = 0.1, 0.3
HELLO_PATIENCE_S = 3.0       # silence after which the interval begins to grow
REFUSED_INTERVAL_S = 1.0
RESETS_BELIEVED, FORGED_INTERVAL_S, FORGOTTEN_S = 5, 1.0, 10.0      # RESETs that led to no other session; then HELLO goes out less often
TURN_S, MAX_TURN_S = 2.0, 16.0      # without a session, until HELLO takes its other form; doubles each time


class UnsealedHandshake:
    """The unsealed counterpart of `EdgeHandshake`: its random instance number keeps strays out, but nobody who sees the traffic."""

    def __init__(self, robot: str, parameters: StreamParameters, random: Random, top_k: int = 0, bridge: str = ''):
        self._robot, self._parameters, self._random, self._top_k, self._bridge = robot, parameters, random, top_k, bridge
        self.short = False
        self.renew()

    def renew(self) -> None:
        """Begin anew: nothing that answers an earlier HELLO is believed any more. `short`: see `EdgeHandshake.renew`."""
        self.instance = self._random.getrandbits(64)
        parameters = self._parameters.digest if self.short else self._parameters
        self._body = Hello(self._robot, self.instance, parameters, self._top_k, self._bridge).to_bytes()

    def hello(self, session_id: int | None, sequence: int) -> bytes:
        """A HELLO; it does not say which session the edge still has."""
        return datagram.build(datagram.HELLO, 0, sequence, self._body)

    @property
    def doubtful(self) -> bool:
        """Never: there are no cookies."""
        return False

    def take_challenge(self, received: Datagram) -> bool:
        """Only sealed links have challenges: raises DatagramError."""
        raise DatagramError('unexpected')

    def take_welcome(self, received: Datagram) -> tuple[str, None]:
        """The bridge's name, and no seal. Raises DatagramError."""
        welcome = Welcome.parse(received.body)
        if welcome.instance != self.instance or received.session_id == 0 or self._bridge not in ('', welcome.bridge):
            raise DatagramError('unexpected')
        return welcome.bridge, None


class Hellos:
    """The HELLOs of one edge: HELLO_COPIES or more at a time, every HELLO_INTERVAL_S; after a long silence less often.

    A path may swallow a HELLO of more than 548 bytes and say nothing (see `path_size`). So if no session comes of it, a short one takes
    turns with it, which has the parameters' digest in their place: it says as much to a bridge that has the same, and to another one that
    they differ. A HELLO of more than `largest` bytes is always a short one.
    """

    def __init__(self, robot: str, parameters: StreamParameters, key: Key | None, random: Random, top_k: int,
                 bridge: str = '', largest: int = MAX_UDP_PAYLOAD):
        self.sealed = key is not None
        self.handshake: EdgeHandshake | UnsealedHandshake = UnsealedHandshake(robot, parameters, random, top_k, bridge) if key is None \
            else EdgeHandshake(key, robot, parameters, random, top_k, bridge)
        self.due_at = math.inf
        self.asked_at = -math.inf        # when they last went out
        self.prompted = False            # whether that was because of a CHALLENGE
        self._sequence = self._resets = 0
        self._interval = HELLO_INTERVAL_S
        self._since = 0.0
        self._turn_s, self._turns_at = TURN_S, math.inf
        self._forms = 2 if self.size > SMALL_PATH else 1
        if self.size > largest:
            self._forms, self.handshake.short = 1, True
            self.handshake.renew()

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
        self._sequence = self._resets = 0

    def begin(self, now: float) -> None:
        """Begin to ask."""
        self.due_at = self._since = now
        self._interval = HELLO_INTERVAL_S
        self._turn_s, self._turns_at = TURN_S, now + TURN_S

    def take(self, session_id: int | None, now: float) -> list[bytes]:
        """The HELLOs to send now, from an edge that still has this session, or none."""
        self.asked_at, self.prompted = now, False
        if now >= self._turns_at and self._forms > 1 and math.isfinite(self.due_at):      # else it has a session
            self._turn_s = min(2 * self._turn_s, MAX_TURN_S)
            self._turns_at = now + self._turn_s
            self.handshake.short = not self.handshake.short
            self.handshake.renew()
        copies = DOUBTFUL_HELLO_COPIES if self.handshake.doubtful else HELLO_COPIES
        self._sequence += copies
        return [self.handshake.hello(session_id, self._sequence - left) for left in range(copies, 0, -1)]

    def prompts(self, now: float, refused: bool) -> bool:
        """Whether a new cookie is used at once. Those that are played back make it say little more than it would have said anyhow."""
        return not self.prompted and (refused or not self.handshake.doubtful or now >= self.asked_at + HELLO_INTERVAL_S)

    def believes_reset(self, now: float) -> bool:
        """Whether a RESET makes a connected edge ask at once. Anybody can say it, and HELLOs take from a narrow path what frames need."""
        if now >= self.asked_at + FORGOTTEN_S:
            self._resets = 0
        if now < self.asked_at + (HELLO_INTERVAL_S if self._resets < RESETS_BELIEVED else FORGED_INTERVAL_S):
            return False
        self._resets += 1
        return True

    def wait(self, now: float, refused: bool) -> None:
        """Schedule the next ones, after the interval."""
        if refused:      # which has got through
            self._turns_at = math.inf
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
