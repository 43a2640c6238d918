"""Which strategy belongs to which settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from evitif.pipeline.moved_patches_bridge import MovedPatchesBridge
from evitif.pipeline.moved_patches_edge import MovedPatchesEdge
from evitif.pipeline.partition_bridge import PartitionBridge
from evitif.pipeline.partition_edge import PartitionEdge
from evitif.pipeline.selection_bridge import SelectionBridge
from evitif.pipeline.selection_edge import SelectionEdge
from evitif.pipeline.split_bridge import SplitBridge
from evitif.pipeline.split_edge import SplitEdge
from evitif.pipeline.strategy import BridgeStrategy, EdgeStrategy
from evitif.pipeline.strategy_table import resolved
from evitif.settings import BridgeSettings, CommonSettings, EdgeSettings, SelectionBridgeSettings, SelectionEdgeSettings
from evitif.vocabulary import Strategy

Half = TypeVar('Half', EdgeStrategy, BridgeStrategy)


def _selection_edge(config: SelectionEdgeSettings) -> EdgeStrategy:
    return SelectionEdge(config) if config.light_model else MovedPatchesEdge(config)


def _selection_bridge(config: SelectionBridgeSettings) -> BridgeStrategy:
    return SelectionBridge(config) if config.light_model else MovedPatchesBridge(config)


_EDGES: dict[str, Callable[[Any], EdgeStrategy]] = {
    Strategy.SPLIT: SplitEdge, Strategy.SELECTION: _selection_edge, Strategy.PARTITION: PartitionEdge}
_BRIDGES: dict[str, Callable[[Any], BridgeStrategy]] = {
    Strategy.SPLIT: SplitBridge, Strategy.SELECTION: _selection_bridge, Strategy.PARTITION: PartitionBridge}


def edge_strategy(config: EdgeSettings) -> EdgeStrategy:
    """The robot's share that `config` asks for. Raises ModelError, ArtifactError or ValueError."""
    return _built(config, _EDGES)


def bridge_strategy(config: BridgeSettings) -> BridgeStrategy:
    """The off-board share that `config` asks for. Raises ModelError, ArtifactError or ValueError."""
    return _built(config, _BRIDGES)


def _built(config: CommonSettings, kinds: dict[str, Callable[[Any], Half]]) -> Half:
    """The strategy; if `auto` chose it, its description says why."""
    own, why = resolved(config)
    strategy = kinds[own.strategy](own)
    if why:
        strategy.description = f'{why}; {strategy.description}'
    return strategy
