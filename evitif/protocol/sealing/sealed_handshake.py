"""How a session's keys come about: HELLO, CHALLENGE, HELLO again, WELCOME.

    edge                                                     bridge
    HELLO      robot, instance, public key, parameters ─────►   signed with the pre-shared key, else REFUSE
                                     ◄───── CHALLENGE, cookie   nothing is kept
    HELLO      the same, with the cookie ───────────────────►   proves the address, and that the HELLO is new
                              ◄───── WELCOME, the public key    a session with keys of its own

The keys come from the pre-shared key and an exchange of ephemeral X25519 keys, as in TLS 1.3's psk_dhe_ke (RFC 8446, section 2.2): past
sessions stay secret when the pre-shared key becomes known. The cookie is DTLS's (RFC 6347, section 4.2.1): an authentication code
under a secret of the bridge over the sender's address and what it asks for. So a forged address or an old HELLO costs the bridge
no memory, and draws no more bytes than it sent.

The messages are in clear and signed (`seal.sign`): HELLO with the pre-shared key's `hello`, CHALLENGE and REFUSE with its
`reply`, WELCOME with that, and with a key that only the two that made this exchange have. The first tag is checked first, so a stranger's
WELCOME costs the edge an HMAC and no key agreement (as WireGuard's mac1).
"""

from __future__ import annotations

import hmac
import secrets
import struct
from collections import OrderedDict, deque
from dataclasses import dataclass
from hashlib import sha256
from random import Random

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evitif.protocol.sealing.keys import Key
from evitif.protocol.sealing.seal import BRIDGE_TO_EDGE, EDGE_TO_BRIDGE, Sealer, is_signed, sign, sign_twice, signed_body, without_tag
from evitif.protocol.wire import datagram
from evitif.protocol.wire.datagram import SEAL_BYTES, Address, Datagram, DatagramError
from evitif.protocol.wire.handshake import Hello, Refuse, Welcome
from evitif.protocol.wire.parameters import StreamParameters

COOKIE_BYTES = 16            # the first half proves the address, the second that the robot has had no session since
COOKIE_LIFETIME_S = 10.0     # at least; at most twice that
PUBLIC_BYTES = 32            # of an X25519 key
NAMES_REMEMBERED = 4096      # robots whose newest session is known
_NO_COOKIE = bytes(COOKIE_BYTES)
_COOKIES_KEPT = 1024         # of the CHALLENGEs that came last, by the edge
_HALF = COOKIE_BYTES // 2
_INSTANCE = struct.Struct('>Q')
_SESSION = struct.Struct('>Q')


@dataclass(frozen=True)
class SealedHello:
    """A HELLO as the bridge reads it; do not believe it before `is_from`."""

    hello: Hello
    public: bytes            # the edge's ephemeral X25519 key
    cookie: bytes            # zeros: none yet
    kept_session: int        # that the edge still has, 0: none
    digest: bytes            # SHA-256 of all but cookie, kept session and sequence number
    received: Datagram

    @classmethod
    def parse(cls, received: Datagram) -> SealedHello:
        """Read a sealed HELLO. Raises DatagramError('malformed')."""
        body = signed_body(received)
        at = COOKIE_BYTES + PUBLIC_BYTES
        if len(body) < at:
            raise DatagramError('malformed')
        return cls(Hello.parse(body[at:]), bytes(body[COOKIE_BYTES:at]), bytes(body[:COOKIE_BYTES]), received.session_id,
                   _digest(body), received)

    def is_from(self, key: Key) -> bool:
        """Whether it was signed with `key`."""
        return is_signed(key.hello, self.received)


