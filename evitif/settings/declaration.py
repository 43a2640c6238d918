"""How a setting is declared: once, as a field of a frozen dataclass, with everything that shows or checks it.

    @dataclass(frozen=True, kw_only=True)
    class EdgeSettings(Settings):
        answer_deadline: float = setting(0.5, 'a frame counts as expired …', unit='s', minimum=0.001, maximum=60.0)

From this one line come the check when the dataclass is built, the node's parameter with its descriptor, the launch argument,
config/*.yaml and the table in docs/nodes.md (`scripts/settings_pages.py`).

Own code, since no library does this: generate_parameter_library makes node parameters only and refuses an integer for a
number; msgspec and pydantic-settings check what they decode, not what is constructed, and tyro makes command lines only.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

OFF = -1                    # as a parameter: no number is set
_TYPES = {'bool': bool, 'int': int, 'float': float, 'str': str}
_TYPE_NAMES = {bool: 'true or false', int: 'an integer', float: 'a number', str: 'a string'}
_SWITCH = ('off', 'on')     # YAML reads these two words as truth values

Scalar = bool | int | float | str


class Changeable(Enum):
    """When a parameter may be set after the node has started."""

    ALWAYS = 'at run time'
    UNCONFIGURED = 'while the node is unconfigured'
    NEVER = 'at start only'


@dataclass(frozen=True)
class Setting:
    """One setting as a node's parameter; its type is that of its default. `minimum` and `maximum` are inclusive and in `unit`.

    A parameter has always a value: where the dataclass has None (`optional`), '' or -1 stands for it.
    """

    name: str
    default: Scalar
    description: str
    unit: str = ''
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    form: str = ''                      # what a text has to be, where `check` says more
    check: Callable[[str], object] | None = None    # raises ValueError for a text that is refused; one that is empty is not asked about
    separator: str = 'x'                # between the parts of what a parameter file has as an array
    required: bool = False              # an empty string is refused
    changeable: Changeable = Changeable.UNCONFIGURED
    launch: bool = False                # the node's launch file takes it as an argument
    optional: bool = False              # the dataclass may have None
    also: float | None = None           # accepted beside the range
    internal: float | None = None       # the same, but not as a parameter: only where Python sets it

    @property
    def type(self) -> type:
        """The type of the parameter's value."""
        return type(self.default)

    @property
    def range(self) -> str:
        """'from 1 to 60 (s), or -1', 'of at least 0', or '' where every value will do."""
        if self.minimum is None:
            return ''
        text = f'of at least {_shown(self.minimum)}' if self.maximum is None else f'from {_shown(self.minimum)} to {_shown(self.maximum)}'
        return text + (f' ({self.unit})' if self.unit else '') + ('' if self.also is None else f', or {_shown(self.also)}')

    def expectation(self) -> str:
        """What a value has to be: 'an integer from 1 to 65535'."""
        if self.choices:
            return 'one of ' + ', '.join(repr(choice) for choice in self.choices)
        if self.form:
            return self.form
        return ' '.join(filter(None, (_TYPE_NAMES[self.type], self.range, 'that is not empty' if self.required else '')))

    def refusal(self, value: object) -> str | None:
        """Return why a parameter's `value` is refused, naming it and what was expected; None where it is accepted."""
        if self._fits(self.converted(value)):
            return None
        return f'{self.name}: expected {self.expectation()}, got {value!r}{self._hint(value)}'

    def require(self, value: Any) -> None:
        """Raise ValueError where a field cannot have `value`, naming it and what was expected."""
        if (value is None and self.optional) or (self.internal is not None and value == self.internal):
            return
        if value == self._none or not self._fits(self._as_float(value)):
            expected = self.expectation().replace(f', or {OFF}', ', or None') if self.optional else self.expectation()
            raise ValueError(f'{self.name} is {value!r}: expected {expected}')

    def converted(self, value: object) -> object:
        """The value in the parameter's own type, where YAML has made another of what was written: `rate:=10`, `source:=0`,
        `batching:=on`, `image_size:=[352, 480]`; else the value itself."""
        if self.type is str and isinstance(value, bool):
            return _SWITCH[value] if set(_SWITCH) <= set(self.choices) else value
        if self.type in (float, str) and isinstance(value, int) and not isinstance(value, bool):
            return self.type(value)
        if self.check is not None and isinstance(value, Sequence) and not isinstance(value, str):      # an array of a parameter file
            return self.separator.join(map(str, value))
        return value

    def field_value(self, value: object) -> object:
        """What the dataclass has for a parameter's value."""
        return None if self.optional and value == self._none else value

    @property
    def _none(self) -> object:
        """The parameter's value that stands for None."""
        return ('' if self.type is str else self.also) if self.optional else None

    def _as_float(self, value: object) -> object:
        """A whole number, or NumPy's, where a float is expected."""
        if self.type is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        return value

    def _hint(self, value: object) -> str:
        if self.type is str and isinstance(value, bool):
            return f'; YAML reads yes, no, on, off, y and n as true or false: for a text write {self.name}:="\'…\'"'
        if self.type is str and isinstance(value, float):
            return f'; for a text that looks like a number write {self.name}:="\'{value}\'"'
        return ''

    def _fits(self, value: object) -> bool:
        kind = str if isinstance(value, str) else type(value)       # a word of the vocabulary is a text
        if kind is not self.type or (self.required and value == ''):
            return False
        if self.choices:
            return value in self.choices
        if self.check is not None and value:
            try:
                self.check(str(value))
            except ValueError:
                return False
        if not isinstance(value, (int, float)) or (self.also is not None and value == self.also):
            return True
        return math.isfinite(value) and not (self.minimum is not None and value < self.minimum
                                             or self.maximum is not None and value > self.maximum)


