"""How much memory an object keeps: its own and that of all that it refers to."""

from __future__ import annotations

import sys
from collections import deque
from types import FunctionType, MethodType, ModuleType

import numpy as np

_NOT_KEPT = (type, ModuleType, FunctionType, MethodType)


def footprint(kept: object) -> int:
    """Bytes, about: what C code holds beyond `sys.getsizeof` is left out, and so is code."""
    size, seen, todo = 0, set(), [kept]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, _NOT_KEPT):
            continue
        seen.add(id(item))
        size += sys.getsizeof(item, 64)
        if isinstance(item, np.ndarray):
            size += item.nbytes if item.base is None else 0
            todo.append(item.base)
        elif isinstance(item, dict):
            todo += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set, frozenset, deque)):
            todo += item
        elif isinstance(item, memoryview):
            todo.append(item.obj)
        todo += vars(item).values() if hasattr(item, '__dict__') else ()
        todo += [getattr(item, name) for kind in type(item).__mro__ for name in getattr(kind, '__slots__', ()) if hasattr(item, name)]
    return size
