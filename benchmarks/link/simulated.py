"""Without namespaces: the link simulator on loopback, for the contestants that send plain UDP."""

from __future__ import annotations

from benchmarks.link.conditions import Condition
from benchmarks.link.contestants import CONTESTANTS
from evitif.transport import LinkSimulator

HOST = '127.0.0.1'


class SimulatedLink:
    """A `LinkSimulator` for each of `contestants`, (host, port) by name in `reach` and `listen`; as `NamespaceLink` otherwise."""

    robot_command: list[str] = []
    bridge_command: list[str] = []

    def __init__(self, contestants: tuple[str, ...], first_port: int):
        self.listen = {name: (HOST, first_port + index) for index, name in enumerate(contestants)}
        self._simulators = {name: LinkSimulator((HOST, 0), address) for name, address in self.listen.items()
                            if CONTESTANTS[name].datagrams}
        self.reach: dict[str, tuple[str, int]] = {}

    def __enter__(self) -> SimulatedLink:
        for name, simulator in self._simulators.items():
            simulator.start()
            self.reach[name] = simulator.local_address
        return self

    def __exit__(self, *exception) -> None:
        for simulator in self._simulators.values():
            simulator.stop()

    def set(self, condition: Condition) -> None:
        """From now on the link is like this, in both directions."""
        for simulator in self._simulators.values():
            for direction in ('uplink', 'downlink'):
                simulator.set_impairment(direction, condition.impairment(with_loss=True))
