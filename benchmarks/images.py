"""Images between two processes: how many arrive, with Fast DDS as it comes and with config/fastdds.xml at the publisher.

The subscriber is always a process with the environment that ROS comes with. The second host is a network namespace with a /dev/shm of
its own, joined by a veth pair.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.link.namespaces import LinkError, NamespaceLink
from benchmarks.part import ROOT, PartError, command, save

TITLE = 'Images between two processes'
QUICK = 'fewer images'
SIZES = {'0.9 MB': (640, 480), '6.2 MB': (1920, 1080)}
RATE = 10
WAIT_S = 60.0       # for what a process may take longer than its images
# What a user may have set about DDS; and the mark of ROS's wheels, which a child process with another library path must not inherit.
OWN = ('FASTDDS_', 'FASTRTPS_', 'RMW_', 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'ROS_LOCALHOST_ONLY', 'ROS_STATIC_PEERS', '_ROS_WHEELS_')
# A host of its own shares no memory with this one.
OWN_MEMORY = ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs tmpfs /dev/shm && exec "$@"', 'sh']


@dataclass(frozen=True)
class Hosts:
    """What runs a command on the publisher's host and on the subscriber's."""

    name: str
    publisher: tuple[str, ...] = ()
    subscriber: tuple[str, ...] = ()


SAME = Hosts('the same host')


@contextlib.contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Two network namespaces, a host each. Raises LinkError where the system cannot, or the user may not."""
    if os.geteuid() != 0:
        raise LinkError('network namespaces need root')
    with NamespaceLink(forwarded=False, keep_runs=True) as link:
        yield Hosts('a second host', (*link.robot_command, *OWN_MEMORY), (*link.bridge_command, *OWN_MEMORY))


def default_environment(**more: str) -> dict[str, str]:
    """The environment with ROS as it comes, and `more`."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OWN)} | more


def exchange(size: tuple[int, int], reliability: str, domain: int, *, profile: bool, hosts: Hosts = SAME, images: int = 60,
             **environment: str) -> int | None:
    """How many of `images` arrive, with or without the profile; None where publisher and subscriber do not find each other."""
    from evitif_ros import fast_dds
    default = default_environment(ROS_DOMAIN_ID=str(domain), **environment)
    publishing = default | ({fast_dds.variable(): str(fast_dds.profile())} if profile else {})
    with peer(hosts.subscriber, ['receive', reliability], default) as subscriber:
        subscriber.stdout.readline()
        with peer(hosts.publisher, ['publish', *map(str, (*size, images, RATE)), reliability], publishing) as publisher:
            met = publisher.wait(images / RATE + WAIT_S) == 0
        subscriber.terminate()
        received = int(subscriber.communicate(timeout=WAIT_S)[0])
    return received if met else None


@contextlib.contextmanager
def peer(host: tuple[str, ...], arguments: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    """A process of benchmarks/image_peer.py, run by what `host` gives; killed in the end."""
    process = subprocess.Popen([*host, sys.executable, '-m', 'benchmarks.image_peer', *arguments], cwd=ROOT, env=environment,
                               stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run(quick: bool, output: Path) -> dict:
    """
    Measure all of it and write `images.json`.

    :raises PartError: ROS 2 is not installed
    """
    try:
        from domain_coordinator import domain_id
    except ImportError as error:
        raise PartError(f'ROS 2 is not installed: {error}') from None
    images, rows, notes = 20 if quick else 60, [], []
    with contextlib.ExitStack() as stack:
        domain, every = stack.enter_context(domain_id()), [SAME]
        try:
            every.append(stack.enter_context(two_hosts()))
        except LinkError as error:
            notes.append(f'without a second host: {error}')
        for hosts, (name, size), reliability in itertools.product(every, SIZES.items(), ('best_effort', 'reliable')):
            rows.append({'hosts': hosts.name, 'image': name, 'reliability': reliability,
                         **{how: exchange(size, reliability, domain, profile=how == 'profile', hosts=hosts, images=images)
                            for how in ('default', 'profile')}})
    return save(output, 'images', command('images', quick),
                {'images': images, 'rate': RATE, 'rows': rows}, notes=notes)


def section(result: dict, _images: Path) -> str:
    """The table in docs/nodes.md."""
    figures = result['figures']
    lines = [f'| images that arrive, of {figures["images"]} | Fast DDS as it comes | config/fastdds.xml at the publisher |',
             '| --- | ---: | ---: |']
    for row in figures['rows']:
        cells = ['not seen' if row[how] is None else str(row[how]) for how in ('default', 'profile')]
        lines.append(f'| {row["image"]}, {row["reliability"].replace("_", " ")}, {row["hosts"]} | {" | ".join(cells)} |')
    return '\n'.join([*lines, *result['notes']])
