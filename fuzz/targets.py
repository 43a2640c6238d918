"""All targets by name."""

from __future__ import annotations

from collections.abc import Callable

from fuzz import artifacts, attacks, coded, fleet, machines, parsers, pictures

TARGETS: dict[str, Callable[[bytes], None]] = {
    **parsers.TARGETS, **machines.TARGETS, **attacks.TARGETS, **artifacts.TARGETS, **pictures.TARGETS, **coded.TARGETS, **fleet.TARGETS}
