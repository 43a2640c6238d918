"""A ROS domain of a test's own, in which nodes discover each other as on a user's machine."""

import contextlib
import itertools
import os


@contextlib.contextmanager
def own_domain():
    """A domain that no other test run on this machine has, however many run at once."""
    from domain_coordinator import domain_id
    # From the process id on: low numbers are those of the robots in the same network.
    numbers = itertools.count(os.getpid())
    with domain_id(lambda: next(numbers) % 100 + 1) as domain:
        yield domain