class EdgeHandshake:
    """The edge's part: one ephemeral key and one instance number, drawn from `random`, for each session that it gets."""

    def __init__(self, key: Key, robot: str, parameters: StreamParameters, random: Random, top_k: int = 0,
                 bridge: str = '', ticket: bytes = b''):
        self._key, self._robot, self._parameters, self._random, self._top_k = key, robot, parameters, random, top_k
        self._bridge, self._ticket, self.short = bridge, ticket, False
        self.renew()

    def renew(self) -> None:
        """Begin anew: nothing that answers an earlier HELLO is believed any more, so no session's keys are made twice. If `short` is set,
        HELLO has the digest of the parameters instead of them."""
        self.instance = self._random.getrandbits(64)
        self._private = X25519PrivateKey.generate()
        self._cookies: deque[bytes] = deque(maxlen=_COOKIES_KEPT)
        self._agreed: dict[tuple[bytes, int], tuple[bytes, bytes, bytes]] = {}      # keys by public key and session: of one WELCOME
        parameters = self._parameters.digest if self.short else self._parameters
        said = Hello(self._robot, self.instance, parameters, self._top_k, self._bridge, self._ticket)
        self._hello = _public_bytes(self._private) + said.to_bytes()

    def hello(self, session_id: int | None, sequence: int) -> bytes:
        """A HELLO from an edge that still has this session, or none."""
        return sign(self._key.hello, datagram.HELLO, session_id or 0, sequence, self._cookie(sequence) + self._hello)

    def _cookie(self, sequence: int) -> bytes:
        """The cookie of a HELLO.

        The edge cannot know which one is its own: whoever says its HELLO from other addresses gets right CHALLENGEs for these. So the
        copies of a HELLO have the newest cookie, one of those that came often, and one of all.
        """
        if not self._cookies:
            return _NO_COOKIE
        copy = sequence % 3
        return self._cookies[-1] if copy == 0 else self._random.choice(self._cookies if copy == 1 else [*dict.fromkeys(self._cookies)])

    @property
    def doubtful(self) -> bool:
        """Whether more than one cookie is known."""
        return len({*self._cookies}) > 1

    def take_challenge(self, received: Datagram) -> bool:
        """Take the cookie of a CHALLENGE; False if the edge has it. Raises DatagramError."""
        self._check(self._key.reply, received)
        body = signed_body(received)
        if len(body) != _INSTANCE.size + COOKIE_BYTES:
            raise DatagramError('malformed')
        if _INSTANCE.unpack_from(body)[0] != self.instance:
            raise DatagramError('unexpected')
        cookie = bytes(body[_INSTANCE.size:])
        new = cookie not in self._cookies
        self._cookies.append(cookie)
        return new

    def take_welcome(self, received: Datagram) -> tuple[str, Sealer]:
        """The bridge's name and the new session's seal; call `renew` next. Raises DatagramError."""
        if not received.sealed:
            raise DatagramError('unexpected')
        if len(received.body) < PUBLIC_BYTES + 2 * SEAL_BYTES:
            raise DatagramError('malformed')
        said = without_tag(received)
        self._check(self._key.reply, said)      # before the key agreement, which takes 0.1 ms
        body = signed_body(said)
        public, welcome = bytes(body[:PUBLIC_BYTES]), Welcome.parse(body[PUBLIC_BYTES:])
        if welcome.instance != self.instance or received.session_id == 0 or self._bridge not in ('', welcome.bridge):
            raise DatagramError('unexpected')
        agreed = public, received.session_id
        if agreed not in self._agreed:      # the bridge has said it, but anybody may have changed its last tag, again and again
            self._agreed = {agreed: _session_keys(self._key, self._private, public, sha256(self._hello).digest(), *agreed)}
        edge, bridge, confirmation = self._agreed[agreed]
        self._check(confirmation, received)
        return welcome.bridge, Sealer(edge, bridge, EDGE_TO_BRIDGE, confirmation)

    def take_refusal(self, received: Datagram) -> Refuse:
        """A REFUSE that the bridge signed. Raises DatagramError."""
        return Refuse.parse(self.authentic(received))

    def authentic(self, received: Datagram) -> memoryview:
        """The body of a REFUSE or REDIRECT that was signed with the robot's key. Raises DatagramError."""
        self._check(self._key.reply, received)
        return signed_body(received)

    @staticmethod
    def _check(key: bytes, received: Datagram) -> None:
        if not received.sealed:
            raise DatagramError('unexpected')
        if not is_signed(key, received):
            raise DatagramError('corrupt')


