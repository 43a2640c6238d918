"""Real node processes over real DDS and UDP, and a probe that talks to them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent / 'fixtures'), str(Path(__file__).parents[1])]


@pytest.fixture(scope='session')
def ros_domain():
    """A domain of this run's own; other ROS systems on this network, and parallel runs, stay outside."""
    pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    from ros_domains import own_domain
    with own_domain() as domain:
        yield domain


@pytest.fixture(scope='session')
def launch_node(ros_domain, tmp_path_factory):
    """A function that starts a node's process; all of them are killed at the end, whatever happened."""
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
    pytest.importorskip('evitif_msgs.msg', reason='the message package is not built: make build')
    from probe import Probe
    probe = Probe(ros_domain)
    yield probe
    probe.close()
