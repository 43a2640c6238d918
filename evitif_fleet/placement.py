"""A fleet on Ray: bridges and directory are actors, which Ray places and restarts; a keeper follows load and updates.

Ray is not in the way of a datagram: robots speak to a bridge's own socket. So if Ray's head dies, the actors' processes on other nodes
go on while Ray lets them, and what is connected stays so.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from evitif.protocol.sealing.keys import read_secret
from evitif.protocol.sealing.tickets import FleetKey
from evitif.settings import bridge_settings
from evitif_fleet.admin import AdminServer, ask
from evitif_fleet.check import agreement
from evitif_fleet.configuration import FleetConfiguration
from evitif_fleet.directory import DirectoryRuntime, DirectorySettings
from evitif_fleet.metrics import exposition
from evitif_fleet.plan import NUMBERS, READY_S, Size, Update

NAMESPACE = 'evitif'
LOOK_S, REACH_S = 1.0, 2.0
BIND_S = 5.0                 # that a bridge waits for its port: its former life may still hold it
LEAVE_S = 60.0               # that a drained bridge waits for its robots


def join(start: bool) -> str:
    """Join the cluster that this machine is in, or with `start` begin one. Its address. Raises ValueError where there is none."""
    options: dict[str, Any] = {'namespace': NAMESPACE, 'log_to_driver': False, 'logging_level': logging.ERROR}
    if ray.is_initialized():
        return ray.get_runtime_context().gcs_address
    if (address := _cluster()) is None:
        if not start:
            raise ValueError('no Ray cluster is here; expected one that `evitif fleet up` or `ray start` began')
        begun = subprocess.run([sys.executable, '-m', 'ray.scripts.scripts', 'start', '--head', '--disable-usage-stats',
                                '--include-dashboard=false'], capture_output=True, text=True, check=False, start_new_session=True,
                               env={**os.environ, 'RAY_worker_niceness': '0'})       # Ray's 15 would let bridges wait for everybody
        if begun.returncode or (address := _cluster()) is None:
            raise ValueError(f'`ray start --head` failed: {" ".join((begun.stderr or begun.stdout).split())[-400:]}')
    return ray.init(address=address, **options).address_info['gcs_address']


def _cluster() -> str | None:
    """The address of this machine's cluster, if it answers: Ray itself tries for minutes to reach one that has ended."""
    folder = Path(os.environ.get('RAY_TMPDIR', tempfile.gettempdir())) / 'ray' / 'ray_current_cluster'
    address = os.environ.get('RAY_ADDRESS') or (folder.read_text().strip() if folder.exists() else '')
    host, _, port = address.rpartition(':')
    try:
        socket.create_connection((host, int(port)), REACH_S).close()
    except (OSError, ValueError):
        return None
    return address


class DirectoryActor:
    """The directory, and its operator's door. Its state is in a file, so another life goes on with it."""

    def __init__(self, fleet: FleetConfiguration):
        logging.basicConfig(format='%(levelname)s %(message)s', level=logging.INFO)
        self._runtime = DirectoryRuntime(DirectorySettings(
            fleet.fleet_key, fleet.key_file, fleet.unsealed, f'{fleet.fleet}-directory', port=fleet.directory.port,
            state=fleet.directory.state))
        _patiently(self._runtime.start)
        self._admin = AdminServer(self._runtime, fleet.admin, lambda: exposition(self._runtime.status()))
        self._admin.start()

    def status(self) -> dict[str, Any]:
        """As `DirectoryRuntime.status`."""
        return self._runtime.status()


class BridgeActor:
    """One bridge. If Ray restarts it, it has the same number and port."""

    def __init__(self, strategy: str, values: dict[str, Any]):
        from evitif.pipeline import BridgeRuntime
        logging.basicConfig(format='%(levelname)s %(message)s', level=logging.INFO)
        self._runtime = BridgeRuntime(bridge_settings(strategy, **values), on_prediction=lambda robot, prediction: None)
        _patiently(self._runtime.start)

    def drain(self) -> bool:
        """Send the robots elsewhere; whether all have left."""
        return self._runtime.drain()

    def robots(self) -> int:
        """How many are here."""
        return len(self._runtime.statistics().links)


