"""What a partition has to fulfil: devices with different names, and every class on the stated number of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from evitif.wording import few

_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_-]{0,62}')


def check_device_name(name: object, origin: str) -> str:
    """Return `name`; raise ValueError unless it can name a device, a file and a ROS node's robot."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f'{origin} has the name {name!r:.80}: expected letters, digits, - and _, at most 63')
    return name


def check_unique(names: list[str], origin: str) -> None:
    """Raise ValueError where two devices have one name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f'{origin}: two devices have one identity, {", ".join(map(repr, twice))}: expected a name for each alone')


def check_subsets(subsets: Sequence[Sequence[int]], classes: int, redundancy: int = 1, class_names: Sequence[str] = ()) -> None:
    """Raise ValueError, naming the classes, unless every one of `classes` is on exactly `redundancy` devices, none twice on
    one, and no device is without classes."""
    def named(ids: Iterable[int]) -> str:
        return few(f'{index} ({class_names[index]})' if 0 <= index < len(class_names) else str(index) for index in sorted(ids))

    for device, subset in enumerate(subsets):
        if not subset:
            raise ValueError(f'device {device} has no classes: expected at least one')
        unknown = {index for index in subset if not 0 <= index < classes}
        if unknown:
            raise ValueError(f'device {device} has the classes {named(unknown)}: the model knows 0 to {classes - 1}')
        twice = {index for index, count in Counter(subset).items() if count > 1}
        if twice:
            raise ValueError(f'device {device} has the classes {named(twice)} more than once')
    counts = Counter(index for subset in subsets for index in subset)
    missing = set(range(classes)) - counts.keys()
    if missing:
        raise ValueError(f'the classes {named(missing)} are on no device: expected each on {redundancy}')
    uneven = {index for index, count in counts.items() if count != redundancy}
    if uneven:
        on = few(device for device, subset in enumerate(subsets) if uneven & set(subset))
        raise ValueError(f'the classes {named(uneven)} overlap: they are on other than {redundancy} of the devices ({on})')
