"""What differs between what a file was made from and what is asked for now."""

from __future__ import annotations

from evitif.wording import shortened


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
