"""The keys of one direction of a session, another one for each epoch of its sequence numbers.

An epoch is the sequence number without its lower 16 bits, so nothing on the wire says that the key has changed. The key of the next
epoch is HKDF-Expand of the present one's, as in TLS 1.3 (RFC 8446, section 7.2) and QUIC (RFC 9001, section 6.1): nobody gets from a key
to the one before. Whoever reads a side's memory can read what is said from then on, and before that no more than the epochs in which
the replay window lies.
"""

from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from evitif.protocol.wire.datagram import WINDOW

EPOCH_BITS = 16              # 65,536 datagrams: a minute at 1,000 a second
# Epochs that a receiver may have missed: 10 minutes at 1,700 datagrams a second, which is the longest silence that a session can be set
# to survive. At most so many keys are made for datagrams that turn out to be forged.
EPOCHS_AHEAD = 16
_LABEL = b'evitif 2 next'

Cipher = Callable[[bytes, bytes | memoryview, bytes | memoryview], bytes]      # nonce, data, associated data


class SendingKeys:
    """The key that datagrams are sealed with; `ends_at`: the first sequence number that has another one."""

    def __init__(self, key: bytes):
        self._key, self.bits = key, EPOCH_BITS
        self._seal = ChaCha20Poly1305(key).encrypt
        self.ends_at = 1 << self.bits

    def at(self, sequence: int) -> Cipher:
        """What seals the datagram with this number, which is no lower than any before."""
        if sequence >= self.ends_at:
            while sequence >= self.ends_at:
                self._key = next_key(self._key)
                self.ends_at += 1 << self.bits
            self._seal = ChaCha20Poly1305(self._key).encrypt
        return self._seal


class ReceivingKeys:
    """The keys that what may still arrive was sealed with: from the epoch of the oldest number in the replay window on."""

    def __init__(self, key: bytes):
        self._key, self.bits = key, EPOCH_BITS              # the newest that was made
        self._open = {0: ChaCha20Poly1305(key).decrypt}      # by epoch, without gaps
        self._newest, self._last = 0, EPOCHS_AHEAD
        self._turns_at = 1 << self.bits

    def at(self, sequence: int) -> Cipher | None:
        """What opens a datagram with this number; None: it is too far ahead, or too old."""
        epoch = sequence >> self.bits
        opened = self._open.get(epoch)
        if opened is None and self._newest < epoch <= self._last:
            while self._newest < epoch:
                self._key = next_key(self._key)
                self._newest += 1
                self._open[self._newest] = ChaCha20Poly1305(self._key).decrypt
            opened = self._open[epoch]
        return opened

    def reached(self, highest: int) -> None:
        """Note the highest sequence number of an authentic datagram: only this leads to later epochs, and away from former ones."""
        if highest < self._turns_at:
            return
        oldest, present = max(highest - WINDOW + 1, 0) >> self.bits, highest >> self.bits
        for epoch in range(min(self._open), oldest):
            del self._open[epoch]
        self._last = present + EPOCHS_AHEAD
        self._turns_at = min(present + 1 << self.bits, (oldest + 1 << self.bits) + WINDOW - 1)


def next_key(key: bytes) -> bytes:
    """The key of the epoch after that of `key`, 32 bytes."""
    return HKDFExpand(hashes.SHA256(), 32, _LABEL).derive(key)