def setting(default: Scalar | None, description: str, **options: Any) -> Any:
    """A field of a Settings class. The options are fields of Setting: unit, minimum, maximum, choices, required, changeable, launch, …"""
    return dataclasses.field(default=default, metadata={'setting': {'description': description, **options}})


@functools.cache
def settings_of(cls: type) -> tuple[Setting, ...]:
    """The settings that a dataclass declares, in its order."""
    found = []
    for field in dataclasses.fields(cls):
        if 'setting' not in field.metadata:
            continue
        options = dict(field.metadata['setting'])
        kind, _, rest = str(field.type).partition(' | ')
        default: Any = field.default
        if rest == 'None':      # a parameter has no None
            options |= {'optional': True, 'also': None if kind == 'str' else OFF}
            default = '' if kind == 'str' else _TYPES[kind](OFF)
        found.append(Setting(field.name, default, **options))
    return tuple(found)


def bounds_of(cls: type, name: str) -> tuple[float, float]:
    """The least and the largest value of a field, for whoever derives something from them."""
    found = next(each for each in settings_of(cls) if each.name == name)
    assert found.minimum is not None and found.maximum is not None, f'{name} has no range'
    return found.minimum, found.maximum


SettingsClass = TypeVar('SettingsClass', bound='Settings')


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of the settings: raises ValueError for a field out of its range, naming the value and what was expected."""

    def __post_init__(self) -> None:
        for each in settings_of(type(self)):
            each.require(getattr(self, each.name))

    @classmethod
    def from_parameters(cls: type[SettingsClass], values: dict[str, Any]) -> SettingsClass:
        """The settings that a node's parameters describe, by name; those of other strategies are passed over."""
        return cls(**{each.name: each.field_value(values[each.name]) for each in settings_of(cls)})

    def converted(self, cls: type[SettingsClass], **changes: Any) -> SettingsClass:
        """Settings of another class: what both have in common, and `changes`."""
        common = {field.name: getattr(self, field.name) for field in dataclasses.fields(cls) if hasattr(self, field.name)}
        return cls(**{**common, **changes})

    def require_named(self, name: str, expected: str) -> None:
        """Raise ValueError where the text `name` is empty or None."""
        if not getattr(self, name):
            raise ValueError(f'{name} is {getattr(self, name)!r}: expected {expected}')


def _shown(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else f'{bound:g}'
