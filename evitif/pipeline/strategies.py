"""The strategies by their settings; only the chosen one's models are imported."""

from __future__ import annotations

from typing import TypeVar

from evitif.pipeline.split_bridge import SplitBridge
from evitif.pipeline.split_edge import SplitEdge
from evitif.pipeline.strategy import BridgeStrategy, EdgeStrategy
from evitif.pipeline.strategy_table import resolved
from evitif.settings import (
    BridgeSettings,
    EdgeSettings,
    PartitionBridgeSettings,
    PartitionEdgeSettings,
    SelectionBridgeSettings,
    SelectionEdgeSettings,
    SplitBridgeSettings,
    SplitEdgeSettings,
)

Half = TypeVar('Half', EdgeStrategy, BridgeStrategy)


def edge_strategy(config: EdgeSettings) -> EdgeStrategy:
    """The robot's share that `config` asks for. Raises ModelError, ArtifactError or ValueError."""
    own, sentence = resolved(config)
    if isinstance(own, SelectionEdgeSettings):
        from evitif.pipeline.selection_edge import SelectionEdge
        return _described(SelectionEdge(own), sentence)
    if isinstance(own, PartitionEdgeSettings):
        from evitif.pipeline.partition_edge import PartitionEdge
        return _described(PartitionEdge(own), sentence)
    assert isinstance(own, SplitEdgeSettings)
    return _described(SplitEdge(own), sentence)


def bridge_strategy(config: BridgeSettings) -> BridgeStrategy:
    """The off-board share that `config` asks for. Raises ModelError, ArtifactError or ValueError."""
    own, sentence = resolved(config)
    if isinstance(own, SelectionBridgeSettings):
        from evitif.pipeline.selection_bridge import SelectionBridge
        return _described(SelectionBridge(own), sentence)
    if isinstance(own, PartitionBridgeSettings):
        from evitif.pipeline.partition_bridge import PartitionBridge
        return _described(PartitionBridge(own), sentence)
    assert isinstance(own, SplitBridgeSettings)
    return _described(SplitBridge(own), sentence)


def _described(strategy: Half, why: str) -> Half:
    """The strategy, whose description says why it was chosen."""
    if why:
        strategy.description = f'{why}; {strategy.description}'
    return strategy
