"""A bridge's place in a fleet, as its settings describe it, and what it does for the fleet while it runs."""

from __future__ import annotations

import logging
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from evitif.protocol.bridge.fleet_place import STATUS_S, FleetPlace
from evitif.protocol.sealing.keys import read_secret
from evitif.protocol.sealing.tickets import FleetKey
from evitif.settings import BridgeSettings
from evitif.settings.hosts import hosts_of
from evitif.transport import UdpLoop
from evitif.transport.addresses import TransportError, resolve

LOOK_UP_S = 5.0              # between two look-ups of the directories' names
WAITS = 512                  # frames whose waiting times are remembered
LEAVE_S = 30.0               # that a bridge waits for its robots to have left


def fleet_place(config: BridgeSettings) -> FleetPlace | None:
    """The bridge's place in its fleet; None: it is in none. Raises KeyFileError, or ValueError where settings do not go together."""
    if not config.directories:
        return None
    if not config.fleet_key:
        raise ValueError(f'directories is {config.directories!r} and fleet_key is empty: set fleet_key to the same file as the directories')
    key = FleetKey(read_secret(config.fleet_key, 'fleet_key'))
    announce = hosts_of(config.announce, config.port)[0] if config.announce else None
    return FleetPlace(config.bridge_number, key, secrets.randbits(64), clock_ahead_s=time.time() - time.monotonic(),
                      version=config.model_version, announce=announce)


class FleetLife:
    """What a bridge does for its fleet while it runs: it follows the directories' names, and says how busy it is.

    :param place: None: the bridge is in no fleet, and nothing is done
    """

    def __init__(self, place: FleetPlace | None, config: BridgeSettings, loop: UdpLoop, log: Callable[[int, str], None]):
        self._place, self._config, self._loop, self._log = place, config, loop, log
        self._busy_s = 0.0           # of the worker, since the last look
        self._waits: deque[float] = deque(maxlen=WAITS)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._said = ''

    @property
    def wait_ms(self) -> float:
        """The 99th percentile of what frames waited for the tail of late, milliseconds."""
        waits = [*self._waits]
        return round(1e3 * float(np.percentile(waits, 99)), 3) if waits else 0.0

    def worked(self, seconds: float, waits: list[float]) -> None:
        """The worker computed for so long, for frames that had waited so long."""
        self._busy_s += seconds
        self._waits.extend(waits)

    def start(self) -> None:
        """Begin, once the loop runs."""
        if self._place is not None:
            self._thread = threading.Thread(target=self._live, args=(self._place,), name='evitif-fleet', daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def drain(self, robots: Callable[[], int], seconds: float = LEAVE_S) -> bool:
        """Send the robots to other bridges, and wait until they have left. False: some are still here."""
        place = self._place
        if place is None:
            return robots() == 0

        def begin(now: float) -> None:
            place.told_to_drain = True
        self._loop.call(begin)
        end = time.monotonic() + seconds
        while robots() and time.monotonic() < end:
            time.sleep(0.05)
        return robots() == 0

    def _live(self, place: FleetPlace) -> None:
        looked, measured, load = -LOOK_UP_S, time.monotonic(), 0.0
        while True:
            now = time.monotonic()
            busy, self._busy_s = self._busy_s, 0.0
            load += 0.3 * (busy / max(now - measured, 1e-3) - load)
            measured, place.load, place.wait_ms = now, load, self.wait_ms
            if now >= looked + LOOK_UP_S:
                looked = now
                self._look_up(place)
            if self._stopping.wait(STATUS_S):
                return

    def _look_up(self, place: FleetPlace) -> None:
        found, problems = [], []
        family = socket.AF_INET6 if ':' in self._loop.local_address[0] else socket.AF_INET
        for host in hosts_of(self._config.directories, self._config.port):
            try:
                kind, address = resolve(host)
                if kind == family:
                    found.append(address)
                else:
                    problems.append(f'directory {host[0]} is of another address family than bind_host {self._config.bind_host}')
            except TransportError as error:
                problems.append(f'directory: {error}')
        said = '; '.join(problems)
        if said != self._said:
            self._said = said
            self._log(logging.WARNING if said else logging.INFO, said or 'all directories resolve')
        self._loop.call(lambda now: place.set_directories(found))
