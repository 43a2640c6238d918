"""The settings of the robot's half: what all strategies need, and a class for each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evitif.settings.declaration import setting
from evitif.settings.hosts import check_hosts
from evitif.settings.link import LinkSettings
from evitif.settings.model import AutoSettings, PartitionSettings, SelectionSettings, SplitSettings, of_strategy
from evitif.vocabulary import Strategy


@dataclass(frozen=True, kw_only=True)
class EdgeSettings(LinkSettings):
    """What the runtime needs whatever the strategy."""

    robot_name: str = setting('robot', "the robot's name; the bridge publishes below it", required=True, launch=True)
    bridge_host: str = setting(
        '127.0.0.1', 'host name or IP address of the bridge; or several, separated by commas, each with a port of its own if it has one: '
        'directories of a fleet, or bridges that stand in for one another', required=True, launch=True, check=check_hosts, separator=',',
        form='up to 8 host names or IP addresses, each with or without :PORT, separated by commas')
    bridge_port: int = setting(7600, 'UDP port of the bridge', minimum=1, maximum=65_535, launch=True)
    bridge_name: str = setting('', "the bridge's bridge_name; one of another name is refused, even with the same key; empty: any")
    redundant_bridges: int = setting(
        1, 'bridges of a fleet that each frame goes to; the first answer counts. Twice the bytes, and no frame refers to an earlier one',
        unit='bridges', minimum=1, maximum=2)
    top_k: int | None = setting(
        None, "classes in a prediction, most likely first; the bridge sends as many as fit into a datagram; -1: as many as the bridge's "
        'top_k, and 5 when the robot answers alone', unit='classes', minimum=1, maximum=1000)
    max_rate: float = setting(0.0, 'most frames a second; the node drops the others; 0: no limit', unit='Hz', minimum=0.0, maximum=1000.0,
                              launch=True)
    answer_deadline: float = setting(0.5, 'a frame without an answer counts as expired this long after it was sent', unit='s',
                                     minimum=0.001, maximum=60.0, launch=True)
    answer_memory: float = setting(
        5.0, 'a frame whose answer can no longer be expected is given the last answer, with its age and less certainty, if that is of an '
        'image this near in time and the robot does not answer alone; 0: no answer', unit='s', minimum=0.0, maximum=60.0)
    link_timeout: float = setting(1.0, 'the link counts as lost after this long a silence', unit='s', minimum=0.25, maximum=600.0)
    min_packets: int = setting(
        24, 'spread each frame of rows over at least this many packets, so that losing one loses little; entropy-coded frames take as '
        'many as pay, and strategy selection divides its small frames by the measured loss', unit='packets', minimum=1, maximum=4096)
    prefix_copies: int = setting(0, 'packets of a frame of rows that carry each prefix token; 0: the class token in all of a small frame',
                                 unit='packets', minimum=0, maximum=4096)
    patch_copies: int = setting(
        0, 'packets of a frame that carry each patch token; 0: the number that suits the measured loss best, or with rows of a '
        'fixed quantisation as many as take no more bytes than int8 sent once', unit='packets', minimum=0, maximum=16)
    # Below 0.3 Mbit/s the handshake alone would exceed the limit.
    rate_limit: float = setting(0.0, 'never send more than this over any second, IP and UDP headers included; 0: no limit', unit='Mbit/s',
                                minimum=0.3, maximum=10_000.0, also=0.0)
    accuracy_margin: float = setting(
        0.002, 'quantisation auto or coded: a frame takes the fewest bytes whose expected cost in accuracy is at most this much above the '
        'least; 0: as exact as the link allows', minimum=0.0, maximum=1.0, launch=True)
    congestion_control: bool = setting(
        True, 'send as fast as the path allows without building a queue; false only if nothing else shares the path')


@dataclass(frozen=True, kw_only=True)
class SplitEdgeSettings(EdgeSettings, SplitSettings):
    """Settings of the strategy `split`."""

    local_fallback: bool = setting(False, 'strategy split: if no answer comes, answer on the robot with the whole model', launch=True)


@dataclass(frozen=True, kw_only=True)
class SelectionEdgeSettings(EdgeSettings, SelectionSettings):
    """Settings of the strategy `selection`."""

    delta: float | None = setting(None, 'strategy selection: share of the attention that the sent patches hold; -1: as calibrated',
                                  minimum=0.0, maximum=1.0, launch=True)
    eta: float | None = setting(
        None, 'strategy selection: the robot answers alone if its light model is less uncertain than this, 0: never; -1: as calibrated',
        minimum=0.0, maximum=64.0, launch=True)


@dataclass(frozen=True, kw_only=True)
class PartitionEdgeSettings(EdgeSettings, PartitionSettings):
    """Settings of the strategy `partition`."""

    partition_device: str = setting('', "strategy partition: which of the partition's devices this is, by name or number", launch=True)

    def __post_init__(self) -> None:
        self.require_named('partition_device', 'the name or number of a device, since the strategy is partition')
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class AutoEdgeSettings(AutoSettings, SplitEdgeSettings, SelectionEdgeSettings):
    """Settings of whichever of the two `auto` chooses."""


EDGE_SETTINGS: dict[str, type[EdgeSettings]] = {kind.strategy: kind for kind in (
    SplitEdgeSettings, SelectionEdgeSettings, PartitionEdgeSettings, AutoEdgeSettings)}


def edge_settings(strategy: str = Strategy.SPLIT, **values: Any) -> EdgeSettings:
    """The settings of a strategy. Raises ValueError for a value out of its range, TypeError for a name that it does not have."""
    return of_strategy(EDGE_SETTINGS, strategy)(**values)