class KeeperActor:
    """Keeps as many bridges as the load asks for, and does updates."""

    def __init__(self, fleet: FleetConfiguration, directories: str):
        self._fleet, self._directories = fleet, directories
        self._key = FleetKey(read_secret(fleet.fleet_key, 'fleet_key'))
        self._size = Size(fleet.bridges)
        self._version, self._settings = fleet.bridges.version, dict(fleet.bridges.settings)
        self._bridges: dict[str, tuple[int, str, Any]] = {}          # by name: number, version, actor
        self._leaving: dict[str, float] = {}
        self._silent: dict[str, float] = {}                          # bridges that do not report, and since when
        self._update: Update | None = None
        self._next_settings: dict[str, Any] = {}
        self.said = ['']
        self._adopt()
        threading.Thread(target=self._keep, daemon=True).start()

    def update(self, version: str, changes: dict[str, Any]) -> str:
        """Begin an update to `version`, whose bridges have these settings beside those of now."""
        if self._update is not None:
            raise ValueError(f'an update to {self._update.version} is going on')
        if version == self._version:
            raise ValueError(f'the fleet has version {version} already')
        self._next_settings = {**self._settings, **changes}
        self._update = Update(version, self._version, time.monotonic(), self._fleet.update)
        return f'bridges of version {version} start beside those of {self._version}'

    def news(self) -> dict[str, Any]:
        """What it does."""
        return {'version': self._version, 'updating': None if self._update is None else self._update.step, 'said': self.said[-20:],
                'bridges': {name: number for name, (number, _, _) in self._bridges.items()}}

    def end(self) -> int:
        """End all bridges."""
        for _, _, actor in self._bridges.values():
            ray.kill(actor)
        return len(self._bridges)

    def _adopt(self) -> None:
        """Take over the bridges of a former life."""
        for name in [each['name'] for each in ray.util.list_named_actors(all_namespaces=True) if each['namespace'] == NAMESPACE]:
            if name.startswith(f'{self._fleet.fleet}-bridge-'):
                version, _, number = name.removeprefix(f'{self._fleet.fleet}-bridge-').rpartition('-')
                self._bridges[name] = int(number), version, ray.get_actor(name, namespace=NAMESPACE)

    def _keep(self) -> None:
        while True:
            try:
                self._look(time.monotonic())
            except Exception as error:  # noqa: BLE001 - the directory may be on its way back
                self._say(f'{type(error).__name__}: {error}')
            time.sleep(LOOK_S)

    def _look(self, now: float) -> None:
        bridges = [bridge for bridge in ask(self._fleet.admin, self._key, '/status')['bridges'] if bridge['name'] in self._bridges]
        own = [bridge for bridge in bridges if bridge['version'] == self._version]
        wanted = self._size.wanted(own, now)
        running = [name for name, (_, version, _) in self._bridges.items() if version == self._version and name not in self._leaving]
        for _ in range(wanted - len(running)):
            self._start(self._version, self._settings)
        if len(running) > wanted and self._update is None and len([bridge for bridge in own if bridge['state'] == 'serving']) > wanted:
            self._drain(self._size.least_used(own), now)
        if self._update is not None:
            self._go_on(self._update, bridges, now)
        robots = {bridge['name']: bridge['robots'] for bridge in bridges}
        there = {bridge['name'] for bridge in bridges if bridge['state'] != 'gone'}
        self._silent = {name: self._silent.get(name, now) for name in self._bridges if name not in there}
        for name, since in self._silent.items():         # Ray restarts what dies, but not what never came up, and not what hangs
            if now > since + READY_S and name not in self._leaving:
                ray.kill(self._bridges.pop(name)[2])
                self._say(f'{name} has not reported for {READY_S:.0f} s: another one starts in its place')
        for name, since in [*self._leaving.items()]:
            if robots.get(name, 0) == 0 or now > since + LEAVE_S:
                ray.kill(self._bridges.pop(name)[2])
                del self._leaving[name]
                self._say(f'{name} has ended')

    def _start(self, version: str, settings: dict[str, Any]) -> None:
        taken = {number for number, _, _ in self._bridges.values()}
        number = next(number for number in range(NUMBERS) if number not in taken)
        fleet, plan = self._fleet, self._fleet.bridges
        name = f'{fleet.fleet}-bridge-{version}-{number}'
        values = {'key_file': fleet.key_file, 'unsealed': fleet.unsealed, **settings, 'bridge_name': name, 'bridge_number': number,
                  'port': plan.first_port + number, 'directories': self._directories, 'fleet_key': fleet.fleet_key,
                  'model_version': version}
        actor = ray.remote(BridgeActor).options(name=name, namespace=NAMESPACE, lifetime='detached', max_restarts=-1, max_concurrency=4,
                                                **plan.resources).remote(plan.strategy, values)
        self._bridges[name] = number, version, actor
        self._say(f'{name} starts')

    def _drain(self, name: str, now: float) -> None:
        ask(self._fleet.admin, self._key, '/drain', bridge=name, on='1')
        self._leaving[name] = now
        self._say(f'{name} sends its robots elsewhere')

    def _go_on(self, update: Update, bridges: list[dict[str, Any]], now: float) -> None:
        wanted = max(self._fleet.bridges.least, sum(version == update.former for _, version, _ in self._bridges.values()))
        step = update.on_status(bridges, wanted, now)
        if step == 'wait':
            started = sum(version == update.version for _, version, _ in self._bridges.values())
            for _ in range(wanted - started):
                self._start(update.version, self._next_settings)
        elif step == 'check':
            old = next(bridge['name'] for bridge in bridges if bridge['version'] == update.former)
            new = next(bridge['name'] for bridge in bridges if bridge['version'] == update.version)
            step = update.on_check(*agreement(self._fleet, self._directories, (old, self._settings), (new, self._next_settings)), now)
        if step == 'move':
            ask(self._fleet.admin, self._key, '/version', wanted=update.version)
            for name, (_, version, _) in [*self._bridges.items()]:
                if version == update.former:
                    ask(self._fleet.admin, self._key, '/drain', bridge=name, on='1')
            update.on_moved()
            self._say(f'robots are sent to version {update.version}')
        elif step == 'finish':
            self._leave(update.former, now)
            self._version, self._settings, self._update = update.version, self._next_settings, None
            self._say(f'the fleet has version {self._version}')
        elif step == 'back':
            ask(self._fleet.admin, self._key, '/version', wanted=update.former)
            for name, (_, version, _) in self._bridges.items():
                if version == update.former:
                    ask(self._fleet.admin, self._key, '/drain', bridge=name, on='0')
            self._leave(update.version, now)
            self._update = None
            self._say(f'the update to {update.version} was taken back: {update.reason}')

    def _leave(self, version: str, now: float) -> None:
        known = {bridge['name'] for bridge in ask(self._fleet.admin, self._key, '/status')['bridges']}
        for name, (_, its, _) in [*self._bridges.items()]:
            if its == version and name in known:
                self._drain(name, now)
            elif its == version:
                self._leaving[name] = now

    def _say(self, text: str) -> None:
        if text != self.said[-1]:
            self.said.append(text)
            print(text, flush=True)


