"""The strategies by their names."""

from __future__ import annotations

from evitif.pipeline.configuration import BridgeRuntimeConfig, EdgeRuntimeConfig
from evitif.pipeline.split_edge import SplitEdge
from evitif.pipeline.strategy import BridgeStrategy, EdgeStrategy
from evitif.pipeline.tail_pipeline import TailPipeline


def edge_strategy(config: EdgeRuntimeConfig) -> EdgeStrategy:
    """The robot's share that `config` asks for. Raises ModelError, ArtifactError or ValueError."""
    return SplitEdge(config)


def bridge_strategy(config: BridgeRuntimeConfig) -> BridgeStrategy:
    """The off-board share that `config` asks for. Raises ModelError, ArtifactError or ValueError."""
    return TailPipeline(config)
