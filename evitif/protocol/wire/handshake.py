"""The bodies of HELLO, WELCOME and REFUSE: UTF-8 JSON, rare and small, so that a person can read a capture.

The writer is not known yet, so they are read as hostile input: size, nesting, types and ranges are checked, and anything wrong
raises `DatagramError('malformed')`. Keys that this version does not know are ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from evitif.protocol.wire.answer import MAX_TOP_K
from evitif.protocol.wire.datagram import Buffer, DatagramError
from evitif.protocol.wire.parameters import StreamParameters, check_count, check_name
from evitif.protocol.wire.route import TICKET_BYTES

MAX_BODY_BYTES = 4096
MAX_REASONS = 16
MAX_REASON_CHARACTERS = 400
_U64, _DIGEST = re.compile(r'[0-9a-f]{16}'), re.compile(r'[0-9a-f]{64}')
_TICKET = re.compile(f'[0-9a-f]{{{2 * TICKET_BYTES}}}')


@dataclass(frozen=True)
class Hello:
    """An edge asks for a session."""

    robot: str
    instance: int                # random u64, one for each life of an edge
    parameters: StreamParameters | str      # or their `digest`, where the path takes no longer HELLO
    top_k: int = 0               # classes that an answer should have at least; 0: the bridge decides
    bridge: str = ''             # the bridge that it is meant for; '': whichever hears it
    ticket: bytes = b''          # that the bridge of a fleet asks for (`sealing.tickets`)

    def to_bytes(self) -> bytes:
        """The body."""
        asked = {name: value for name, value in (('top_k', self.top_k), ('bridge', self.bridge), ('ticket', self.ticket.hex())) if value}
        stream = {'digest': self.parameters} if isinstance(self.parameters, str) else {'parameters': self.parameters.to_json()}
        return _dump({'robot': self.robot, 'instance': f'{self.instance:016x}', **stream, **asked})

    @classmethod
    def parse(cls, body: Buffer) -> Hello:
        """Read a body. Raises DatagramError('malformed')."""
        with read_object(body) as value:
            return cls(check_name('robot', value.get('robot')), _instance(value),
                       _digest(value['digest']) if 'digest' in value else StreamParameters.from_json(value.get('parameters')),
                       check_count('top_k', value.get('top_k', 0), 0, MAX_TOP_K),
                       check_name('bridge', value['bridge']) if 'bridge' in value else '',
                       _ticket(value['ticket']) if 'ticket' in value else b'')


@dataclass(frozen=True)
class Welcome:
    """The bridge gives a session; its id is in the datagram's header."""

    instance: int
    bridge: str

    def to_bytes(self) -> bytes:
        """The body."""
        return _dump({'instance': f'{self.instance:016x}', 'bridge': self.bridge})

    @classmethod
    def parse(cls, body: Buffer) -> Welcome:
        """Read a body. Raises DatagramError('malformed')."""
        with read_object(body) as value:
            return cls(_instance(value), check_name('bridge', value.get('bridge')))


@dataclass(frozen=True)
class Refuse:
    """The bridge gives no session, and says why."""

    instance: int
    bridge: str
    reasons: tuple[str, ...]

    @property
    def reason(self) -> str:
        """All reasons in one sentence."""
        return '; '.join(self.reasons)

    def to_bytes(self, limit: int = MAX_BODY_BYTES) -> bytes:
        """The body. To stay within `limit` bytes, if that is possible, the last reasons are only counted."""
        for kept in range(len(self.reasons), -1, -1):
            reasons = list(self.reasons[:kept])
            if kept < len(self.reasons):
                reasons.append(f'and {len(self.reasons) - kept} more')
            body = _dump({'instance': f'{self.instance:016x}', 'bridge': self.bridge, 'reasons': reasons})
            if len(body) <= limit:
                break
        return body

    @classmethod
    def parse(cls, body: Buffer) -> Refuse:
        """Read a body. Raises DatagramError('malformed')."""
        with read_object(body) as value:
            reasons = value.get('reasons')
            if not isinstance(reasons, list) or not 1 <= len(reasons) <= MAX_REASONS:
                raise ValueError(f'expected 1 to {MAX_REASONS} reasons')
            for reason in reasons:
                if not isinstance(reason, str) or len(reason) > MAX_REASON_CHARACTERS or not reason.isprintable():
                    raise ValueError(f'expected printable reasons of at most {MAX_REASON_CHARACTERS} characters')
            return cls(_instance(value), check_name('bridge', value.get('bridge')), tuple(reasons))


def _dump(value: dict) -> bytes:
    return json.dumps(value, separators=(',', ':'), ensure_ascii=False).encode()


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f'{name} is not JSON')


_DECODER = json.JSONDecoder(parse_constant=_no_constant)      # made once: json.loads would make one for each call


@contextmanager
def read_object(body: Buffer) -> Iterator[dict[str, Any]]:
    """The JSON object in a body; whatever is wrong with it, or found wrong with its values, is 'malformed'."""
    try:
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f'expected at most {MAX_BODY_BYTES} bytes')
        value = _DECODER.decode(bytes(body).decode())
        if not isinstance(value, dict):
            raise ValueError('expected an object')
        yield value
    except (ValueError, TypeError, OverflowError, RecursionError):      # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise DatagramError('malformed') from None


def _instance(value: dict[str, Any]) -> int:
    text = value.get('instance')
    if not isinstance(text, str) or not _U64.fullmatch(text):
        raise ValueError('instance is not 16 hexadecimal digits')
    return int(text, 16)


def _ticket(text: object) -> bytes:
    if not isinstance(text, str) or not _TICKET.fullmatch(text):
        raise ValueError(f'ticket is not {2 * TICKET_BYTES} hexadecimal digits')
    return bytes.fromhex(text)


def _digest(text: object) -> str:
    if not isinstance(text, str) or not _DIGEST.fullmatch(text):
        raise ValueError('digest is not 64 hexadecimal digits')
    return text
