"""What edge and bridge must agree on before the first token is sent."""

import json
import math
import re
from dataclasses import MISSING, asdict, dataclass, fields, replace
from hashlib import sha256
from typing import TypeVar

from evitif.identity import difference
from evitif.protocol.wire.datagram import MAX_UDP_PAYLOAD, MAX_UNITS
from evitif.vocabulary import ROWS, Fit, Quantisation, Strategy, Word

MAX_NAME_BYTES = 128      # of a model, a robot or a bridge, in UTF-8
MAX_TOKENS = 8192         # so that an answer's bitmap of tokens stays within one datagram
MAX_HEADS = 32
_HEAD_DIGEST = re.compile(r'[0-9a-f]{16}')
_FINGERPRINT = re.compile(r'[0-9a-f]{64}')


def check_name(what: str, name: object) -> str:
    """Return `name`; raise ValueError unless it is printable text of 1 to 128 bytes of UTF-8."""
    # A lone surrogate is not printable, so encode() cannot fail.
    if not (isinstance(name, str) and name.isprintable() and 1 <= len(name.encode()) <= MAX_NAME_BYTES):
        raise ValueError(f'{what} is {name!r:.80}; expected 1 to {MAX_NAME_BYTES} bytes of printable text')
    return name


def check_count(what: str, value: object, low: int, high: int) -> int:
    """Return `value`; raise ValueError unless it is an int from `low` to `high`, both included."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f'{what} is {value!r:.40}; expected a whole number from {low} to {high}')
    return value


def check_seconds(what: str, value: object) -> float:
    """Return `value`; raise ValueError unless it is a finite, positive number of seconds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value > 0):
        raise ValueError(f'{what} is {value!r:.40}; expected a positive number of seconds')
    return value


W = TypeVar('W', bound=Word)


def check_word(what: str, value: object, words: type[W]) -> W:
    """Return `value` as one of `words`; raise ValueError where it is none."""
    try:
        return words(value)
    except ValueError:
        raise ValueError(f'{what} is {value!r:.40}; expected one of {", ".join(words)}') from None


def _pair(what: str, value: object, high: int) -> tuple[int, int]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f'{what} is {value!r:.60}; expected (height, width)')
    return check_count(f'{what}[0]', value[0], 1, high), check_count(f'{what}[1]', value[1], 1, high)


