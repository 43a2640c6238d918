"""Real node processes over real DDS and UDP, and a probe that talks to them."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / 'fixtures'))
# Images are small here. What processes killed by these tests leave in shared memory
# may be why one was not heard once.
os.environ['FASTDDS_BUILTIN_TRANSPORTS'] = 'UDPv4'


@pytest.fixture(scope='session')
def ros_domain():
    """A domain of this run's own; other ROS systems on this network, and parallel runs, stay outside."""
    with contextlib.ExitStack() as stack:
        try:
            from domain_coordinator import domain_id
            yield stack.enter_context(domain_id())
        except ImportError:
            yield 1 + os.getpid() % 100


@pytest.fixture(scope='session')
def launch_node(ros_domain, tmp_path_factory):
    """A function that starts a node's process; all of them are killed at the end, whatever happened."""
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    pytest.importorskip('evitif_msgs.msg', reason='the message package is not built: make build')
    from node_process import NodeProcess
    folder, started = tmp_path_factory.mktemp('logs'), []

    def launch(module: str, parameters: dict | None = None, **options) -> NodeProcess:
        started.append(NodeProcess(module, parameters or {}, folder / f'{len(started)}.log', ros_domain, **options))
        return started[-1]
    yield launch
    for process in started:
        process.kill()


@pytest.fixture(scope='session')
def probe(ros_domain):
    """A node in this process that publishes images and keeps what the nodes publish."""
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    pytest.importorskip('evitif_msgs.msg', reason='the message package is not built: make build')
    from probe import Probe
    probe = Probe(ros_domain)
    yield probe
    probe.close()
