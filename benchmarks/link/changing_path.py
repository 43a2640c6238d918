"""A robot's and a bridge's network namespace, and what changes between them: rate and queue, addresses, the name, the interface, the size
that passes.

    robot's namespace  link0 ═══ veth pair ═══ link0  bridge's namespace

The kernel shapes with a token bucket (tc tbf). A far end whose MTU is smaller than a packet drops it and says nothing, which is what a
path does that swallows large datagrams. Names are those of the robot's own hosts file, which `ip netns exec` puts in place of /etc/hosts.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.link.namespaces import DEVICE, LinkError, run_tool

BRIDGE_NAME = 'bridge.test'
BRIDGE_ADDRESSES = '10.213.8.2', '10.213.8.3'
ROBOT_ADDRESSES = '10.213.8.1', '10.213.9.1'
BRIDGE_LINK_LOCAL = 'fe80::2'
MTU = 1500
_HOSTS = Path('/etc/netns')
_TBF_BURST = '16kb'


def unavailable() -> str:
    """Why this machine cannot have the path, '' where it can."""
    if not sys.platform.startswith('linux'):
        return f'{sys.platform} has no network namespaces'
    if os.geteuid() != 0:
        return 'network namespaces need root'
    if missing := [tool for tool in ('ip', 'tc') if shutil.which(tool) is None]:
        return f'{" and ".join(missing)} cannot be found (Debian: apt install iproute2)'
    try:
        with ChangingPath() as path:
            path.shape(1.0, 0.1)
    except LinkError as error:
        return str(error)
    return ''


class ChangingPath:
    """
    The path, from `__enter__` to `close`, which removes all of it.

    :raises LinkError: where the system cannot; nothing is left behind then
    """

    _numbers = itertools.count()

    def __init__(self):
        name = f'evitif-{os.getpid()}-{next(self._numbers)}p'
        self.robot, self.bridge = self.namespaces = f'{name}-robot', f'{name}-bridge'
        self._hosts = _HOSTS / self.robot

    def __enter__(self) -> ChangingPath:
        try:
            self._open()
        except BaseException as error:
            self.close()
            if isinstance(error, (OSError, subprocess.SubprocessError)):
                raise LinkError(str(error)) from None
            raise
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    @property
    def robot_command(self) -> list[str]:
        """What runs a command in the robot's namespace."""
        return ['ip', 'netns', 'exec', self.robot]

    @property
    def bridge_command(self) -> list[str]:
        """What runs a command in the bridge's namespace."""
        return ['ip', 'netns', 'exec', self.bridge]

    # What changes

    def shape(self, rate_mbit: float, queue_s: float) -> None:
        """The uplink's rate, and the queue in front of it, in seconds of it."""
        limit = max(int(1e6 * rate_mbit * queue_s / 8), 3000)
        run_tool(['tc', '-n', self.robot, 'qdisc', 'replace', 'dev', DEVICE, 'root', 'tbf', 'rate', f'{int(1e6 * rate_mbit)}bit',
                  'burst', _TBF_BURST, 'limit', str(limit)])

    def name(self, address: str | None) -> None:
        """What the bridge's name stands for at the robot; None: it does not resolve."""
        line = f'{address} {BRIDGE_NAME}\n' if address else ''
        (self._hosts / 'hosts').write_text(f'127.0.0.1 localhost\n{line}')     # in place: the file is mounted

    def move_bridge(self, address: str) -> None:
        """The bridge has this address alone."""
        self._address(self.bridge, address)

    def move_robot(self, address: str) -> None:
        """The robot's interface has this address alone, perhaps of another network."""
        self._address(self.robot, address)
        for other in BRIDGE_ADDRESSES:
            run_tool(['ip', '-n', self.robot, 'route', 'replace', f'{other}/32', 'dev', DEVICE, 'src', address])

    def recreate(self) -> None:
        """The interface goes and comes again: with the same addresses, and another index, so that a link-local scope is stale."""
        run_tool(['ip', '-n', self.robot, 'link', 'delete', DEVICE])
        self._plug()

    def swallow(self, mtu: int) -> None:
        """Larger packets towards the bridge vanish; 1500: none does."""
        run_tool(['ip', '-n', self.bridge, 'link', 'set', DEVICE, 'mtu', str(mtu)])

    def cut(self, off: bool) -> None:
        """The link is down, or up again."""
        run_tool(['ip', '-n', self.bridge, 'link', 'set', DEVICE, 'down' if off else 'up'])
        if not off:
            self._bridge_addresses()

    # How it is made

    def _open(self) -> None:
        self._hosts.mkdir(parents=True)
        self.name(BRIDGE_ADDRESSES[0])
        (self._hosts / 'resolv.conf').write_text('nameserver 127.0.0.1\noptions timeout:1 attempts:1\n')
        for namespace in self.namespaces:
            run_tool(['ip', 'netns', 'add', namespace])
            run_tool(['ip', '-n', namespace, 'link', 'set', 'lo', 'up'])
        # Between the robot's own programs, as on its own network: DDS does not follow an interface that is made anew.
        run_tool(['ip', '-n', self.robot, 'link', 'add', 'inside0', 'type', 'veth', 'peer', 'name', 'inside1'])
        for device in ('inside0', 'inside1'):
            run_tool(['ip', '-n', self.robot, 'link', 'set', device, 'up'])
        run_tool(['ip', '-n', self.robot, 'address', 'add', '10.213.10.1/24', 'dev', 'inside0'])
        run_tool(['ip', '-n', self.robot, 'route', 'add', '224.0.0.0/4', 'dev', 'inside0'])
        self._plug()

    def _plug(self) -> None:
        run_tool(['ip', 'link', 'add', DEVICE, 'netns', self.robot, 'type', 'veth', 'peer', 'name', DEVICE, 'netns', self.bridge])
        for namespace in self.namespaces:
            run_tool(['ip', '-n', namespace, 'link', 'set', DEVICE, 'up', 'mtu', str(MTU), 'gso_max_segs', '1'])
        self._bridge_addresses()
        run_tool(['ip', '-n', self.robot, '-6', 'address', 'add', 'fe80::1/64', 'dev', DEVICE, 'nodad'])
        self.move_robot(ROBOT_ADDRESSES[0])

    def _bridge_addresses(self) -> None:
        self.move_bridge(BRIDGE_ADDRESSES[0])
        for robot in ROBOT_ADDRESSES:
            run_tool(['ip', '-n', self.bridge, 'route', 'replace', f'{robot}/32', 'dev', DEVICE])
        run_tool(['ip', '-n', self.bridge, '-6', 'address', 'replace', f'{BRIDGE_LINK_LOCAL}/64', 'dev', DEVICE, 'nodad'])

    def _address(self, namespace: str, address: str) -> None:
        """The interface has this IPv4 address alone."""
        run_tool(['ip', '-n', namespace, '-4', 'address', 'flush', 'dev', DEVICE])
        run_tool(['ip', '-n', namespace, 'address', 'add', f'{address}/32', 'dev', DEVICE])
        for other in ROBOT_ADDRESSES if namespace == self.bridge else BRIDGE_ADDRESSES:
            run_tool(['ip', '-n', namespace, 'route', 'replace', f'{other}/32', 'dev', DEVICE])

    def close(self) -> None:
        """Remove everything. May be called again."""
        for namespace in self.namespaces:
            subprocess.run(['ip', 'netns', 'delete', namespace], capture_output=True, timeout=10.0)
        shutil.rmtree(self._hosts, ignore_errors=True)
