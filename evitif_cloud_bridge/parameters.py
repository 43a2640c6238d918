"""Every parameter of the bridge node and of the link simulator node."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

from evitif.settings import BRIDGE_SETTINGS, STRATEGY, BridgeSettings, Changeable, Setting, Settings, setting
from evitif.transport.impairment import FILE, KINDS, Impairment
from evitif_ros.parameters import USE_FQN, StatisticsSettings, prefixed, table_of


@dataclass(frozen=True, kw_only=True)
class BridgeNodeSettings(StatisticsSettings):
    """What the bridge node has beside BridgeSettings."""

    keep_topics: float = setting(30.0, "remove a robot's topics after this long without a session", unit='s', minimum=0.0, maximum=86_400.0,
                                 changeable=Changeable.ALWAYS)


@dataclass(frozen=True, kw_only=True)
class LinkSimulatorSettings(Settings):
    """Where the link simulator listens, and where it forwards to."""

    listen_host: str = setting('0.0.0.0', 'address that robots send to', required=True)
    listen_port: int = setting(7601, 'UDP port that robots send to', minimum=1, maximum=65_535)
    forward_host: str = setting('127.0.0.1', 'host name or IP address of the bridge', required=True)
    forward_port: int = setting(7600, 'UDP port of the bridge', minimum=1, maximum=65_535)
    seed: int = setting(0, 'seed of the random impairments', minimum=0, maximum=2 ** 32 - 1)


def _direction() -> dict[str, Setting]:
    """What the link simulator may do to one direction: a parameter for each field of Impairment that is worth changing."""
    found = {}
    for field in fields(Impairment):
        if field.metadata['kind'] == FILE:
            found[field.name] = Setting(field.name, field.default, field.metadata['help'], changeable=Changeable.ALWAYS, launch=True)
            continue
        kind = KINDS[field.metadata['kind']]
        found[field.name] = Setting(
            re.sub('(_bit)?_s$', '', field.name), field.default, field.metadata['help'], kind.unit, kind.least, kind.most, also=kind.also,
            changeable=Changeable.ALWAYS, launch=field.name in ('loss', 'burst_length', 'delay_s', 'jitter_s', 'rate_bit_s'))
    return {name: parameter for name, parameter in found.items() if name not in ('reorder_delay_s', 'queue_s')}


DIRECTION = _direction()          # by the field of Impairment
BRIDGE_PARAMETERS = (STRATEGY, *table_of(*BRIDGE_SETTINGS.values(), BridgeNodeSettings), USE_FQN)
LINK_SIMULATOR_PARAMETERS = (*table_of(LinkSimulatorSettings), USE_FQN, *prefixed('uplink.', DIRECTION.values(), 'robots to bridge'),
                             *prefixed('downlink.', DIRECTION.values(), 'bridge to robots'))


def bridge_runtime_settings(values: dict[str, Any]) -> BridgeSettings:
    """The settings that the bridge node's parameters describe. Raises ValueError where values contradict each other."""
    return BRIDGE_SETTINGS[values['strategy']].from_parameters(values)


def impairment(direction: str, values: dict[str, Any]) -> Impairment:
    """The Impairment of `uplink` or `downlink`. Raises ValueError, e.g. for bursts too short for the loss."""
    return Impairment(**{field: values[f'{direction}.{parameter.name}'] for field, parameter in DIRECTION.items()})
