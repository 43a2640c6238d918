"""A bridge, a lossy relay and edges on this machine, in threads of this process."""

import time

import numpy as np

from evitif.pipeline import BridgeRuntime, EdgeRuntime
from evitif.settings import bridge_settings, edge_settings
from evitif.transport import Impairment, LinkSimulator

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 72, 3), np.uint8)


def wait(condition, seconds=15.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(0.005)


class System:
    """What the edges answered is in `robot` and `maps`, what the bridge did in `off_board`, with the robots' names."""

    def __init__(self, *edges: dict, bridge: dict, loss: float = 0.0):
        self.robot, self.maps, self.off_board, self.log = [], [], [], []
        self.bridge = BridgeRuntime(bridge_settings(**bridge, bind_host='127.0.0.1', port=0), log=self._log,
                                    on_prediction=lambda robot, prediction: self.off_board.append((robot, prediction)))
        self.bridge.start()
        self.link = LinkSimulator(('127.0.0.1', 0), self.bridge.local_address, uplink=Impairment(loss=loss),
                                  downlink=Impairment(loss=loss), seed=4)
        self.link.start()
        self.edges = [EdgeRuntime(edge_settings(**edge, bridge_port=self.link.local_address[1]), log=self._log,
                                  on_prediction=self.robot.append, on_map=self.maps.append) for edge in edges]
        for edge in self.edges:
            edge.start()

    def _log(self, level, text):
        self.log.append((level, text))

    @property
    def edge(self) -> EdgeRuntime:
        return self.edges[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for edge in self.edges:
            edge.stop()
        self.link.stop()
        self.bridge.stop()

    def ended(self, frames: int) -> bool:
        """Whether the fate of so many frames of the first edge is known."""
        statistics = self.edge.statistics()
        return statistics.frames_answered + statistics.frames_expired + statistics.frames_unsent == frames

    def connected(self):
        wait(lambda: all(edge.statistics().state == 'connected' for edge in self.edges))
