"""What a bridge and a directory say to one another: the JSON bodies of STATUS and PEERS.

They are signed with the fleet's key (`sealing.seal.sign`), but read as hostile input all the same.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from evitif.protocol.wire.datagram import Buffer
from evitif.protocol.wire.handshake import read_object
from evitif.protocol.wire.parameters import MAX_NAME_BYTES, check_count, check_name

STATUS_BYTES = 1100          # of a STATUS's body, with spaces: no answer to it is longer
MOST_SERVED, SERVED_DIGITS = 24, 16      # streams of one bridge that a STATUS names; of each digest, the first ones
MOST_PEERS = 8
NONCE_BYTES = 8


@dataclass(frozen=True)
class Status:
    """A bridge says how it is."""

    bridge: int              # its number in the fleet
    name: str
    life: int                # random, new for each life of the process
    clock: float             # seconds on its own clock, which tickets expire by
    serves: tuple[str, ...]  # the first digits of the digests of the parameters that a robot's may be
    version: str             # of the model, as the operator calls it
    robots: int
    capacity: int            # most robots
    load: float              # share of the time that the tail computes, 0..1
    draining: bool = False
    grouped: bool = False    # robots have several devices, which have to come to the same bridge
    host: str = ''           # where robots reach it; '': where the STATUS comes from
    port: int = 0
    nonce: str = ''          # of the last PEERS, 16 hexadecimal digits
    answered: int = 0        # frames since the process began
    expired: int = 0         # of these, frames that were not answered
    wait_ms: float = 0.0     # the 99th percentile of what frames waited for the tail of late

    def to_bytes(self) -> bytes:
        """The body, filled up to STATUS_BYTES. Raises ValueError where it is longer."""
        body = json.dumps(asdict(self), separators=(',', ':'), ensure_ascii=False).encode()
        if len(body) > STATUS_BYTES:
            raise ValueError(f'a STATUS of {len(body)} bytes; expected at most {STATUS_BYTES}: shorter names')
        return body.ljust(STATUS_BYTES)

    @classmethod
    def parse(cls, body: Buffer) -> Status:
        """Read a body. Raises DatagramError('malformed')."""
        with read_object(body) as value:
            known = {field.name: value[field.name] for field in fields(cls) if field.name in value}
            serves = value.get('serves')
            if not isinstance(serves, list) or not 1 <= len(serves) <= MOST_SERVED \
                    or any(not _is_hex(text, SERVED_DIGITS) for text in serves):
                raise ValueError('serves')
            check_count('bridge', value.get('bridge'), 0, 65535)
            check_name('name', value.get('name'))
            check_count('life', value.get('life'), 0, 2 ** 64 - 1)
            for name in ('robots', 'answered', 'expired', 'port'):
                check_count(name, value.get(name, 0), 0, 65535 if name in ('robots', 'port') else 2 ** 63)
            check_count('capacity', value.get('capacity'), 1, 65535)
            for name in ('clock', 'load', 'wait_ms'):
                _finite(value.get(name, 0.0))
            _text(value.get('version'))
            _text(value.get('host', ''))
            if not all(isinstance(value.get(name, False), bool) for name in ('draining', 'grouped')):
                raise ValueError('draining, grouped')
            if value.get('nonce', '') and not _is_hex(value['nonce'], 2 * NONCE_BYTES):
                raise ValueError('nonce')
            return cls(**{**known, 'serves': tuple(serves), 'load': min(max(float(value['load']), 0.0), 1.0)})


class Peer(NamedTuple):
    """Another bridge of the fleet that serves the same."""

    number: int
    host: str
    port: int
    weight: float
    ahead: float             # its clock minus the clock of whom this is told, seconds


@dataclass(frozen=True)
class Peers:
    """A directory answers a STATUS."""

    nonce: str               # to be said in the next STATUS
    heard: bool              # whether the STATUS counts: its nonce was right
    drain: bool = False      # send the robots elsewhere
    peers: tuple[Peer, ...] = ()

    def to_bytes(self) -> bytes:
        """The body; peers that have no room are left out."""
        for kept in range(len(self.peers), -1, -1):
            body = json.dumps({**asdict(self), 'peers': self.peers[:kept]}, separators=(',', ':')).encode()
            if len(body) <= STATUS_BYTES:
                break
        return body

    @classmethod
    def parse(cls, body: Buffer) -> Peers:
        """Read a body. Raises DatagramError('malformed')."""
        with read_object(body) as value:
            peers = value.get('peers')
            if not isinstance(peers, list) or len(peers) > MOST_PEERS or not _is_hex(value.get('nonce'), 2 * NONCE_BYTES) \
                    or not all(isinstance(value.get(name), bool) for name in ('heard', 'drain')):
                raise ValueError('peers')
            return cls(value['nonce'], value['heard'], value['drain'], tuple(_peer(peer) for peer in peers))


def _peer(value: Any) -> Peer:
    if not isinstance(value, list) or len(value) != len(Peer._fields):
        raise ValueError('a peer')
    number, host, port, weight, ahead = value
    if not 0.0 <= _finite(weight) <= 1e6:
        raise ValueError('weight')
    return Peer(check_count('number', number, 0, 65535), _text(host), check_count('port', port, 1, 65535), float(weight), _finite(ahead))


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or abs(value) > 1e15:
        raise ValueError('a number')
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_NAME_BYTES or not (value == '' or value.isprintable()):
        raise ValueError('a text')
    return value


def _is_hex(value: Any, digits: int) -> bool:
    return isinstance(value, str) and len(value) == digits and all(digit in '0123456789abcdef' for digit in value)


