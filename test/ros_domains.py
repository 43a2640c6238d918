"""A ROS domain of a test's own, in which nodes discover each other as on a user's machine, and a plain node that looks at it."""

import contextlib
import itertools
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.images import default_environment

FOUND_S = 60.0      # after what runs inside has ended, or is there to stay


@contextlib.contextmanager
def own_domain():
    """A domain that no other test run on this machine has, however many run at once."""
    from domain_coordinator import domain_id
    # From the process id on: low numbers are those of the robots in the same network.
    numbers = itertools.count(os.getpid())
    with domain_id(lambda: next(numbers) % 100 + 1) as domain:
        yield domain


@contextlib.contextmanager
def plain_node_sees(topic: str, node: str, domain: int):
    """A node in the environment that ROS comes with, which has to see the node, and the topic published."""
    with subprocess.Popen([sys.executable, Path(__file__).with_name('onlooker.py'), topic, node],
                          env=default_environment(ROS_DOMAIN_ID=str(domain)), stdout=subprocess.PIPE, text=True) as onlooker:
        try:
            yield
            assert onlooker.wait(FOUND_S) == 0, onlooker.stdout.read()
        finally:
            onlooker.kill()
