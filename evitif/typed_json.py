"""JSON that was read, as the types that the code works with; a refusal names the place, the value and what was expected."""

from __future__ import annotations

import dataclasses
from enum import Enum
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar('T')

_NAMES = {str: 'a text', int: 'a whole number', float: 'a number', bool: 'true or false', dict: 'a dict', list: 'a list', tuple: 'a list'}


def typed(kind: type[T], content: Any, name: str = '') -> T:
    """`content`, what `files.read_json` returned or a part of it, as a `kind`.

    :param kind: str, int, float, bool, an Enum, list[X], tuple[X, ...], tuple[X, Y], dict[str | float, X], X | None or a dataclass of
        such fields, whose defaults stand for keys that are missing and which is not given the keys that it does not have
    :param name: of `content`, for the text of an error
    :raises ValueError: naming the place and the value; also what the dataclass raises itself
    """
    return _typed(kind, content, name)


def _typed(kind: Any, content: Any, name: str) -> Any:
    origin: Any = get_origin(kind) or kind
    arguments = get_args(kind)
    if origin is Any:
        return content
    if origin in (Union, UnionType):
        return None if content is None else _typed(next(one for one in arguments if one is not NoneType), content, name)
    if dataclasses.is_dataclass(kind):
        return content if isinstance(content, origin) else _record(origin, _of(dict, content, name, dict), name)
    if issubclass(origin, Enum):
        if content not in (values := [member.value for member in origin]):
            raise _unlike(name, content, f'one of {", ".join(values)}')
        return origin(content)
    if origin is float:
        return float(_of((int, float), content, name, float))
    values = _of((list, tuple) if origin in (list, tuple) else origin, content, name, origin)
    if not arguments:
        return values
    if origin is dict:
        return {_key(arguments[0], key, name): _typed(arguments[1], value, _inside(name, key)) for key, value in values.items()}
    kinds = [arguments[0]] * len(values) if origin is list or Ellipsis in arguments else arguments
    if len(kinds) != len(values):
        raise _unlike(name, content, f'{len(kinds)} values')
    return origin(_typed(one, value, f'{name}[{index}]') for index, (one, value) in enumerate(zip(kinds, values, strict=True)))


def _record(kind: Any, content: dict, name: str) -> Any:
    hints, values = get_type_hints(kind), {}
    for field in dataclasses.fields(kind):
        if field.name in content:
            values[field.name] = _typed(hints[field.name], content[field.name], _inside(name, field.name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f'the key {_inside(name, field.name)!r} is missing')
    return kind(**values)


def _key(kind: type, key: str, name: str) -> Any:
    try:
        return kind(key)
    except ValueError:
        raise _unlike(f'a key of {name}', key, _NAMES.get(kind, kind.__name__)) from None


def _of(kinds: type | tuple[type, ...], content: Any, name: str, expected: type) -> Any:
    if not isinstance(content, kinds) or isinstance(content, bool) and expected is not bool:
        raise _unlike(name, content, _NAMES.get(expected, expected.__name__))
    return content


def _unlike(name: str, content: Any, expected: str) -> ValueError:
    return ValueError(f'{name or "it"} is {content!r:.60}, expected {expected}')


def _inside(name: str, key: object) -> str:
    return f'{name}.{key}' if name else str(key)
