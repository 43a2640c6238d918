"""The directory as a process: a socket, the keys' files, a state that survives a restart, and a door for its operator."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from evitif.files import read_json, write_json
from evitif.pipeline.runtime import Log, log_to_python
from evitif.protocol.directory.endpoint import BridgeReported, DirectoryEndpoint, ReportRefused, RobotSent
from evitif.protocol.events import RobotRefused
from evitif.protocol.sealing.keys import (
    UNSEALED_WARNING,
    key_state,
    read_robot_keys,
    read_secret,
    require_choice,
    reread_robot_keys,
)
from evitif.protocol.sealing.tickets import FleetKey
from evitif.repeated_log import RepeatedLog
from evitif.transport import UdpLoop
from evitif.transport.addresses import format_address

WATCH_S = 1.0                # between two looks at the key files, and between two writings of the state


@dataclasses.dataclass(frozen=True)
class DirectorySettings:
    """How a directory runs; `state`: file that keeps what it knows, None: it knows nothing after a restart."""

    fleet_key: str
    key_file: str | None = None
    unsealed: bool = False
    name: str = 'directory'
    bind_host: str = '0.0.0.0'
    port: int = 7600
    state: str | None = None
    silent_to_strangers: bool = False


class DirectoryRuntime:
    """A directory that runs. Raises KeyFileError, ValueError; its `start` TransportError (an OSError)."""

    def __init__(self, settings: DirectorySettings, log: Log = log_to_python):
        require_choice(settings.key_file, settings.unsealed, settings.silent_to_strangers)
        self.settings, self._log = settings, log
        self._repeated = RepeatedLog(log)
        self.key = FleetKey(read_secret(settings.fleet_key, 'fleet_key'))
        self._key_state = key_state(settings.key_file) if settings.key_file else ()
        keys = read_robot_keys(settings.key_file) if settings.key_file else None
        self.endpoint = DirectoryEndpoint(settings.name, self.key, keys=keys, silent_to_strangers=settings.silent_to_strangers)
        self._loop = UdpLoop(self.endpoint, bind=(settings.bind_host, settings.port), on_event=self._handle)
        self._counts: Counter[str] = Counter()
        self._written: dict[str, Any] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def local_address(self) -> tuple[str, int]:
        """Where it listens, once started."""
        return self._loop.local_address

    def start(self) -> None:
        """Begin, with what another life has written."""
        if self.settings.unsealed:
            self._log(logging.WARNING, UNSEALED_WARNING)
        self._restore()
        self._loop.start()
        self._thread = threading.Thread(target=self._watch, name='evitif-directory', daemon=True)
        self._thread.start()
        self._log(logging.INFO, f'directory {self.settings.name} listens on {format_address(self.local_address)} (UDP)')

    def stop(self) -> None:
        """End; robots that have a session notice nothing."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            self._write()
        self._loop.stop()

    # What the operator asks for; also over Ray, so plain values only.

    def status(self) -> dict[str, Any]:
        """The fleet as the directory knows it, for JSON."""
        def bridges(now: float) -> list[dict[str, Any]]:
            return [{'number': number, 'name': bridge.report.name, 'address': f'{bridge.host}:{bridge.port}',
                     'version': bridge.report.version, 'robots': bridge.report.robots, 'capacity': bridge.report.capacity,
                     'load': round(bridge.report.load, 3), 'answered': bridge.report.answered, 'expired': bridge.report.expired,
                     'wait_ms': bridge.report.wait_ms, 'heard_s': round(now - bridge.heard_at, 3),
                     'state': 'gone' if not bridge.is_there(now) else 'draining' if bridge.leaving else 'serving'}
                    for number, bridge in sorted(self.endpoint.table.bridges.items())]
        return {'directory': self.settings.name, 'wanted_version': self.endpoint.table.wanted_version,
                'bridges': self._loop.call(bridges), 'events': dict(self._counts), 'dropped': dict(self.endpoint.statistics.dropped)}

    def drain(self, name: str, on: bool = True) -> str:
        """Send a bridge's robots elsewhere, or no longer; a sentence about it. Raises ValueError for a name that no bridge has."""
        def wish(now: float) -> str:
            table = self.endpoint.table
            number = table.named(name)
            table.drain(number, on)
            bridge = table.bridges[number]
            return (f'bridge {name} sends its {bridge.report.robots} robots elsewhere' if on else f'bridge {name} takes robots again')
        try:
            return self._loop.call(wish)
        except KeyError as error:
            raise ValueError(error.args[0]) from None

    def want_version(self, version: str) -> str:
        """Send robots to bridges of this version, where there are any; '': of any."""
        def wish(now: float) -> None:
            self.endpoint.table.wanted_version = version
        self._loop.call(wish)
        return f'robots are sent to bridges of version {version}' if version else 'robots are sent to bridges of any version'

    # Its threads

    def _restore(self) -> None:
        if self.settings.state is None or not Path(self.settings.state).exists():
            return
        try:
            state = read_json(self.settings.state)
            self.endpoint.table.restore(state, time.monotonic())
        except (ValueError, KeyError, TypeError, OSError) as error:
            self._log(logging.ERROR, f'{self.settings.state} cannot be used: {error!r:.200}; the directory begins without what it knew')
        else:
            self._log(logging.INFO, f'{len(self.endpoint.table.bridges)} bridges known from {self.settings.state}')

    def _watch(self) -> None:
        while not self._stopping.wait(WATCH_S):
            self._write()
            if self.settings.key_file and (state := key_state(self.settings.key_file)) != self._key_state:
                self._key_state = state
                self._read_keys(self.settings.key_file)

    def _write(self) -> None:
        """Write what another life needs, if it has changed beyond what every report changes."""
        if self.settings.state is None:
            return
        state = self._loop.call(lambda now: self.endpoint.table.state())
        known = {entry['report']['bridge']: (*(entry[name] for name in ('host', 'port', 'drain')), entry['report']['life'],
                                             entry['report']['version']) for entry in state['bridges']}
        if (lasting := {'version': state['wanted_version'], **{str(number): what for number, what in known.items()}}) != self._written:
            try:
                write_json(self.settings.state, state)
                self._written = lasting
            except OSError as error:
                self._repeated(logging.ERROR, f'what the directory knows cannot be kept: {error}', 'state')

    def _read_keys(self, path: str) -> None:
        keys = reread_robot_keys(path)
        self._loop.call(lambda now: self.endpoint.set_keys(keys))
        self._log(logging.INFO, f'the keys in {path} were changed and read again')

    def _handle(self, event: object) -> None:
        self._counts[type(event).__name__] += 1
        if isinstance(event, BridgeReported):
            self._log(logging.INFO, f'bridge {event.name}, number {event.number}, version {event.version or "(none)"}, reports from '
                                    f'{format_address(event.address)}')
        elif isinstance(event, ReportRefused):
            self._repeated(logging.ERROR, event.reason, 'report')
        elif isinstance(event, RobotSent):
            self._repeated(logging.INFO, f'robot {event.robot} at {format_address(event.address)} was sent to {" or ".join(event.bridges)}',
                           ('sent', event.robot))
        elif isinstance(event, RobotRefused):
            self._repeated(logging.WARNING, f'robot {event.robot} at {format_address(event.address)} refused: {event.reason}',
                           ('refused', event.robot))
