"""A session's seal: every datagram authenticated and encrypted, and none taken twice.

A sealed datagram is version 2 of the protocol: the header, the body encrypted, and a tag of 16 bytes, which covers the header too.
Where version 1 has its CRC-32, the header has the upper half of the sequence number, which therefore never wraps. The cipher is
ChaCha20-Poly1305 (RFC 8439): one call does all (AEAD, RFC 5116), and it is fast and free of secret-dependent timing on
processors without AES instructions, which robots have (the Raspberry Pi 4).
"""

import hmac
import struct
from hashlib import sha256

import numpy as np
from cryptography.exceptions import InvalidTag

from evitif.protocol.sealing.ratchet import ReceivingKeys, SendingKeys
from evitif.protocol.wire.datagram import HEADER, MAGIC, SEAL_BYTES, SEALED_VERSION, WINDOW, Buffer, Datagram, DatagramError
from evitif.protocol.wire.runs import heads_of

FORGERIES = 1 << 36          # datagrams that the keys of a session may refuse before they have to go (RFC 9001, section 6.6)
REPLAY_WINDOW = WINDOW       # a second of a robot that sends 30 frames of 33 packets
EDGE_TO_BRIDGE, BRIDGE_TO_EDGE = 0, 1
_NONCE = struct.Struct('>IQ')      # direction, sequence number: 96 bits (RFC 8439, section 2.8)
_HALVES = struct.Struct('>II')     # of the sequence number, the lower one first: the end of the header
_TYPE_AT = 3


class ReplayWindow:
    """Which of the last 1,024 sequence numbers were taken (RFC 4303, section 3.4.3): a ring, as in RFC 6479."""

    def __init__(self):
        self.highest = -1
        self._taken = [-1] * REPLAY_WINDOW      # at number % 1,024, the last such number that was taken

    def is_new(self, sequence: int) -> bool:
        """Whether `sequence` was not taken yet; False too for a number too old to tell."""
        return sequence > self.highest - REPLAY_WINDOW and self._taken[sequence % REPLAY_WINDOW] != sequence

    def take(self, sequence: int) -> None:
        """Note `sequence`, of a datagram whose seal was right: nobody else may move the window."""
        self._taken[sequence % REPLAY_WINDOW] = sequence
        if sequence > self.highest:
            self.highest = sequence


