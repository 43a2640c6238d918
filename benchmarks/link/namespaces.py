"""Two network namespaces, a robot's and a bridge's, joined by a veth pair or by the forwarder, with losses in the kernel.

    robot's namespace  link0 ═══ veth pair, or two TUN devices and the forwarder ═══ link0  bridge's namespace
           nft drops what arrives                                            nft drops what arrives

Interfaces cut runs of datagrams and of TCP segments into packets when they send (`gso_max_segs 1`; a TUN device without
offloads does so by itself), so that a drop takes one packet of whoever sent it; `datagrams_a_packet` counts.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.link.conditions import Condition
from benchmarks.link.forwarder import order

ROBOT_ADDRESS, BRIDGE_ADDRESS, PREFIX = '10.213.7.1', '10.213.7.2', 30
DEVICE = 'link0'
TIMEOUT_S = 10.0
# Of both namespaces. TCP would remember the slow start threshold of a lossy turn for the connections of the next one.
SETTINGS = {'net.ipv4.tcp_no_metrics_save': 1}
_PACKETS = 30


class LinkError(Exception):
    """The namespaces cannot be had here; the text says why."""


def unavailable() -> str:
    """Why this machine cannot have the namespaces, '' where it can."""
    if not sys.platform.startswith('linux'):
        return f'{sys.platform} has no network namespaces'
    if os.geteuid() != 0:
        return 'network namespaces need root'
    missing = [tool for tool in ('ip', 'nft') if shutil.which(tool) is None]
    if missing:
        return f'{" and ".join(missing)} cannot be found (Debian: apt install iproute2 nftables)'
    try:
        with NamespaceLink(forwarded=False) as link:
            link.set(Condition(loss=0.5))
    except LinkError as error:
        return str(error)
    return ''


def remove_leftovers() -> None:
    """Remove namespaces of this benchmark whose process is gone, as after a power cut or `kill -9`."""
    listed = run_tool(['ip', '-j', 'netns', 'list'])
    for entry in json.loads(listed or '[]'):
        match = re.fullmatch(r'evitif-(\d+)-\d+p?-(robot|bridge)', entry['name'])
        if match and not Path('/proc', match[1]).exists():
            run_tool(['ip', 'netns', 'delete', entry['name']])


class NamespaceLink:
    """
    The link, from `__enter__` to `close`, which removes all of it.

    :param contestants: names that get a port each: where the bridge listens, `listen`, and where the robot reaches it, `reach`
    :param forwarded: through the forwarder, which can delay, limit the rate and lose in bursts, and takes part of a CPU
    :param keep_runs: leave the interfaces as they come, so that runs of datagrams stay together
    :raises LinkError: where the system cannot; nothing is left behind then
    """

    _numbers = itertools.count()

    def __init__(self, contestants: tuple[str, ...] = (), first_port: int = 7600, *, forwarded: bool,
                 keep_runs: bool = False):
        self.forwarded = forwarded
        self._keep_runs = keep_runs
        self.listen = {name: ('0.0.0.0', first_port + index) for index, name in enumerate(contestants)}
        self.reach = {name: (BRIDGE_ADDRESS, port) for name, (_, port) in self.listen.items()}
        name = f'evitif-{os.getpid()}-{next(self._numbers)}'
        self.namespaces = (f'{name}-robot', f'{name}-bridge')
        self._forwarder: subprocess.Popen | None = None
        self._loses = False

    def __enter__(self) -> NamespaceLink:
        try:
            self._open()
        except (OSError, subprocess.SubprocessError, LinkError) as error:
            self.close()
            raise LinkError(str(error)) from None
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    @property
    def robot_command(self) -> list[str]:
        """What runs a command in the robot's namespace."""
        return ['ip', 'netns', 'exec', self.namespaces[0]]

    @property
    def bridge_command(self) -> list[str]:
        """What starts a program on the bridge's side."""
        return ['ip', 'netns', 'exec', self.namespaces[1]]

    def set(self, condition: Condition) -> None:
        """From now on the link is like this, in both directions. Raises ValueError where it is not made for that."""
        if condition.forwarded and not self.forwarded:
            raise ValueError(f'{condition.name}: expected a link with a forwarder')
        if self._forwarder is not None:
            self._forwarder.stdin.write(order(condition.impairment(with_loss=False)))
            self._forwarder.stdin.flush()
            self._await_forwarder('done')
        share = condition.loss if condition.burst <= 1 else 0.0
        if not share and not self._loses:
            return
        self._loses = bool(share)
        drop = f'iifname "{DEVICE}" numgen random mod 100000 < {round(100_000 * share)} drop' if share else ''
        rules = ('add table inet evitif\ndelete table inet evitif\ntable inet evitif {\n chain arriving {\n'
                 f'  type filter hook prerouting priority raw; policy accept;\n  {drop}\n }}\n}}\n')
        for namespace in self.namespaces:
            run_tool(['ip', 'netns', 'exec', namespace, 'nft', '-f', '-'], rules)

    def datagrams_a_packet(self) -> float:
        """How many datagrams of a run (`UDP_SEGMENT`) arrive as one packet: 1, or a drop would take several."""
        before = self._arrived()
        script = ('import socket, struct; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); '
                  f's.sendmsg([bytes(1000 * {_PACKETS})], [(17, 103, struct.pack("=H", 1000))], 0, ("{BRIDGE_ADDRESS}", 9))')
        run_tool([*self.robot_command, sys.executable, '-c', script])
        until = time.monotonic() + 2.0
        while (arrived := self._arrived() - before) < _PACKETS and time.monotonic() < until:
            time.sleep(0.05)
        return _PACKETS / max(1, arrived)

    def close(self) -> None:
        """Remove everything. May be called again."""
        if self._forwarder is not None:
            self._forwarder.stdin.close()
            try:
                self._forwarder.wait(TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._forwarder.kill()
                self._forwarder.wait()
            self._forwarder = None
        for namespace in self.namespaces:
            # The devices go with the namespaces.
            subprocess.run(['ip', 'netns', 'delete', namespace], capture_output=True, timeout=TIMEOUT_S)

    def _open(self) -> None:
        robot, bridge = self.namespaces
        for namespace in self.namespaces:
            run_tool(['ip', 'netns', 'add', namespace])
            run_tool(['ip', '-n', namespace, 'link', 'set', 'lo', 'up'])
            for name, value in SETTINGS.items():
                run_tool(['ip', 'netns', 'exec', namespace, 'sh', '-c', f'echo {value} > /proc/sys/{name.replace(".", "/")}'])
        if self.forwarded:
            # Its own session: an interruption at the terminal ends what measures first, and that ends the forwarder.
            self._forwarder = subprocess.Popen([sys.executable, '-m', 'benchmarks.link.forwarder', robot, bridge, DEVICE],
                                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                               start_new_session=True)
            self._await_forwarder('ready')
        else:
            run_tool(['ip', 'link', 'add', DEVICE, 'netns', robot, 'type', 'veth', 'peer', 'name', DEVICE, 'netns', bridge])
        for namespace, own, peer in ((robot, ROBOT_ADDRESS, BRIDGE_ADDRESS), (bridge, BRIDGE_ADDRESS, ROBOT_ADDRESS)):
            address = [f'{own}/32', 'peer', f'{peer}/32'] if self.forwarded else [f'{own}/{PREFIX}']
            run_tool(['ip', '-n', namespace, 'address', 'add', *address, 'dev', DEVICE])
            runs = [] if self._keep_runs else ['gso_max_segs', '1']
            run_tool(['ip', '-n', namespace, 'link', 'set', DEVICE, 'up', 'mtu', '1500', *runs])
            run_tool(['ip', '-n', namespace, 'route', 'add', '224.0.0.0/4', 'dev', DEVICE])       # DDS finds its peers by multicast

    def _await_forwarder(self, word: str) -> None:
        line = self._forwarder.stdout.readline().decode().strip()
        if line != word:
            raise LinkError(f'the forwarder ended: {self._forwarder.stderr.read().decode().strip().splitlines()[-1:]}')

    def _arrived(self) -> int:
        text = run_tool(['ip', '-n', self.namespaces[1], '-s', '-j', 'link', 'show', DEVICE])
        return json.loads(text)[0]['stats64']['rx']['packets']


def run_tool(command: list[str], text: str | None = None) -> str:
    """
    Run a command; return its output.

    :raises LinkError: it fails, naming it and what it says
    """
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise LinkError(f'{" ".join(command[:6])}: {done.stderr.strip() or done.returncode}')
    return done.stdout
