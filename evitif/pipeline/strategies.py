"""The strategies by their names; a model is imported only by those that need it."""

from __future__ import annotations

from evitif.pipeline.split_bridge import SplitBridge
from evitif.pipeline.split_edge import SplitEdge
from evitif.pipeline.strategy import BridgeStrategy, EdgeStrategy
from evitif.pipeline.strategy_table import resolved
from evitif.settings import (
    BridgeSettings,
    CommonSettings,
    EdgeSettings,
    PartitionBridgeSettings,
    PartitionEdgeSettings,
    SelectionBridgeSettings,
    SelectionEdgeSettings,
    SplitBridgeSettings,
    SplitEdgeSettings,
)


def edge_strategy(config: EdgeSettings) -> EdgeStrategy:
    """The robot's share that `config` asks for. Raises ModelError, ArtifactError or ValueError."""
    own, note = resolved(config)
    strategy = _edge_strategy(own)
    strategy.description = f'{note}; {strategy.description}' if note else strategy.description
    return strategy


def bridge_strategy(config: BridgeSettings) -> BridgeStrategy:
    """The off-board share that `config` asks for. Raises ModelError, ArtifactError or ValueError."""
    own, note = resolved(config)
    strategy = _bridge_strategy(own)
    strategy.description = f'{note}; {strategy.description}' if note else strategy.description
    return strategy


def _edge_strategy(config: CommonSettings) -> EdgeStrategy:
    if isinstance(config, SelectionEdgeSettings):
        from evitif.pipeline.selection_edge import SelectionEdge
        return SelectionEdge(config)
    if isinstance(config, PartitionEdgeSettings):
        from evitif.pipeline.partition_edge import PartitionEdge
        return PartitionEdge(config)
    assert isinstance(config, SplitEdgeSettings)
    return SplitEdge(config)


def _bridge_strategy(config: CommonSettings) -> BridgeStrategy:
    if isinstance(config, SelectionBridgeSettings):
        from evitif.pipeline.selection_bridge import SelectionBridge
        return SelectionBridge(config)
    if isinstance(config, PartitionBridgeSettings):
        from evitif.pipeline.partition_bridge import PartitionBridge
        return PartitionBridge(config)
    assert isinstance(config, SplitBridgeSettings)
    return SplitBridge(config)
