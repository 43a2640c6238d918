"""The two halves joined from the library's parts: what the nodes, the demo, the tests and the benchmarks run."""

from evitif.pipeline.bridge_runtime import BridgeRuntime, BridgeStatistics
from evitif.pipeline.edge_runtime import EdgeRuntime, EdgeStatistics
from evitif.pipeline.prediction import Prediction, StageTimes

__all__ = ['BridgeRuntime', 'BridgeStatistics', 'EdgeRuntime', 'EdgeStatistics', 'Prediction', 'StageTimes']
