"""A view of the image for each device (`evitif.partition.view`)."""

from __future__ import annotations

from evitif.partition.view import View

OFFSETS = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))


def device_views(devices: int, pixels: int) -> tuple[View, ...]:
    """A view for each device, the first the image as it is; with 0 pixels it is that for all. Twice nine devices have different ones."""
    if not pixels:
        return (View(),) * devices
    return tuple(View(*(pixels * each for each in OFFSETS[index % len(OFFSETS)]), mirrored=index % 2 == 1) for index in range(devices))
