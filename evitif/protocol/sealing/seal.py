"""A session's seal: every datagram authenticated and encrypted, and none taken twice.

A sealed datagram is version 2 of the protocol: the header, the body encrypted, and a tag of 16 bytes. The header is
authenticated with it; where version 1 has its CRC-32 it has the upper half of the sequence number, which therefore never
wraps. The cipher is ChaCha20-Poly1305 (RFC 8439): as an AEAD (RFC 5116) one call does all, and it is fast and free of
secret-dependent timing on processors without AES instructions, which robots have (the Raspberry Pi 4).
"""

import hmac
import struct
from hashlib import sha256

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from evitif.protocol.wire.datagram import HEADER, MAGIC, SEAL_BYTES, SEALED_VERSION, Datagram, DatagramError
from evitif.protocol.wire.runs import heads_of

FORGERIES = 1 << 36          # datagrams that a key may refuse before it has to go (RFC 9001, section 6.6)
REPLAY_WINDOW = 1024         # sequence numbers; a second of a robot that sends 30 frames of 33 packets
EDGE_TO_BRIDGE, BRIDGE_TO_EDGE = 0, 1
_NONCE = struct.Struct('>IQ')      # direction, sequence number: 96 bits (RFC 8439, section 2.8)
_HALVES = struct.Struct('>II')     # of the sequence number, the lower one first: the end of the header
_TYPE_AT = 3


class ReplayWindow:
    """Which numbers were taken, of the last 1,024: a bit mask that ends at the highest (RFC 4303, section 3.4.3; RFC
    6479)."""

    def __init__(self):
        self._highest = -1
        self._mask = 0             # bit k: whether number highest - k was taken

    def is_new(self, sequence: int) -> bool:
        """Whether `sequence` was not taken yet; False too for a number too old to tell."""
        behind = self._highest - sequence
        return behind < 0 or (behind < REPLAY_WINDOW and not self._mask >> behind & 1)

    def take(self, sequence: int) -> None:
        """Note `sequence`, of a datagram whose seal was right: nobody else may move the window."""
        behind = self._highest - sequence
        if behind >= 0:
            self._mask |= 1 << behind
        else:
            self._mask = (self._mask << -behind | 1) & (1 << REPLAY_WINDOW) - 1 if -behind < REPLAY_WINDOW else 1
            self._highest = sequence

    def take_rising(self, sequences: list[int]) -> None:
        """As `take` of each, where each is above all before."""
        if not sequences or sequences[-1] - sequences[0] != len(sequences) - 1 or len(sequences) > REPLAY_WINDOW:
            for sequence in sequences:
                self.take(sequence)
            return
        ahead = sequences[-1] - self._highest
        kept = self._mask << ahead & (1 << REPLAY_WINDOW) - 1 if ahead < REPLAY_WINDOW else 0
        self._mask, self._highest = kept | (1 << len(sequences)) - 1, sequences[-1]

    def all_new(self, sequences: list[int]) -> int:
        """How many from the first on are each above all that was taken and that stands before it."""
        highest = self._highest
        if sequences[0] > highest and sequences == [*range(sequences[0], sequences[0] + len(sequences))]:
            return len(sequences)
        for count, sequence in enumerate(sequences):
            if sequence <= highest:
                return count
            highest = sequence
        return len(sequences)