@dataclass(frozen=True)
class StreamParameters:
    """The strategy, its models and the layout of a frame; exchanged in HELLO and compared field by field.

    With `selection` the tokens are the image's patches at cut 0. With `partition` each token is one device's features, so the bitmap of
    received tokens also says which devices answered.

    Raises ValueError, naming the value and what was expected, where a field is impossible or the fields disagree.
    """

    model: str
    fingerprint: str                   # of weights, architecture, preprocessing, cut (evitif.identity); of a partition: of all its models
    cut: int                           # blocks on the robot
    quantisation: Quantisation
    image_size: tuple[int, int]        # (height, width) of the model's input, pixels
    tokens: int                        # prefix_tokens + grid[0] * grid[1]
    prefix_tokens: int                 # class, distillation and register tokens, first in the sequence
    grid: tuple[int, int]              # (rows, columns) of patches
    channels: int                      # of a token
    groups: int                        # channel slices a token is cut into; 1 unless a row exceeds a datagram
    row_bytes: int                     # bytes of a unit
    classes: int
    code: str = ''                     # hex SHA-256 of the transform code or the patch code, where there is one
    formats: tuple[tuple[Quantisation, int], ...] = ()     # other quantisations that a frame may be sent in, and their row_bytes
    strategy: Strategy = Strategy.SPLIT
    light: str = ''                    # of `selection`: hex SHA-256 of the robot's light model
    device: str = ''                   # of `partition`: whose features these are
    entropy_code: str = ''             # hex SHA-256 of the entropy code, where there is one: frames may travel in CODED datagrams
    # Heads whose answers may travel back, in the order by which an ANSWER numbers them: name, and 16 hexadecimal digits of the artifact.
    heads: tuple[tuple[str, str], ...] = ()
    fit: Fit = Fit.CROP                # how a picture is brought to `image_size`

    def __post_init__(self):
        check_name('model', self.model)
        if not isinstance(self.fingerprint, str) or not _FINGERPRINT.fullmatch(self.fingerprint):
            raise ValueError(f'fingerprint is {self.fingerprint!r:.80}; expected 64 hexadecimal digits in lower case')
        for name in ('code', 'light', 'entropy_code'):
            value = getattr(self, name)
            if not isinstance(value, str) or value and not _FINGERPRINT.fullmatch(value):
                raise ValueError(f'{name} is {value!r:.80}; expected 64 hexadecimal digits in lower case, or none')
        object.__setattr__(self, 'strategy', check_word('strategy', self.strategy, Strategy))
        if self.device != '' or self.strategy == Strategy.PARTITION:
            check_name('device', self.device)
        object.__setattr__(self, 'fit', check_word('fit', self.fit, Fit))
        check_count('cut', self.cut, 0, 1024)
        object.__setattr__(self, 'quantisation', check_word('quantisation', self.quantisation, Quantisation))
        if self.quantisation not in ROWS:
            raise ValueError(f'quantisation is {self.quantisation}; expected one of {", ".join(ROWS)} for the rows of a frame')
        object.__setattr__(self, 'image_size', _pair('image_size', self.image_size, 65535))
        object.__setattr__(self, 'grid', _pair('grid', self.grid, 1024))
        check_count('tokens', self.tokens, 1, MAX_TOKENS)
        check_count('prefix_tokens', self.prefix_tokens, 0, self.tokens - 1)
        patches = self.grid[0] * self.grid[1]
        if self.tokens != self.prefix_tokens + patches:
            raise ValueError(f'tokens is {self.tokens}; expected {self.prefix_tokens} prefix tokens and '
                             f'{self.grid[0]} x {self.grid[1]} patches, {self.prefix_tokens + patches} in all')
        check_count('channels', self.channels, 1, 65535)
        check_count('groups', self.groups, 1, self.channels)
        if self.channels % self.groups:
            raise ValueError(f'groups is {self.groups}; expected a divisor of {self.channels} channels')
        if self.entropy_code and self.groups > 1:
            raise ValueError(f'groups is {self.groups}; expected 1 with an entropy code')
        check_count('units (tokens * groups)', self.tokens * self.groups, 1, MAX_UNITS)
        check_count('row_bytes', self.row_bytes, 1, MAX_UDP_PAYLOAD)
        check_count('classes', self.classes, 1, 1 << 24)
        object.__setattr__(self, 'formats', self._checked_formats())
        object.__setattr__(self, 'heads', self._checked_heads())

    @property
    def units(self) -> int:
        """Units of a frame: `tokens * groups`."""
        return self.tokens * self.groups

    def _checked_formats(self) -> tuple[tuple[Quantisation, int], ...]:
        if not isinstance(self.formats, (tuple, list)) or self.formats and self.groups > 1:
            raise ValueError(f'formats is {self.formats!r:.80}; expected pairs of quantisation and row_bytes, none with groups')
        others = [kind for kind in ROWS if kind != self.quantisation]
        for item in self.formats:
            if not isinstance(item, (tuple, list)) or len(item) != 2 or item[0] not in others:
                raise ValueError(f'formats has {item!r:.60}; expected another quantisation of {", ".join(ROWS)} and '
                                 'the bytes of its rows')
            check_count(f'row_bytes of {item[0]}', item[1], 1, MAX_UDP_PAYLOAD)
        return tuple((Quantisation(name), row_bytes) for name, row_bytes in self.formats)

    def _checked_heads(self) -> tuple[tuple[str, str], ...]:
        if not isinstance(self.heads, (tuple, list)) or len(self.heads) > MAX_HEADS:
            raise ValueError(f'heads is {self.heads!r:.80}; expected at most {MAX_HEADS} pairs of name and digest')
        for item in self.heads:
            if not isinstance(item, (tuple, list)) or len(item) != 2 or not _HEAD_DIGEST.fullmatch(str(item[1])):
                raise ValueError(f'heads has {item!r:.60}; expected a name and 16 hexadecimal digits')
            check_name('a name in heads', item[0])
        heads = tuple((name, str(digest)) for name, digest in self.heads)
        if len({name for name, _ in heads}) < len(heads):
            raise ValueError(f'heads is {heads!r:.80}; expected names that differ')
        return heads

    @property
    def row_formats(self) -> dict[Quantisation, int]:
        """The bytes of a row in every quantisation that a frame may be sent in."""
        return {self.quantisation: self.row_bytes, **dict(self.formats)}

    def in_format(self, quantisation: Quantisation) -> 'StreamParameters':
        """The same stream with frames in one of `row_formats`, and in no other."""
        return replace(self, quantisation=quantisation, row_bytes=self.row_formats[quantisation], formats=())

    def differences(self, other: 'StreamParameters') -> list[str]:
        """What an edge with `self` and a bridge with `other` disagree on, a sentence for each field. The edge may read fewer heads."""
        if self.strategy != other.strategy:      # then hardly anything agrees
            return [f'strategy: the edge has {self.strategy}, the bridge has {other.strategy}']
        return [f'{field.name}: the edge has {_shown(getattr(self, field.name))}, '
                f'the bridge has {_shown(getattr(other, field.name))}{_difference(field.name, self, other)}'
                for field in fields(self) if getattr(self, field.name) != getattr(other, field.name)
                and not (field.name == 'heads' and set(self.heads) <= set(other.heads))]

    def to_json(self) -> dict:
        """A dictionary of JSON values, without those that are the default; `from_json` reads it."""
        values = asdict(self)
        return {field.name: values[field.name] for field in fields(self) if values[field.name] != field.default}

    @property
    def digest(self) -> str:
        """64 hexadecimal digits: SHA-256 of the JSON of `to_json` without spaces, keys in order."""
        return sha256(json.dumps(self.to_json(), separators=(',', ':'), sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_json(cls, value: object) -> 'StreamParameters':
        """Read what `to_json` wrote; unknown keys are ignored. Raises ValueError for anything else, however odd."""
        names = {field.name for field in fields(cls) if field.default is MISSING}
        value = value if isinstance(value, dict) else {}
        if missing := names - value.keys():
            raise ValueError(f'stream parameters lack {", ".join(sorted(missing))}')
        return cls(**{field.name: value[field.name] for field in fields(cls) if field.name in value})


def _difference(name: str, first: StreamParameters, second: StreamParameters) -> str:
    """Which parts of two models' fingerprints differ; a partition's has no parts."""
    of_a_model = name == 'light' or name == 'fingerprint' and first.strategy != Strategy.PARTITION
    return difference(getattr(first, name), getattr(second, name)) if of_a_model else ''


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        pair = len(value) == 2 and all(isinstance(item, int) for item in value)
        return f'{value[0]}x{value[1]}' if pair else ', '.join(
            f'{name} ({size} bytes)' if isinstance(size, int) else f'{name} ({size})' for name, size in value) or 'none'
    return str(value)
