"""Classes by name, where two may share one: ImageNet has two cranes (134, 517) and two maillots (638, 639)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def ids_by_name(class_names: Sequence[str]) -> dict[str, list[int]]:
    """The ids of all classes that have a name, for each name."""
    ids: dict[str, list[int]] = {}
    for index, name in enumerate(class_names):
        ids.setdefault(name, []).append(index)
    return ids


def told_apart(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels for people to read, with the id behind labels that several classes share: `crane (134)`."""
    counts = Counter(labels)
    return tuple(label if counts[label] == 1 else f'{label} ({index})' for index, label in enumerate(labels))