def up(fleet: FleetConfiguration) -> str:
    """Start a fleet, or leave what runs of it. A sentence about it."""
    where = join(start=True)
    node = ray.get_runtime_context().get_node_id()
    host = fleet.directory.host or ray.util.get_node_ip_address()
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    common: dict[str, Any] = {'namespace': NAMESPACE, 'lifetime': 'detached', 'max_restarts': -1, 'num_cpus': 0, 'get_if_exists': True,
                              'max_task_retries': -1, 'max_concurrency': 4, 'scheduling_strategy': here}
    directory = ray.remote(DirectoryActor).options(name=f'{fleet.fleet}-directory', **common).remote(fleet)
    ray.get(directory.status.remote())
    keeper = ray.remote(KeeperActor).options(name=f'{fleet.fleet}-keeper', **common).remote(fleet, f'{host}:{fleet.directory.port}')
    ray.get(keeper.news.remote())
    return (f'fleet {fleet.fleet} on the Ray cluster at {where}: robots\' bridge_host is {host}, their bridge_port {fleet.directory.port}; '
            f'{fleet.bridges.least} to {fleet.bridges.most} bridges')


def update(fleet: FleetConfiguration, version: str, changes: dict[str, Any]) -> str:
    """Begin an update. Raises ValueError where none can begin."""
    join(start=False)
    try:
        return ray.get(_actor(f'{fleet.fleet}-keeper').update.remote(version, changes))
    except ray.exceptions.RayTaskError as error:
        raise ValueError(str(error.cause)) from None


def news(fleet: FleetConfiguration) -> dict[str, Any]:
    """What the keeper does."""
    join(start=False)
    return ray.get(_actor(f'{fleet.fleet}-keeper').news.remote())


def down(fleet: FleetConfiguration) -> str:
    """End a fleet; the cluster stays. A sentence about it."""
    join(start=False)
    keeper = _actor(f'{fleet.fleet}-keeper')
    count = ray.get(keeper.end.remote())
    for name in ('keeper', 'directory'):
        ray.kill(_actor(f'{fleet.fleet}-{name}'))
    return f'{count} bridges and the directory of fleet {fleet.fleet} have ended; `ray stop` ends the cluster'


def _actor(name: str) -> Any:
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        raise ValueError(f'no {name} runs on this Ray cluster; expected one that `evitif fleet up` started') from None


def _patiently(start: Any) -> None:
    """Start something whose port its former life may still hold."""
    end = time.monotonic() + BIND_S
    while True:
        try:
            start()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return
