"""The link simulator as a node: a UDP relay between robots and bridge whose impairments are parameters."""

from __future__ import annotations

from evitif_ros.program_start import begin_program

begin_program(__name__)

import dataclasses
from typing import NoReturn

from evitif.transport import LinkSimulator
from evitif.transport.addresses import format_address
from evitif_cloud_bridge.parameters import LINK_SIMULATOR_PARAMETERS, impairment
from evitif_ros.diagnostics import OK, DiagnosticsPublisher, Status
from evitif_ros.lifecycle import AutostartNode, run

DIRECTIONS = ('uplink', 'downlink')


class LinkSimulatorNode(AutostartNode):
    default_name = 'link_simulator'
    table = LINK_SIMULATOR_PARAMETERS

    def __init__(self, **kwargs):
        self._simulator: LinkSimulator | None = None
        self._running = False
        super().__init__(**kwargs)
        self._values = self.values()
        self._diagnostics = DiagnosticsPublisher(self, 'simulated link')
        for direction in DIRECTIONS:
            self._diagnostics.add(direction, lambda direction=direction: self._status(direction))

    def publishes(self) -> tuple[str, ...]:
        return ('/diagnostics',)

    def configure(self) -> None:
        values = self._values = self.values()
        self._simulator = LinkSimulator(
            (values['listen_host'], values['listen_port']), (values['forward_host'], values['forward_port']),
            uplink=impairment('uplink', values), downlink=impairment('downlink', values), seed=values['seed'])

    def activate(self) -> None:
        self._simulator.start()
        self._running = True
        self.get_logger().info(
            f'relaying {format_address(self._simulator.local_address)} to '
            f'{self._values["forward_host"]}:{self._values["forward_port"]}, '
            f'loss {self._values["uplink.loss"]:g} up and {self._values["downlink.loss"]:g} down')

    def deactivate(self) -> None:
        self._running = False
        if self._simulator is not None:
            self._simulator.stop()

    def cleanup(self) -> None:
        self._simulator = None

    def parameters_changed(self, values: dict[str, object]) -> str | None:
        """Take over new impairments from the next datagram on; both directions or neither."""
        changed = {**self._values, **values}
        try:
            impairments = {direction: impairment(direction, changed) for direction in DIRECTIONS}
        except ValueError as error:
            return str(error)
        for direction, setting in impairments.items():
            self._simulator.set_impairment(direction, setting)
        self._values = changed
        return None

    def _status(self, direction: str) -> Status:
        if not self._running:
            return Status(OK, 'the node is not active')
        counters = dataclasses.asdict(self._simulator.counters(direction))
        return Status(OK, f'loss {self._values[f"{direction}.loss"]:g}, {self._simulator.robots} robots',
                      {name.replace('_', ' '): value for name, value in counters.items()})


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the node; see `evitif_ros.lifecycle.run`."""
    run(LinkSimulatorNode, arguments)


if __name__ == '__main__':
    main()
