"""What was measured, cell by cell (a clip, a link, a contestant), and the curves of cost over bytes that cells make."""

from __future__ import annotations

from benchmarks.streams.statistics import bytes_at

Cells = list[dict]


def chosen(cells: Cells, **values: str) -> Cells:
    """Those with these values."""
    return [cell for cell in cells if all(cell[name] == value for name, value in values.items())]


def distinct(cells: Cells, name: str) -> list[str]:
    """The values of a field, in their order."""
    return list(dict.fromkeys(cell[name] for cell in cells))


def curves(cells: Cells) -> dict[str, list[tuple[float, float]]]:
    """By variant the points (bytes, cost), in ascending order."""
    return {variant: sorted((cell['bytes'], cell['cost']) for cell in chosen(cells, variant=variant))
            for variant in distinct(cells, 'variant')}


def least_bytes(cells: Cells, cost: float) -> float | None:
    """The bytes at which the best variant of a family comes down to a cost; None where none does."""
    found = [size for curve in curves(cells).values() if (size := bytes_at(curve, cost)) is not None]
    return min(found) if found else None


def front(cells: Cells) -> list[tuple[float, float]]:
    """The points (bytes, cost) that no other is below in both."""
    found: list[tuple[float, float]] = []
    for size, cost in sorted((cell['bytes'], cell['cost']) for cell in cells):
        if not found or cost < found[-1][1]:
            found.append((size, cost))
    return found


def within(cells: Cells, room: float) -> dict | None:
    """The cell of least cost that takes at most `room` bytes; None where there is none."""
    return min((cell for cell in cells if cell['bytes'] <= room), key=lambda cell: cell['cost'], default=None)
