"""Labels of a recording in a CSV file: by the time since its first image, or by the image's number.

    time,label              frame,label
    0.0,corridor            120,cat
    12.5,kitchen            121,cat
    31.0,                   340,dog

A time says what is seen from then on until the next line; an empty label: nothing that counts. A frame says it of that image alone.
"""

from __future__ import annotations

import bisect
import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from evitif.datasets.errors import DatasetError

if TYPE_CHECKING:
    from evitif.recording import RecordedImage, Recording

UNLABELLED = -1, ''
LabelOf = Callable[['RecordedImage'], tuple[int, str]]      # class and name of an image
_COLUMNS = ['time', 'label'], ['frame', 'label']


def read_labels(path: str, recording: Recording) -> tuple[LabelOf, tuple[str, ...]]:
    """Class and name of an image, and the names of the classes in the order of the alphabet. Raises DatasetError for a bad file."""
    try:
        with Path(path).expanduser().open(newline='') as file:
            rows = [(number, row) for number, row in enumerate(csv.reader(file, skipinitialspace=True), 1) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f'the labels {path} cannot be read: {getattr(error, "strerror", None) or error}') from None
    columns = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    if columns not in _COLUMNS:
        raise DatasetError(f'the labels {path} begin with {",".join(columns)[:60]!r}: expected a first line time,label (seconds since the '
                           'first image) or frame,label (numbers of images, from 0 on)')
    by_time = columns == _COLUMNS[0]
    found: dict[float, str] = {}
    for number, row in rows[1:]:
        try:
            at, label = row
            value = float(at) if by_time else int(at)
            if not 0 <= value < math.inf:
                raise ValueError
        except ValueError:
            raise DatasetError(f'the labels {path}, line {number}: expected {",".join(columns)}, got '
                               f'{",".join(row)[:60]!r}') from None
        if found.get(value, label.strip()) != label.strip():
            raise DatasetError(f'the labels {path}, line {number}: {columns[0]} {at} has two labels, {found[value]!r} and '
                               f'{label.strip()!r}')
        found[value] = label.strip()
    names = tuple(sorted({label for label in found.values() if label}))
    if not names:
        raise DatasetError(f'the labels {path} have no label: expected some')
    ids = {label: (index, label) for index, label in enumerate(names)} | {'': UNLABELLED}
    first_ns = recording.start_ns
    if not by_time:
        # An image's own number counts from the first that was asked for: the recorder's time says which it is.
        numbers = {time: index for index, time in enumerate(recording.times.tolist())}
        return lambda image: ids[found.get(numbers.get(image.received_ns, -1), '')], names
    times = sorted(found)

    def seen(image: RecordedImage) -> tuple[int, str]:
        at = bisect.bisect_right(times, (image.received_ns - first_ns) / 1e9) - 1
        return ids[found[times[at]]] if at >= 0 else UNLABELLED
    return seen, names
