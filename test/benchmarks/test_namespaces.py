"""The link of two namespaces: it loses what it is told to, packet by packet, and is gone afterwards. Skips where there is none."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))      # it is run from the repository and not installed
from benchmarks.link import namespaces
from benchmarks.link.conditions import Condition
from benchmarks.link.namespaces import BRIDGE_ADDRESS, LinkError, NamespaceLink
from benchmarks.link.simulated import SimulatedLink

COUNT = 400
RECEIVE = ('import socket, sys, json; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 7000)); s.settimeout(1.5); '
           's.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20); print("ready", flush=True)\n'
           'n = 0\ntry:\n  while True:\n    s.recv(2000); n += 1\nexcept TimeoutError:\n  print(json.dumps(n))')
SEND = ('import socket, struct; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n'
        f'for _ in range({COUNT // 40}):\n  s.sendmsg([bytes(1000 * 40)], [(17, 103, struct.pack("=H", 1000))], 0, '
        f'("{BRIDGE_ADDRESS}", 7000))')


@pytest.fixture
def link():
    if reason := namespaces.unavailable():
        pytest.skip(reason)
    with NamespaceLink(forwarded=False) as opened:
        yield opened
        names = opened.namespaces
    left = namespaces.run_tool(['ip', 'netns', 'list'])
    assert not any(name in left for name in names)


def test_half_of_the_datagrams_of_runs_are_lost_one_by_one(link):
    import subprocess
    link.set(Condition(loss=0.5))
    receiver = subprocess.Popen([*link.bridge_command, sys.executable, '-c', RECEIVE], stdout=subprocess.PIPE, text=True)
    try:
        assert receiver.stdout.readline().strip() == 'ready'
        namespaces.run_tool([*link.robot_command, sys.executable, '-c', SEND])
        arrived = json.loads(receiver.communicate(timeout=20)[0])
    finally:
        receiver.kill()
        receiver.wait()
    # 400 datagrams in 10 runs: whole runs would make a multiple of 40, and 5 standard deviations are 50.
    assert abs(arrived - COUNT / 2) < 50


def test_a_link_without_a_forwarder_refuses_a_delay(link):
    with pytest.raises(ValueError, match='expected a link with a forwarder'):
        link.set(Condition(delay_ms=5))


def test_without_root_the_reason_is_told(monkeypatch):
    monkeypatch.setattr(namespaces.os, 'geteuid', lambda: 1000)
    assert namespaces.unavailable() in ('network namespaces need root', f'{sys.platform} has no network namespaces')


def test_what_is_missing_is_named(monkeypatch):
    if not sys.platform.startswith('linux'):
        pytest.skip('Linux only')
    monkeypatch.setattr(namespaces.os, 'geteuid', lambda: 0)
    monkeypatch.setattr(namespaces.shutil, 'which', lambda tool: None if tool == 'nft' else f'/sbin/{tool}')
    assert namespaces.unavailable().startswith('nft cannot be found')


def test_a_link_that_cannot_be_opened_leaves_nothing_and_says_why(monkeypatch):
    ran = []

    def fail(command, text=None):
        ran.append(command)
        raise LinkError('ip netns add: not permitted')
    monkeypatch.setattr(namespaces, 'run_tool', fail)
    monkeypatch.setattr(namespaces.subprocess, 'run', lambda command, **more: ran.append(command))
    with pytest.raises(LinkError, match='not permitted'), NamespaceLink(forwarded=False):
        pass
    assert [command[2] for command in ran[-2:]] == ['delete', 'delete']


def test_without_namespaces_only_what_is_plain_udp_has_a_way():
    with SimulatedLink(('evitif', 'tcp-cubic', 'parity-jpeg'), 29_600) as link:
        assert set(link.reach) == {'evitif', 'parity-jpeg'} and set(link.listen) == {'evitif', 'tcp-cubic', 'parity-jpeg'}
        link.set(Condition(0.2, delay_ms=5))
        assert all(simulator.impairment('uplink').loss == 0.2 for simulator in link._simulators.values())
