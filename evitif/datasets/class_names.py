"""Classes by name, where two may share one: ImageNet has two cranes (134, 517) and two maillots (638, 639)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence


def ids_by_name(class_names: Sequence[str]) -> dict[str, list[int]]:
    """The ids of all classes that have a name, for each name."""
    ids: dict[str, list[int]] = {}
    for index, name in enumerate(class_names):
        ids.setdefault(name, []).append(index)
    return ids


def id_of(name: str, number: int, known: Mapping[str, Sequence[int]]) -> int:
    """The id among `known`, as ids_by_name gives them, of the class that a data set calls `name` and gives this number; -1: none.

    The name decides, because a data set may number its classes differently; among classes of one name the number decides, and if it is
    none of theirs the class is not known.
    """
    ids = known.get(name, ())
    if len(ids) == 1:
        return ids[0]
    return number if number in ids else -1


def told_apart(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels for people to read, with the id behind labels that several classes share: `crane (134)`."""
    counts = Counter(labels)
    return tuple(label if counts[label] == 1 else f'{label} ({index})' for index, label in enumerate(labels))
