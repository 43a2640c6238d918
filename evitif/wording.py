"""Short lists and texts for messages, however many classes or tensors there are."""

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