class Sealer:
    """Seals what one side of a session sends and opens what the other side sends.

    :param outgoing: first key of the datagrams that this side sends, 32 bytes, of this session only; `ratchet` makes the others
    :param incoming: first key of those that it receives
    :param direction: EDGE_TO_BRIDGE on the edge, BRIDGE_TO_EDGE on the bridge
    :param signing: key of this session's datagrams that are signed only: WELCOME, PATH_CHALLENGE
    """

    def __init__(self, outgoing: bytes, incoming: bytes, direction: int, signing: bytes = b''):
        self.signing = signing
        self._sending, self._receiving = SendingKeys(outgoing), ReceivingKeys(incoming)
        self._direction, self._incoming = direction, 1 - direction
        self._nonce = _NONCE.pack
        self._next = 0
        self._window = ReplayWindow()
        self.forgeries = 0         # datagrams whose seal did not fit

    @property
    def spent(self) -> bool:
        """Whether the session needs other keys: too many forgeries were refused."""
        return self.forgeries >= FORGERIES

    def finish(self, buffer: Buffer, session_id: int, sequence: int) -> bytes:
        """Seal the datagram in `buffer`, header included; it becomes 16 bytes longer.

        Raises ValueError for a sequence number that is not above all before: a nonce that is used twice gives the key away.
        """
        if sequence < self._next:
            raise ValueError(f'sequence is {sequence}; expected at least {self._next}: a sequence number is sealed once')
        self._next = sequence + 1
        view = memoryview(buffer)
        header = sealed_header(view[_TYPE_AT], session_id, sequence)
        return header + self._sending.at(sequence)(_NONCE.pack(self._direction, sequence), view[HEADER.size:], header)

    def finish_run(self, datagrams: np.ndarray, session_id: int, first_sequence: int) -> np.ndarray:
        """`finish` each of `datagrams`, uint8 [n, size], numbered from `first_sequence` on: uint8 [n, size + 16]."""
        count, size = datagrams.shape
        if first_sequence < self._next:
            raise ValueError(f'sequence is {first_sequence}; expected at least {self._next}: a sequence number is sealed once')
        self._next = first_sequence + count
        beginning = sealed_header(int(datagrams[0, _TYPE_AT]), session_id, 0)[:-_HALVES.size]
        bodies, length = datagrams[:, HEADER.size:].tobytes(), size - HEADER.size
        nonce, halves, direction, parts = _NONCE.pack, _HALVES.pack, self._direction, []
        seal, ends_at = self._sending.at(first_sequence), self._sending.ends_at
        for sequence, at in zip(range(first_sequence, self._next), range(0, len(bodies), length), strict=True):
            if sequence == ends_at:
                seal, ends_at = self._sending.at(sequence), self._sending.ends_at
            header = beginning + halves(sequence & 0xFFFFFFFF, sequence >> 32)
            parts.append(header)
            parts.append(seal(nonce(direction, sequence), bodies[at:at + length], header))
        return np.frombuffer(b''.join(parts), np.uint8).reshape(count, size + SEAL_BYTES)

    def open_run(self, datagrams: np.ndarray) -> tuple[list[int], np.ndarray, list[str]]:
        """`open` each of a run of one session and type, uint8 [n, size].

        Returns the sequence numbers (their lower 32 bits) and the bodies, uint8 [opened, size - 36], of those whose seal fits, and
        for each other one why not.
        """
        count, size = datagrams.shape
        heads, data = heads_of(datagrams), datagrams.tobytes()
        lower, bodies, refused = [], [], []
        window, keys, nonce, incoming = self._window, self._receiving, self._nonce, self._incoming
        epoch, decrypt = -1, None        # a run is of one or two
        for at, low, upper in zip(range(0, count * size, size), heads['sequence'].tolist(), heads['checksum'].tolist(), strict=True):
            body, sequence = at + HEADER.size, upper << 32 | low
            if sequence <= window.highest and not window.is_new(sequence):
                refused.append('duplicate')
                continue
            if sequence >> keys.bits != epoch:
                epoch, decrypt = sequence >> keys.bits, keys.at(sequence)
            if decrypt is None:
                refused.append('corrupt')
                continue
            try:
                bodies.append(decrypt(nonce(incoming, sequence), data[body:at + size], data[at:body]))
            except InvalidTag:
                self.forgeries += 1
                refused.append('corrupt')
                continue
            window.take(sequence)
            lower.append(low)
        keys.reached(window.highest)
        length = size - HEADER.size - SEAL_BYTES
        return lower, np.frombuffer(b''.join(bodies), np.uint8).reshape(len(bodies), length), refused

    def open(self, received: Datagram, take: bool = True) -> Datagram:
        """The datagram with its body decrypted, and the lower 32 bits of its sequence number; without `take` that is not used up.

        Raises `DatagramError`: 'unexpected' (not sealed), 'duplicate' (taken before, or too old to tell), 'corrupt' (another key, or
        changed on the way, or of an epoch too far ahead to have a key yet).
        """
        if not received.sealed:
            raise DatagramError('unexpected')
        return self._plain(received, self._opened(received.sequence, received.header, received.body, take))

    def read(self, received: Datagram) -> Datagram:
        """The same, also of a datagram that was taken before: what it says must hold however often it is said."""
        if not received.sealed:
            raise DatagramError('unexpected')
        return self._plain(received, self._decrypted(received.sequence, received.header, received.body))

    @staticmethod
    def _plain(received: Datagram, body: bytes) -> Datagram:
        return Datagram(received.type, received.session_id, received.sequence & 0xFFFFFFFF, memoryview(body), received.size,
                        received.header, True)

    def _opened(self, sequence: int, header: bytes | memoryview, body: bytes | memoryview, take: bool = True) -> bytes:
        if sequence <= self._window.highest and not self._window.is_new(sequence):
            raise DatagramError('duplicate')
        opened = self._decrypted(sequence, header, body)
        if take:
            self._window.take(sequence)
            self._receiving.reached(sequence)
        return opened

    def _decrypted(self, sequence: int, header: bytes | memoryview, body: bytes | memoryview) -> bytes:
        decrypt = self._receiving.at(sequence)
        if decrypt is None:
            raise DatagramError('corrupt')
        try:
            return decrypt(self._nonce(self._incoming, sequence), body, header)
        except InvalidTag:
            self.forgeries += 1
            raise DatagramError('corrupt') from None


def sealed_header(kind: int, session_id: int, sequence: int) -> bytes:
    """The 20 bytes before a sealed body."""
    return HEADER.pack(MAGIC, SEALED_VERSION, kind, session_id, sequence & 0xFFFFFFFF, sequence >> 32)


def sign(key: bytes, kind: int, session_id: int, sequence: int, body: bytes) -> bytes:
    """A datagram of the handshake: in clear, with HMAC-SHA256 truncated to 128 bits at its end (RFC 2104, RFC 4868)."""
    data = sealed_header(kind, session_id, sequence) + body
    return data + hmac.digest(key, data, sha256)[:SEAL_BYTES]


def sign_twice(first: bytes, second: bytes, kind: int, session_id: int, sequence: int, body: bytes) -> bytes:
    """The same with two tags, the later one over the earlier; without the later one it is as `sign` makes it."""
    return sign(second, kind, session_id, sequence, sign(first, kind, session_id, sequence, body)[HEADER.size:])


def without_tag(received: Datagram) -> Datagram:
    """A datagram of the handshake without its last tag, which is not checked."""
    return received._replace(body=signed_body(received))


def signed_body(received: Datagram) -> memoryview:
    """The body of a datagram of the handshake, without its tag, which is not checked."""
    return received.body[:-SEAL_BYTES]


def is_signed(key: bytes, received: Datagram) -> bool:
    """Whether a datagram of the handshake was made with `key`; in constant time."""
    code = hmac.new(key, received.header, sha256)
    code.update(signed_body(received))
    return hmac.compare_digest(code.digest()[:SEAL_BYTES], received.body[-SEAL_BYTES:])
