"""The strategies by their names; a model is imported only by those that need it."""

from __future__ import annotations

from evitif.pipeline.configuration import BridgeRuntimeConfig, EdgeRuntimeConfig
from evitif.pipeline.split_bridge import SplitBridge
from evitif.pipeline.split_edge import SplitEdge
from evitif.pipeline.strategy import BridgeStrategy, EdgeStrategy
from evitif.pipeline.strategy_table import resolved
from evitif.vocabulary import Strategy


def edge_strategy(config: EdgeRuntimeConfig) -> EdgeStrategy:
    """The robot's share that `config` asks for. Raises ModelError, ArtifactError or ValueError."""
    config, note = resolved(config)
    strategy = _edge_strategy(config)
    strategy.description = f'{note}; {strategy.description}' if note else strategy.description
    return strategy


def bridge_strategy(config: BridgeRuntimeConfig) -> BridgeStrategy:
    """The off-board share that `config` asks for. Raises ModelError, ArtifactError or ValueError."""
    config, note = resolved(config)
    strategy = _bridge_strategy(config)
    strategy.description = f'{note}; {strategy.description}' if note else strategy.description
    return strategy


def _edge_strategy(config: EdgeRuntimeConfig) -> EdgeStrategy:
    if config.strategy == Strategy.SELECTION:
        from evitif.pipeline.selection_edge import SelectionEdge
        return SelectionEdge(config)
    if config.strategy == Strategy.PARTITION:
        from evitif.pipeline.partition_edge import PartitionEdge
        return PartitionEdge(config)
    return SplitEdge(config)


def _bridge_strategy(config: BridgeRuntimeConfig) -> BridgeStrategy:
    if config.strategy == Strategy.SELECTION:
        from evitif.pipeline.selection_bridge import SelectionBridge
        return SelectionBridge(config)
    if config.strategy == Strategy.PARTITION:
        from evitif.pipeline.partition_bridge import PartitionBridge
        return PartitionBridge(config)
    return SplitBridge(config)
