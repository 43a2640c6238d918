"""The settings of the off-board half: what all strategies need, and a class for each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evitif.settings.declaration import setting
from evitif.settings.link import LinkSettings
from evitif.settings.model import (
    AUTO,
    AutoSettings,
    ModelSettings,
    PartitionSettings,
    SelectionSettings,
    SplitSettings,
    of_strategy,
)
from evitif.vocabulary import RecoveryName, Strategy

DEFAULT_TOP_K = 5
RECOVERIES = (AUTO, *(name for name in RecoveryName.values() if name != RecoveryName.NONE))


@dataclass(frozen=True, kw_only=True)
class BridgeSettings(LinkSettings):
    """What the runtime needs whatever the strategy."""

    bridge_name: str = setting('bridge', "the bridge's name, which robots log", required=True, launch=True)
    bind_host: str = setting('0.0.0.0', 'address to listen on; 0.0.0.0 or :: for every interface', required=True, launch=True)
    port: int = setting(7600, 'UDP port to listen on', minimum=1, maximum=65_535, internal=0, launch=True)      # 0: any free one
    top_k: int = setting(DEFAULT_TOP_K, 'classes in a prediction, most likely first', unit='classes', minimum=1, maximum=1000)
    reassembly_deadline: float = setting(0.1, 'a frame is answered with what has arrived this long after its first packet', unit='s',
                                         minimum=0.001, maximum=10.0, launch=True)
    session_timeout: float = setting(2.0, 'a robot counts as gone after this long a silence', unit='s', minimum=0.1, maximum=600.0)
    answer_copies: int = setting(0, 'datagrams that carry each answer; 0: as many as the measured loss asks for', unit='copies', minimum=0,
                                 maximum=64)
    silent_to_strangers: bool = setting(
        False, 'give no reply to whoever has no key, so that nobody finds the bridge; a robot with another key is not told why it gets no '
        'session. Needs `key_file`', launch=True)
    metrics_port: int = setting(
        0, 'TCP port of an HTTP endpoint with counts, losses and times for Prometheus (`/metrics`), on `bind_host`; whoever reaches it '
        'reads them. Needs prometheus_client; 0: none', minimum=0, maximum=65_535, launch=True)
    max_robots: int = setting(64, 'most robots at a time; the bridge refuses the others', unit='robots', minimum=1, maximum=4096)
    max_batch: int = setting(
        16, 'most frames of several robots that the tail computes at once; the bridge uses fewer if that is as fast for each frame, or if '
        'a batch would take longer than 50 ms', unit='frames', minimum=1, maximum=256)


@dataclass(frozen=True, kw_only=True)
class RecoverySettings(ModelSettings):
    """How lost tokens of a model are made up for."""

    recovery: str = setting(
        AUTO, 'what is done about missing tokens; auto: paldn if one was trained for model and cut, else memory; surrogate, srcnn, edsr '
        'and tuned-tail are baselines of the laboratory and do not run on a bridge', choices=RECOVERIES, launch=True)
    recovery_artifact: str | None = setting(None, 'description (JSON) of a trained recovery; empty: the one in the model folder',
                                            launch=True)


@dataclass(frozen=True, kw_only=True)
class MemorySettings(RecoverySettings):
    """The same with what is remembered of earlier frames."""

    smoothing: float = setting(
        0.0, 'strategy split: probabilities of classes are filtered over time (exponentially, with this time constant) until the scene '
        'changes, so that answers flicker less; what is seen newly shows that much later; 0: not at all', unit='s', minimum=0.0,
        maximum=10.0)
    memory_limit: float = setting(
        2.0, 'a lost token may be filled in from an earlier frame of at most this age; a longer gap forgets all; 0: no memory. Not with '
        'strategy partition, nor with a light model', unit='s', minimum=0.0, maximum=60.0)


@dataclass(frozen=True, kw_only=True)
class SplitBridgeSettings(BridgeSettings, MemorySettings, SplitSettings):
    """Settings of the strategy `split`."""


@dataclass(frozen=True, kw_only=True)
class SelectionBridgeSettings(BridgeSettings, MemorySettings, SelectionSettings):
    """Settings of the strategy `selection`; `recovery` is for its missing patches, which `auto` leaves out where there is a light model."""


@dataclass(frozen=True, kw_only=True)
class PartitionBridgeSettings(BridgeSettings, PartitionSettings):
    """Settings of the strategy `partition`."""

    join_deadline: float = setting(
        0.1, "strategy partition: an image is answered with the devices that were heard this long after the first device's first packet",
        unit='s', minimum=0.001, maximum=10.0, launch=True)


@dataclass(frozen=True, kw_only=True)
class AutoBridgeSettings(AutoSettings, SplitBridgeSettings, SelectionBridgeSettings):
    """Settings of whichever of the two `auto` chooses."""


BRIDGE_SETTINGS: dict[str, type[BridgeSettings]] = {kind.strategy: kind for kind in (
    SplitBridgeSettings, SelectionBridgeSettings, PartitionBridgeSettings, AutoBridgeSettings)}


def bridge_settings(strategy: str = Strategy.SPLIT, **values: Any) -> BridgeSettings:
    """The settings of a strategy. Raises ValueError for a value out of its range, TypeError for a name that it does not have."""
    return of_strategy(BRIDGE_SETTINGS, strategy)(**values)
