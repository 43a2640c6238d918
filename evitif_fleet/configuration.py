"""`config/fleet.yaml`, read and checked."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from evitif.settings.hosts import hosts_of
from evitif_fleet.admin import PORT


@dataclass(frozen=True)
class DirectoryPlace:
    """The directory: its ports, where robots and bridges reach it, and the file that keeps what it knows."""

    port: int = 7600
    host: str = ''                # as bridges reach it; '': the address of the machine that `evitif fleet up` runs on
    admin: str = f'127.0.0.1:{PORT}'
    state: str = 'fleet-state.json'


@dataclass(frozen=True)
class BridgesPlan:
    """The bridges: how many, where, and with which settings of `bridge_node`."""

    least: int = 1
    most: int = 4
    first_port: int = 7601
    up_load: float = 0.7
    down_load: float = 0.3
    resources: dict[str, float] = field(default_factory=lambda: {'num_cpus': 1})
    version: str = 'a'
    strategy: str = 'split'
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class UpdateCheck:
    """What bridges of a new version are checked by before robots are sent there: images in a folder, answered by old and new."""

    images: str = ''              # '': none; then only whether the new bridges report and answer in time
    agree: float = 0.9            # share of the images that both give the same class
    late_ms: float = 200.0        # the 99th percentile of what frames wait for the tail
    watch_s: float = 30.0         # afterwards, while robots come


@dataclass(frozen=True)
class FleetConfiguration:
    """A fleet. Raises ValueError naming the key, the value, what was expected, and the file."""

    fleet: str
    fleet_key: str
    key_file: str | None = None
    unsealed: bool = False
    directory: DirectoryPlace = field(default_factory=DirectoryPlace)
    bridges: BridgesPlan = field(default_factory=BridgesPlan)
    update: UpdateCheck = field(default_factory=UpdateCheck)

    @property
    def admin(self) -> tuple[str, int]:
        """Where the directory's door is."""
        return hosts_of(self.directory.admin, PORT)[0]


_PARTS: dict[str, type] = {'directory': DirectoryPlace, 'bridges': BridgesPlan, 'update': UpdateCheck}


def read_configuration(path: Path | str) -> FleetConfiguration:
    """Read a fleet's file. Paths in it are relative to the file. Raises ValueError; OSError where it cannot be read."""
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f'{path} is no YAML: {" ".join(str(error).split())}') from None
    found = _checked(content, FleetConfiguration, str(path), '')
    bridges = found.bridges
    if not 1 <= bridges.least <= bridges.most <= 1000:
        raise ValueError(f'{path}: bridges.least is {bridges.least} and bridges.most {bridges.most}; expected 1 ≤ least ≤ most ≤ 1000')
    if not 0 <= bridges.down_load < bridges.up_load <= 1:
        raise ValueError(f'{path}: bridges.down_load is {bridges.down_load} and bridges.up_load {bridges.up_load}; expected '
                         '0 ≤ down_load < up_load ≤ 1')
    if bridges.first_port + bridges.most * 2 > 65535:
        raise ValueError(f'{path}: bridges.first_port is {bridges.first_port}; expected room for {2 * bridges.most} ports')
    if bool(found.key_file) == found.unsealed:
        raise ValueError(f'{path}: expected key_file, or unsealed: true')
    return found


def _checked(content: Any, kind: type, path: str, above: str) -> Any:
    if not isinstance(content, dict):
        raise ValueError(f'{path}: {above.rstrip(".") or "the file"} is {content!r:.60}; expected keys and values')
    known = {each.name: each for each in fields(kind)}
    for name in content:
        if name not in known:
            raise ValueError(f'{path}: {above}{name} is not known; expected some of {", ".join(known)}')
    for name, each in known.items():
        if each.default is MISSING and each.default_factory is MISSING and name not in content:
            raise ValueError(f'{path}: {above}{name} is missing')
    values = {}
    for name, value in content.items():
        if name in _PARTS and not above:
            values[name] = _checked(value, _PARTS[name], path, f'{name}.')
            continue
        expected = str(known[name].type).partition(' | ')[0].partition('[')[0]
        if expected == 'float' and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value).__name__ != expected:
            raise ValueError(f'{path}: {above}{name} is {value!r:.60}; expected {expected}')
        values[name] = value
    for name in ('key_file', 'fleet_key', 'state', 'images'):
        if values.get(name):
            values[name] = str((Path(path).parent / Path(values[name]).expanduser()).resolve())
    return kind(**values)
