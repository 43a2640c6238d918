"""Which of a model's classes a data set's label is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from evitif.datasets.class_names import ids_by_name
from evitif.pipeline.cut_model import CutModel


def class_ids_of(model: CutModel) -> Callable[[str, int], int]:
    """A function from a data set's label and number to the model's id of that class; -1 where it has no such class.

    Classes are told apart by name, since a data set may number them otherwise (ImageNet's 0 to 999 for 50 of its folders). Only where the
    model does not name its own (`class 0`, `class 1`, …) do the numbers have to agree.
    """
    if not model.names_its_classes:
        return lambda label, number: number if 0 <= number < len(model.class_names) else -1
    known = ids_by_name(model.class_names)
    return lambda label, number: id_of(label, number, known)


def id_of(name: str, number: int, known: Mapping[str, Sequence[int]]) -> int:
    """The id among `known`, as ids_by_name gives them, of the class that a data set calls `name` and gives this number; -1: none.

    The name decides, because a data set may number its classes differently; among classes of one name the number decides, and if it is
    none of theirs the class is not known.
    """
    ids = known.get(name, ())
    if len(ids) == 1:
        return ids[0]
    return number if number in ids else -1
