"""Every parameter of the bridge node and of the link simulator node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evitif.settings import BRIDGE_SETTINGS, STRATEGY, BridgeSettings, Changeable, Settings, setting
from evitif_ros.parameters import USE_FQN, StatisticsSettings, prefixed, table_of

if TYPE_CHECKING:
    from evitif.transport import Impairment


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


@dataclass(frozen=True, kw_only=True)
class DirectionSettings(Settings):
    """What the link simulator does to one direction."""

    loss: float = setting(0.0, 'share of the datagrams that is lost', minimum=0.0, maximum=1.0, changeable=Changeable.ALWAYS, launch=True)
    burst_length: float = setting(1.0, 'mean number of datagrams lost in a row (Gilbert-Elliott); 1: independent loss', unit='datagrams',
                                  minimum=1.0, maximum=1000.0, changeable=Changeable.ALWAYS, launch=True)
    delay: float = setting(0.0, 'delay of every datagram', unit='s', minimum=0.0, maximum=60.0, changeable=Changeable.ALWAYS, launch=True)
    jitter: float = setting(0.0, 'additional random delay, from 0 to this', unit='s', minimum=0.0, maximum=60.0,
                            changeable=Changeable.ALWAYS, launch=True)
    reorder: float = setting(0.0, 'share of the datagrams that is held back so that later ones overtake it', minimum=0.0,
                             maximum=1.0, changeable=Changeable.ALWAYS)
    duplicate: float = setting(0.0, 'share of the datagrams that arrives twice', minimum=0.0, maximum=1.0,
                               changeable=Changeable.ALWAYS)
    corrupt: float = setting(0.0, 'share of the datagrams in which bits are flipped', minimum=0.0, maximum=1.0,
                             changeable=Changeable.ALWAYS)
    rate: float = setting(0.0, 'rate of the link, IP and UDP headers included; 0: unlimited', unit='bit/s', minimum=0.0, maximum=1e12,
                          changeable=Changeable.ALWAYS, launch=True)


DIRECTION = table_of(DirectionSettings)
BRIDGE_PARAMETERS = (STRATEGY, *table_of(*BRIDGE_SETTINGS.values(), BridgeNodeSettings), USE_FQN)
LINK_SIMULATOR_PARAMETERS = (*table_of(LinkSimulatorSettings), USE_FQN, *prefixed('uplink.', DIRECTION, 'robots to bridge'),
                             *prefixed('downlink.', DIRECTION, 'bridge to robots'))


def bridge_runtime_settings(values: dict[str, Any]) -> BridgeSettings:
    """The settings that the bridge node's parameters describe. Raises ValueError where values contradict each other."""
    return BRIDGE_SETTINGS[values['strategy']].from_parameters(values)


def impairment(direction: str, values: dict[str, Any]) -> Impairment:
    """The Impairment of `uplink` or `downlink`. Raises ValueError, e.g. for bursts too short for the loss."""
    from evitif.transport import Impairment
    units = {'delay': 'delay_s', 'jitter': 'jitter_s', 'rate': 'rate_bit_s'}
    return Impairment(**{units.get(each.name, each.name): values[f'{direction}.{each.name}'] for each in DIRECTION})
