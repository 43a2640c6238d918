"""The bodies of HELLO, WELCOME and REFUSE: UTF-8 JSON, rare and small, so that a person can read a capture.

Who writes them is not known yet, so they are read as hostile input: size, nesting, types and ranges are checked, and
whatever is wrong raises `DatagramError('malformed')`. Keys that this version does not know are ignored.
"""

import json
import re
from dataclasses import dataclass

from evitif.protocol.wire.answer import MAX_TOP_K
from evitif.protocol.wire.datagram import DatagramError
from evitif.protocol.wire.parameters import StreamParameters, check_count, check_name

MAX_BODY_BYTES = 4096
MAX_REASONS = 16
MAX_REASON_CHARACTERS = 400
_U64 = re.compile(r'[0-9a-f]{16}')


@dataclass(frozen=True)
class Hello:
    robot: str
    instance: int                # random u64, one for each life of an edge
    parameters: StreamParameters
    top_k: int = 0               # classes that an answer should have at least; 0: as the bridge has it

    def to_bytes(self) -> bytes:
        asked = {'top_k': self.top_k} if self.top_k else {}
        return _dump({'robot': self.robot, 'instance': f'{self.instance:016x}',
                      'parameters': self.parameters.to_json(), **asked})

    @classmethod
    def parse(cls, body) -> 'Hello':
        value = _load(body)
        try:
            return cls(check_name('robot', value.get('robot')), _instance(value),
                       StreamParameters.from_json(value.get('parameters')), check_count('top_k', value.get('top_k', 0), 0, MAX_TOP_K))
        except ValueError:
            raise DatagramError('malformed') from None


@dataclass(frozen=True)
class Welcome:
    """The session's id is in the datagram's header."""

    instance: int
    bridge: str

    def to_bytes(self) -> bytes:
        return _dump({'instance': f'{self.instance:016x}', 'bridge': self.bridge})

    @classmethod
    def parse(cls, body) -> 'Welcome':
        value = _load(body)
        try:
            return cls(_instance(value), check_name('bridge', value.get('bridge')))
        except ValueError:
            raise DatagramError('malformed') from None


@dataclass(frozen=True)
class Refuse:
    instance: int
    bridge: str
    reasons: tuple[str, ...]

    @property
    def reason(self) -> str:
        return '; '.join(self.reasons)

    def to_bytes(self, limit: int = MAX_BODY_BYTES) -> bytes:
        """At most `limit` bytes where that is possible: the last reasons are left out, and counted, to reach it."""
        for kept in range(len(self.reasons), -1, -1):
            reasons = list(self.reasons[:kept])
            if kept < len(self.reasons):
                reasons.append(f'and {len(self.reasons) - kept} more')
            body = _dump({'instance': f'{self.instance:016x}', 'bridge': self.bridge, 'reasons': reasons})
            if len(body) <= limit:
                break
        return body

    @classmethod
    def parse(cls, body) -> 'Refuse':
        value = _load(body)
        reasons = value.get('reasons')
        if not isinstance(reasons, list) or not 1 <= len(reasons) <= MAX_REASONS:
            raise DatagramError('malformed')
        for reason in reasons:
            if not isinstance(reason, str) or len(reason) > MAX_REASON_CHARACTERS or not reason.isprintable():
                raise DatagramError('malformed')
        try:
            return cls(_instance(value), check_name('bridge', value.get('bridge')), tuple(reasons))
        except ValueError:
            raise DatagramError('malformed') from None


def _dump(value: dict) -> bytes:
    return json.dumps(value, separators=(',', ':'), ensure_ascii=False).encode()


def _no_constant(name: str):
    raise ValueError(f'{name} is not JSON')


_DECODER = json.JSONDecoder(parse_constant=_no_constant)      # made once: json.loads would make one for each call


def _load(body) -> dict:
    if len(body) > MAX_BODY_BYTES:
        raise DatagramError('malformed')
    try:
        value = _DECODER.decode(bytes(body).decode())
    except (ValueError, RecursionError):      # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise DatagramError('malformed') from None
    if not isinstance(value, dict):
        raise DatagramError('malformed')
    return value


def _instance(value: dict) -> int:
    text = value.get('instance')
    if not isinstance(text, str) or not _U64.fullmatch(text):
        raise ValueError('instance is not 16 hexadecimal digits')
    return int(text, 16)
