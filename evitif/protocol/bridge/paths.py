"""Is a robot where its datagrams come from? (RFC 9000, sections 8.2 and 9)

A session has one address that has proved itself: answers go there, and what comes from there counts. Another one proves itself with
a PATH_RESPONSE, from that very address, that echoes a PATH_CHALLENGE sent there. Until then nothing that comes from it is used, not even
its sequence number, so that the same datagram still counts when it comes from the address that has proved itself. The newest TOKENS are
held back, within bounds: if the address proves itself in time, a robot that moves loses no frame.

What a challenge says is an authentication code, under a secret of the bridge, of the address and of the number of the datagram that it
answers. It holds until the proved address brings that number or a higher one: then the robot is still there, and somebody only copies what
it says (section 9.3.3). So nothing that strangers do makes the bridge forget what it asked the robot.
"""

from __future__ import annotations

import hmac
import secrets
import struct
from collections import deque
from hashlib import sha256

from evitif.bounded import BoundedDict
from evitif.protocol.bridge.session import BridgeSession
from evitif.protocol.rate.token_bucket import TokenBucket
from evitif.protocol.wire.datagram import PATH_BYTES, Address, Buffer

CHALLENGES = 10.0, 10.0      # a second, burst: for a session at an address. At 60 % loss both ways 98 % of the bursts get through.
HELD_BYTES = 1 << 17         # of a session at an address: three frames, the newest
HELD_S = 0.5                 # nobody waits for an older frame's answer
_PLACES = 64                 # addresses remembered; the one that asked longest ago is forgotten, with what was held back
_NUMBER = struct.Struct('>I')
_SESSION = struct.Struct('>Q')


class _Place:
    """A session at an address that has not proved itself."""

    def __init__(self):
        self.challenges = TokenBucket(*CHALLENGES)
        self.held: deque[tuple[float, bytes]] = deque()
        self.held_bytes = 0


class Paths:
    """Challenges addresses, and checks what they answer."""

    def __init__(self):
        self._secret = secrets.token_bytes(32)
        self._places: BoundedDict[tuple[int, Address], _Place] = BoundedDict(_PLACES)

    def challenge(self, session: BridgeSession, address: Address, sequence: int, now: float) -> list[bytes]:
        """The PATH_CHALLENGE that answers the datagram of this number from `address`; none if it had enough of them."""
        if not self._place(session, address).challenges.take(now):
            return []
        return [session.path_challenge(self._said(session, address, _NUMBER.pack(sequence & 0xFFFFFFFF)))]

    def hold(self, session: BridgeSession, address: Address, data: bytes, now: float) -> None:
        """Keep an authentic datagram until `address` has proved itself, or others need its room."""
        place = self._place(session, address)
        place.held.append((now, data))
        place.held_bytes += len(data)
        while place.held_bytes > HELD_BYTES:
            place.held_bytes -= len(place.held.popleft()[1])

    def proves(self, session: BridgeSession, address: Address, body: Buffer) -> bool:
        """Whether a PATH_RESPONSE from `address` shows that the robot is there, and no longer where it was."""
        if len(body) != PATH_BYTES:
            return False
        number = bytes(body[:_NUMBER.size])
        return session.is_ahead(*_NUMBER.unpack(number)) and hmac.compare_digest(self._said(session, address, number), bytes(body))

    def release(self, session: BridgeSession, address: Address, now: float) -> list[bytes]:
        """What was held back, in the order in which it came: `address` has proved itself."""
        place = self._places.pop((session.session_id, address), None)
        return [data for at, data in place.held if now <= at + HELD_S] if place else []

    def _place(self, session: BridgeSession, address: Address) -> _Place:
        key = session.session_id, address
        self._places[key] = place = self._places.get(key) or _Place()
        return place

    def _said(self, session: BridgeSession, address: Address, number: bytes) -> bytes:
        about = _SESSION.pack(session.session_id) + number + repr(address).encode()
        return number + hmac.digest(self._secret, about, sha256)[:PATH_BYTES - _NUMBER.size]