class Cookies:
    """The bridge's cookies, which it checks without having kept them.

    One is valid for the address that it was sent to, for the same HELLO, until the robot gets a new session, and for 10 to 20 s. So no
    HELLO that led to a session leads to another one.
    """

    def __init__(self):
        self._secrets = [secrets.token_bytes(32)] * 2      # the present one, the former
        self._renewed_at: float | None = None
        self._newest: OrderedDict[str, int] = OrderedDict()

    def of(self, hello: SealedHello, address: Address, now: float) -> bytes:
        """The cookie for `hello` from `address`."""
        self._age(now)
        return self._code(self._secrets[0], hello, address)

    def is_valid(self, hello: SealedHello, address: Address, now: float) -> bool:
        """Whether `hello` has the cookie that was sent to `address`."""
        self._age(now)
        return any(hmac.compare_digest(self._code(secret, hello, address), hello.cookie) for secret in self._secrets)

    def proves_address(self, received: Datagram, address: Address, now: float) -> bool:
        """Whether a HELLO that was not read yet has a cookie that was sent to `address`, for this HELLO."""
        body = signed_body(received)
        if len(body) < COOKIE_BYTES or (cookie := bytes(body[:COOKIE_BYTES])) == _NO_COOKIE:
            return False
        self._age(now)
        digest = _digest(body)
        return any(hmac.compare_digest(self._of_address(secret, digest, address), cookie[:_HALF]) for secret in self._secrets)

    def note_session(self, robot: str, session_id: int) -> None:
        """The robot has a new session: cookies that were given before are no longer valid."""
        self._newest[robot] = session_id
        self._newest.move_to_end(robot)
        if len(self._newest) > NAMES_REMEMBERED:
            self._newest.popitem(last=False)
            self._secrets = [secrets.token_bytes(32)] * 2      # so that no forgotten cookie is believed again

    def _age(self, now: float) -> None:
        if self._renewed_at is None:
            self._renewed_at = now
        elif now >= self._renewed_at + COOKIE_LIFETIME_S:
            # After a pause of two lifetimes the former one is too old as well.
            fresh = secrets.token_bytes(32)
            kept = self._secrets[0] if now < self._renewed_at + 2 * COOKIE_LIFETIME_S else fresh
            self._secrets, self._renewed_at = [fresh, kept], now

    def _code(self, secret: bytes, hello: SealedHello, address: Address) -> bytes:
        newest = _SESSION.pack(self._newest.get(hello.hello.robot, 0))
        half = self._of_address(secret, hello.digest, address)
        return half + hmac.digest(secret, newest + half + hello.digest, sha256)[:_HALF]

    @staticmethod
    def _of_address(secret: bytes, digest: bytes, address: Address) -> bytes:
        return hmac.digest(secret, digest + repr(address).encode(), sha256)[:_HALF]


def challenge(key: Key, instance: int, cookie: bytes) -> bytes:
    """A CHALLENGE; shorter than any HELLO."""
    return sign(key.reply, datagram.CHALLENGE, 0, 0, _INSTANCE.pack(instance) + cookie)


def welcome(key: Key, hello: SealedHello, session_id: int, bridge: str) -> tuple[bytes, Sealer]:
    """A WELCOME to a new session, and its seal. Raises DatagramError('malformed') if the edge's public key is invalid."""
    private = X25519PrivateKey.generate()
    public = _public_bytes(private)
    edge, own, confirmation = _session_keys(key, private, hello.public, hello.digest, public, session_id)
    body = public + Welcome(hello.hello.instance, bridge).to_bytes()
    return sign_twice(key.reply, confirmation, datagram.WELCOME, session_id, 0, body), Sealer(own, edge, BRIDGE_TO_EDGE, confirmation)


def _session_keys(key: Key, private: X25519PrivateKey, other: bytes, hello_digest: bytes, bridge_public: bytes,
                  session_id: int) -> tuple[bytes, bytes, bytes]:
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError:      # not 32 bytes, or a point of small order (RFC 7748, section 6.1)
        raise DatagramError('malformed') from None
    return key.session(shared, hello_digest + bridge_public + _SESSION.pack(session_id))


def _digest(body: memoryview) -> bytes:
    return sha256(body[COOKIE_BYTES:]).digest()


def _public_bytes(private: X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