class Sealer:
    """Seals what one side of a session sends and opens what the other side sends.

    :param outgoing: key of the datagrams that this side sends, 32 bytes, of this session only
    :param incoming: key of those that it receives
    :param direction: EDGE_TO_BRIDGE on the edge, BRIDGE_TO_EDGE on the bridge
    """

    def __init__(self, outgoing: bytes, incoming: bytes, direction: int):
        self._seal = ChaCha20Poly1305(outgoing).encrypt
        self._open = ChaCha20Poly1305(incoming).decrypt
        self._direction = direction
        self._next = 0
        self._window = ReplayWindow()
        self.forgeries = 0         # datagrams whose seal did not fit

    @property
    def spent(self) -> bool:
        """Whether so many forgeries were refused that the session needs other keys."""
        return self.forgeries >= FORGERIES

    def finish(self, buffer, session_id: int, sequence: int) -> bytes:
        """The sealed datagram with the type and body of the one in `buffer` (bytes-like, header included).

        It is 16 bytes longer. Raises ValueError for a sequence number that is not higher than all before, since a nonce
        that is used twice gives the key away.
        """
        if sequence < self._next:
            raise ValueError(f'sequence is {sequence}; expected at least {self._next}: a sequence number is sealed once')
        self._next = sequence + 1
        view = memoryview(buffer)
        header = sealed_header(view[_TYPE_AT], session_id, sequence)
        return header + self._seal(_NONCE.pack(self._direction, sequence), view[HEADER.size:], header)

    def finish_run(self, datagrams: np.ndarray, session_id: int, first_sequence: int) -> np.ndarray:
        """As `finish` each of `datagrams`, uint8 [n, size], numbered from `first_sequence` on: uint8 [n, size + 16]."""
        count, size = datagrams.shape
        if first_sequence < self._next:
            raise ValueError(f'sequence is {first_sequence}; expected at least {self._next}: a sequence number is sealed once')
        self._next = first_sequence + count
        beginning = sealed_header(int(datagrams[0, _TYPE_AT]), session_id, 0)[:-_HALVES.size]
        bodies, length = datagrams[:, HEADER.size:].tobytes(), size - HEADER.size
        seal, nonce, halves, direction, parts = self._seal, _NONCE.pack, _HALVES.pack, self._direction, []
        for sequence, at in zip(range(first_sequence, self._next), range(0, len(bodies), length), strict=True):
            header = beginning + halves(sequence & 0xFFFFFFFF, sequence >> 32)
            parts.append(header)
            parts.append(seal(nonce(direction, sequence), bodies[at:at + length], header))
        return np.frombuffer(b''.join(parts), np.uint8).reshape(count, size + SEAL_BYTES)

    def open_run(self, datagrams: np.ndarray) -> tuple[list[int], np.ndarray]:
        """As `open` each of a run of one session and type, uint8 [n, size], from the first on as far as each is newer than all
        before and its seal fits.

        Returns the sequence numbers, their lower 32 bits, and the bodies, uint8 [opened, size - 36]. Nothing is counted or
        said of the datagram that ended it.
        """
        count, size = datagrams.shape
        heads = heads_of(datagrams)
        lower = heads['sequence'].tolist()
        sequences = [upper << 32 | low for upper, low in zip(heads['checksum'].tolist(), lower, strict=True)]
        count = self._window.all_new(sequences)
        data = datagrams[:count].tobytes()
        unseal, nonce, direction, bodies = self._open, _NONCE.pack, 1 - self._direction, []
        try:
            for sequence, at in zip(sequences, range(0, count * size, size), strict=False):
                body = at + HEADER.size
                bodies.append(unseal(nonce(direction, sequence), data[body:at + size], data[at:body]))
        except InvalidTag:
            count = len(bodies)
        self._window.take_rising(sequences[:count])
        length = size - HEADER.size - SEAL_BYTES
        return lower[:count], np.frombuffer(b''.join(bodies), np.uint8).reshape(count, length)

    def open(self, received: Datagram) -> Datagram:
        """The datagram with its body decrypted, and the lower 32 bits of its sequence number.

        Raises `DatagramError`: 'unexpected' (not sealed), 'duplicate' (was here, or too old to tell), 'corrupt' (the seal
        does not fit: another key, or changed on the way).
        """
        if not received.sealed:
            raise DatagramError('unexpected')
        if not self._window.is_new(received.sequence):
            raise DatagramError('duplicate')
        try:
            body = self._open(_NONCE.pack(1 - self._direction, received.sequence), received.body, received.header)
        except InvalidTag:
            self.forgeries += 1
            raise DatagramError('corrupt') from None
        self._window.take(received.sequence)
        return Datagram(received.type, received.session_id, received.sequence & 0xFFFFFFFF, memoryview(body), received.size,
                        received.header, True)


def sealed_header(kind: int, session_id: int, sequence: int) -> bytes:
    """The 20 bytes before a sealed body."""
    return HEADER.pack(MAGIC, SEALED_VERSION, kind, session_id, sequence & 0xFFFFFFFF, sequence >> 32)


def signed(key: bytes, kind: int, session_id: int, sequence: int, body: bytes) -> bytes:
    """A datagram of the handshake: in clear, with HMAC-SHA256 truncated to 128 bits at its end (RFC 2104, RFC 4868)."""
    data = sealed_header(kind, session_id, sequence) + body
    return data + hmac.digest(key, data, sha256)[:SEAL_BYTES]


def signed_body(received: Datagram) -> memoryview:
    """The body of a datagram of the handshake, without its tag, which is not looked at."""
    return received.body[:-SEAL_BYTES]


def is_signed(key: bytes, received: Datagram) -> bool:
    """Whether a datagram of the handshake was made with `key`; in time that does not tell how nearly."""
    code = hmac.new(key, received.header, sha256)
    code.update(signed_body(received))
    return hmac.compare_digest(code.digest()[:SEAL_BYTES], received.body[-SEAL_BYTES:])
