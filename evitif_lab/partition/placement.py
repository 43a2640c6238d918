"""Which device runs which sub-model, from an inventory in YAML; greedy, as in ED-ViT (arXiv 2410.11650).

    devices:
      - {name: rover, memory: 2_000_000, compute: 1.0e9}
      - {name: mast,  memory: 8_000_000, compute: 4.0e9}

`memory` is in bytes for weights, four a parameter; `compute` in multiply-adds a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evitif.partition.checks import check_device_name, check_unique
from evitif_lab.partition.pruning import Limit, Size

BYTES_PER_PARAMETER = 4      # weights run as float32
_HARDER = 0.8                # of the limit, where a sub-model fits nowhere


@dataclass(frozen=True)
class InventoryDevice:
    """A machine that may run sub-models."""

    name: str
    memory: float                # bytes
    compute: float               # multiply-adds a second


@dataclass(frozen=True)
class Placed:
    """A sub-model on a device."""

    size: Size
    device: str
    limit: Limit                 # under which it had to be pruned to fit
    rounds: int                  # of pruning harder; 0: it fitted at once


def read_inventory(path: Path | str) -> tuple[InventoryDevice, ...]:
    """Read an inventory. Raises ValueError, naming the file, the entry and what was expected."""
    import yaml
    path = Path(path).expanduser()
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ValueError(f'inventory {path}: cannot be read: {error.strerror}') from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f'inventory {path}: not valid YAML: {" ".join(str(error).split())[:200]}') from None
    entries = content.get('devices') if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ValueError(f'inventory {path}: expected a list `devices` with name, memory and compute of each')
    devices = []
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or set(entry) != {'name', 'memory', 'compute'}:
            raise ValueError(f'inventory {path}: device {number} is {entry!r:.80}: expected name, memory and compute')
        check_device_name(entry['name'], f'inventory {path}: device {number}')
        for key, unit in (('memory', 'bytes'), ('compute', 'multiply-adds a second')):
            # YAML reads 1e9 as text.
            try:
                entry[key] = float(entry[key])
            except (TypeError, ValueError):
                entry[key] = math.nan
            if not (math.isfinite(entry[key]) and entry[key] > 0) or isinstance(entry[key], bool):
                raise ValueError(f'inventory {path}: {key} of {entry["name"]!r} has to be a positive number of {unit}')
        devices.append(InventoryDevice(**entry))
    check_unique([device.name for device in devices], f'inventory {path}')
    return tuple(devices)


def place(limits: list[Limit], size_within: Callable[[int, Limit], Size], inventory: tuple[InventoryDevice, ...],
          rate: float) -> tuple[Placed, ...]:
    """Put every sub-model on a device of the inventory, the largest first, each where most compute is left.

    :param limits: of each sub-model
    :param size_within: the largest size of a sub-model (by its number) within a limit; raises ValueError below the smallest
    :param rate: frames a second that each sub-model has to answer
    :raises ValueError: a sub-model fits nowhere even at its smallest size; names it and what each device has left
    """
    limits, rounds = list(limits), [0] * len(limits)
    while True:
        sizes = [size_within(index, limit) for index, limit in enumerate(limits)]
        left = {device.name: [device.memory, device.compute] for device in inventory}
        placed: dict[int, str] = {}
        homeless = None
        for index in sorted(range(len(sizes)), key=lambda one: (-sizes[one].multiply_adds, one)):
            memory, compute = BYTES_PER_PARAMETER * sizes[index].parameters, rate * sizes[index].multiply_adds
            fitting = [name for name, (free, spare) in left.items() if free >= memory and spare >= compute]
            if not fitting:
                homeless = index
                break
            best = max(fitting, key=lambda name: left[name][1])
            left[best][0] -= memory
            left[best][1] -= compute
            placed[index] = best
        if homeless is None:
            return tuple(Placed(size, placed[index], limits[index], rounds[index]) for index, size in enumerate(sizes))
        size, free = sizes[homeless], '; '.join(f'{name}: {memory:,.0f} bytes and {compute:,.0f} multiply-adds a second'
                                                for name, (memory, compute) in left.items())
        limits[homeless] = Limit(int(size.parameters * _HARDER), int(size.multiply_adds * _HARDER))
        rounds[homeless] += 1
        try:
            size_within(homeless, limits[homeless])
        except ValueError:
            raise ValueError(
                f'sub-model {homeless} fits on no device of the inventory: at its smallest it needs '
                f'{BYTES_PER_PARAMETER * size.parameters:,} bytes and {rate * size.multiply_adds:,.0f} multiply-adds a second '
                f'for {rate:g} frames a second; what is left: {free}') from None
