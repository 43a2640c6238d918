"""Is a robot where its datagrams come from? (RFC 9000, sections 8.2 and 9)

A session has one address that has proved itself: answers go there, and what comes from there counts. Another one proves itself with
a PATH_RESPONSE, from that very address, that echoes a PATH_CHALLENGE sent there. Until then nothing that comes from it is used, not even
its sequence number, so that the same datagram still counts when it comes from the address that has proved itself. The newest TOKENS are
held back, within bounds: if the address proves itself in time, a robot that moves loses no frame.

What a challenge says is an authentication code, under a secret of the bridge, of the address and of the number of the datagram that it
answers. It holds until the proved address brings that number or a higher one: then the robot is still there, and somebody only copies what
it says (section 9.3.3). So nothing that strangers do makes the bridge forget what it asked the robot.

But anybody can write the proved address on a copy of what a robot says elsewhere. So the proved address is asked as well (section 9.3.3
again), and if it has answered nothing for 0.75 s, what came from there counts no longer against another one that answers.
"""

from __future__ import annotations

import hmac
import secrets
import struct
from collections import deque
from hashlib import sha256

from evitif.bounded import BoundedDict
from evitif.protocol.bridge.session import BridgeSession
from evitif.protocol.rate.copies import sufficient_copies
from evitif.protocol.rate.token_bucket import TokenBucket
from evitif.protocol.wire.datagram import PATH_BYTES, Address, Buffer

CHALLENGES = 10.0, 10.0      # a second, burst: for a session at an address. At 60 % loss both ways 98 % of the bursts get through.
DOUBT_INTERVAL_S = 0.15      # between the questions to the proved address
ABSENT_S, ABSENT_QUESTIONS = 0.75, 5      # without an answer from there, until the robot need not be there any more
HELD_BYTES = 1 << 17         # of a session at an address: three frames, the newest
HELD_S = 0.5                 # nobody waits for an older frame's answer
_PLACES = 64                 # addresses remembered; the one that asked longest ago is forgotten, with what was held back
_FAILURE, _MOST_COPIES = 0.2, 4      # of a challenge: the share that may be lost
_NUMBER = struct.Struct('>I')
_SESSION = struct.Struct('>Q')


class _Place:
    """A session at an address that has not proved itself."""

    def __init__(self):
        self.challenges = TokenBucket(*CHALLENGES)
        self.held: deque[tuple[float, bytes]] = deque()
        self.held_bytes = 0


class _Doubt:
    """Whether a robot still is at the address that has proved itself: what was asked there, and not answered."""

    def __init__(self, number: int, now: float):
        self.number = number           # of the first datagram that came from elsewhere
        self.since = self.asked_at = now
        self.questions = 0


class Paths:
    """Challenges addresses, and checks what they answer."""

    def __init__(self):
        self._secret = secrets.token_bytes(32)
        self._places: BoundedDict[tuple[int, Address], _Place] = BoundedDict(_PLACES)
        self._doubts: BoundedDict[int, _Doubt] = BoundedDict(_PLACES)      # by session

    def challenge(self, session: BridgeSession, address: Address, sequence: int, size: int, now: float) -> list[bytes]:
        """The PATH_CHALLENGE that answers the datagram of this number and size from `address`, in no more bytes than that had; none if
        the address had enough of them."""
        if not self._place(session, address).challenges.take(now):
            return []
        challenge = session.path_challenge(self._said(session, address, _NUMBER.pack(sequence & 0xFFFFFFFF)))
        return [challenge] * min(_copies(session), size // len(challenge))

    def doubt(self, session: BridgeSession, sequence: int, now: float) -> list[bytes]:
        """The PATH_CHALLENGEs to the session's own address, since a datagram of this number has come from elsewhere."""
        doubt = self._doubts.get(session.session_id)
        if doubt is None or now > doubt.asked_at + ABSENT_S:      # what was not asked for a while is asked anew
            doubt = _Doubt(sequence, now)
        elif now < doubt.asked_at + DOUBT_INTERVAL_S:
            return []
        self._doubts[session.session_id] = doubt
        doubt.asked_at, doubt.questions = now, doubt.questions + 1
        challenge = session.path_challenge(self._said(session, session.address, _NUMBER.pack(sequence & 0xFFFFFFFF)), doubt=True)
        return [challenge] * _copies(session)

    def confirm(self, session: BridgeSession, body: Buffer) -> None:
        """Take a PATH_RESPONSE from the session's own address."""
        doubt = self._doubts.get(session.session_id)
        if doubt is not None and not _is_before(body, doubt.number) and self._is_said(session, session.address, body):
            del self._doubts[session.session_id]

    def hold(self, session: BridgeSession, address: Address, data: bytes, now: float) -> None:
        """Keep an authentic datagram until `address` has proved itself, or others need its room."""
        place = self._place(session, address)
        place.held.append((now, data))
        place.held_bytes += len(data)
        while place.held_bytes > HELD_BYTES:
            place.held_bytes -= len(place.held.popleft()[1])

    def proves(self, session: BridgeSession, address: Address, body: Buffer, now: float) -> bool:
        """Whether a PATH_RESPONSE from `address` shows that the robot is there, and no longer where it was."""
        if not self._is_said(session, address, body):
            return False
        doubt = self._doubts.get(session.session_id)
        absent = doubt is not None and doubt.questions >= ABSENT_QUESTIONS and now >= doubt.since + ABSENT_S \
            and not _is_before(body, doubt.number)
        return absent or session.is_ahead(*_NUMBER.unpack_from(body))

    def release(self, session: BridgeSession, address: Address, now: float) -> list[bytes]:
        """What was held back, in the order in which it came: `address` has proved itself."""
        place = self._places.pop((session.session_id, address), None)
        self._doubts.pop(session.session_id, None)
        return [data for at, data in place.held if now <= at + HELD_S] if place else []

    def _place(self, session: BridgeSession, address: Address) -> _Place:
        key = session.session_id, address
        self._places[key] = place = self._places.get(key) or _Place()
        return place

    def _is_said(self, session: BridgeSession, address: Address, body: Buffer) -> bool:
        return len(body) == PATH_BYTES and hmac.compare_digest(self._said(session, address, bytes(body[:_NUMBER.size])), bytes(body))

    def _said(self, session: BridgeSession, address: Address, number: bytes) -> bytes:
        about = _SESSION.pack(session.session_id) + number + repr(address).encode()
        return number + hmac.digest(self._secret, about, sha256)[:PATH_BYTES - _NUMBER.size]


def _copies(session: BridgeSession) -> int:
    return sufficient_copies(session.downlink_loss()[0], _FAILURE, 1, _MOST_COPIES)


def _is_before(body: Buffer, number: int) -> bool:
    """Whether a PATH_RESPONSE answers a challenge to a datagram older than that of this number (RFC 1982)."""
    return (_NUMBER.unpack_from(body)[0] - number) % (1 << 32) >= 1 << 31 if len(body) == PATH_BYTES else True
