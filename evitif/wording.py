"""What messages have in common: lists and texts in them are short, however many classes or tensors there are."""

from __future__ import annotations

from collections.abc import Iterable


def few(names: Iterable[object], shown: int = 5) -> str:
    """The first of `names`, and how many more there are: 'a, b, c and 1,497 more'."""
    names = [shortened(str(name), 80) for name in names]
    more = len(names) - shown
    return ', '.join(names[:shown]) + (f' and {more:,} more' if more > 0 else '')


def shortened(text: object, limit: int = 200) -> str:
    """`text`, such as another library's error, on one line of at most `limit` characters."""
    line = ' '.join(str(text).split()) or ('' if isinstance(text, str) else type(text).__name__)
    return line if len(line) <= limit else line[:limit - 2] + ' …'


def reason_of(error: BaseException) -> str:
    """Why the system or another library refused: 'No space left on device', without '[Errno 28]'."""
    return getattr(error, 'strerror', None) or shortened(error)


def differences(saved: dict, now: dict, name: str = '') -> list[str]:
    """What differs between two descriptions, such as those of a training begun and of the one asked for: a phrase each."""
    found = []
    for key in sorted({*saved, *now}):
        before, after, title = saved.get(key), now.get(key), f'{name}{key}'
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f'{title} ')
        elif isinstance(before, list | tuple) and isinstance(after, list | tuple) and max(len(before), len(after)) > 3:
            found.append(_first_difference(title, before, after))
        else:
            found.append(f'{title}: {shortened(repr(before), 80)} there, {shortened(repr(after), 80)} now')
    return found


def _first_difference(title: str, before: list | tuple, after: list | tuple) -> str:
    place = next((index for index, pair in enumerate(zip(before, after)) if pair[0] != pair[1]), min(len(before), len(after)))
    old, new = (shortened(repr(one[place]), 80) if place < len(one) else 'nothing' for one in (before, after))
    count = '' if len(before) == len(after) else f', {len(before)} and {len(after)} of them'
    return f'{title}: number {place} is {old} there, {new} now{count}'
