"""The demo's run: start the nodes, wait for the link, play the camera, collect."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from evitif.settings import CommonSettings
from evitif.vocabulary import Strategy
from evitif_lab.commands.progress import Progress
from scripts.demo.monitor import NAMESPACE, Monitor
from scripts.demo.options import model_parameters
from scripts.demo.processes import DemoError, Processes, free_udp_ports
from scripts.demo.report import live_line

START_LIMIT_S = 120.0   # for the nodes to load their models and to connect
QUIET_LIMIT_S = 3.0     # after the camera's last image
CAMERA_LIMIT_S = 30.0   # from an active edge node to the first image: the camera is started when the link is up


def run(options: argparse.Namespace, config: CommonSettings, monitor: Monitor, processes: Processes, key_file: Path) -> None:
    """Run the nodes until every frame is answered or the stream is quiet. Raises DemoError."""
    start_nodes(options, config, monitor, processes, key_file)
    wait_for_the_link(monitor, processes)
    processes.start('camera', 'evitif_edge_node.camera_node', NAMESPACE, source=options.images, rate=float(options.rate),
                    recorded_stamps=False, count=options.frames, loop=True, shuffle=True, seed=options.seed,
                    wait_for_subscribers=len(monitor.edges), exit_when_done=True)
    collect(options, monitor, processes)


def start_nodes(options: argparse.Namespace, config: CommonSettings, monitor: Monitor, processes: Processes, key_file: Path) -> None:
    """Start the bridge, the link that loses packets, and an edge node for each robot or device."""
    bridge_port, link_port = free_udp_ports(2)
    model = {'key_file': key_file, **model_parameters(config)}
    processes.start('bridge', 'evitif_cloud_bridge.bridge_node', NAMESPACE, bind_host='127.0.0.1', port=bridge_port,
                    recovery_artifact=options.artifact, **model)
    impairments = {f'{way}.{name}': value for way in ('uplink', 'downlink')
                   for name, value in (('loss', options.loss), ('burst_length', options.burst))}
    processes.start('link', 'evitif_cloud_bridge.link_simulator_node', NAMESPACE, listen_host='127.0.0.1', listen_port=link_port,
                    forward_host='127.0.0.1', forward_port=bridge_port, seed=options.seed, **impairments)
    for number, edge in enumerate(monitor.edges):
        processes.start(edge_process(edge), 'evitif_edge_node.edge_node', f'{NAMESPACE}/{edge}' if edge else NAMESPACE,
                        (f'image:={NAMESPACE}/image',), bridge_host='127.0.0.1', bridge_port=link_port, image_timeout=CAMERA_LIMIT_S,
                        partition_device=f"'{number}'" if edge else None, **model)


def wait_for_the_link(monitor: Monitor, processes: Processes) -> None:
    """Wait until every edge node is connected. Raises DemoError after START_LIMIT_S."""
    began = time.monotonic()
    with Progress(desc='starting', bar_format='{desc}: {elapsed}', leave=False) as bar:
        while not monitor.connected:
            monitor.spin(0.1)
            processes.check()
            bar.update(0)
            if time.monotonic() - began > START_LIMIT_S:
                raise DemoError(f'the robot was not connected within {START_LIMIT_S:.0f} s; the logs are in {processes.logs}')
    print(f'demo: connected after {time.monotonic() - began:.0f} s; watch it with rviz2 -d rviz/evitif.rviz, topic '
          f'{monitor.node.resolve_topic_name(monitor.picture_topic)}', flush=True)


def collect(options: argparse.Namespace, monitor: Monitor, processes: Processes) -> None:
    """Listen until every frame is answered, or the camera has ended and nothing more comes."""
    ended = None
    with Progress(total=options.frames, desc='frames answered', unit='frame', mininterval=0.5) as bar:
        while ended is None or time.monotonic() < ended + QUIET_LIMIT_S:
            monitor.spin_for(0.1)
            processes.check()
            processes.sample_memory()
            if options.strategy == Strategy.PARTITION and not monitor.killed and len(monitor.predictions) >= options.frames // 2:
                kill_a_device(monitor, processes)
            if len(monitor.predictions) > bar.n:
                bar.set_postfix_str(live_line(monitor), refresh=False)
                bar.update(len(monitor.predictions) - bar.n)
            if ended is None and processes.ended('camera'):
                ended = time.monotonic()
            if ended is not None and len(monitor.predictions) >= options.frames:
                break
    monitor.spin_for(0.2)  # the last label and the last counts


def kill_a_device(monitor: Monitor, processes: Processes) -> None:
    """End the last device's edge node half-way, as a flat battery would."""
    monitor.killed, monitor.killed_at = monitor.edges[-1], max(monitor.predictions)
    processes.kill(edge_process(monitor.killed))
    print(f'\ndemo: killed the device {monitor.killed}; the others go on', flush=True)


def edge_process(edge: str) -> str:
    """The name of an edge node's process and log."""
    return f'edge-{edge}' if edge else 'edge'
