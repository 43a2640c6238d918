"""The nodes for `adviser`: camera, edge, link simulator and bridge as processes play a recording, and what the robot published of it."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as File

import numpy as np
import rclpy

from benchmarks.part import PartError
from evitif.protocol.sealing.keys import write_key_file
from evitif.transport.impairment import HEADER_BYTES, Impairment
from evitif_cloud_bridge.parameters import DIRECTION
from evitif_lab.advice.timeline import Path
from evitif_msgs.msg import LinkStats, Prediction
from evitif_ros import qos
from scripts.demo.processes import DemoError, Processes, free_udp_ports

SPACE, LOCALHOST = '/adviser', '127.0.0.1'
START_S, QUIET_S = 120.0, 2.0       # for the nodes to connect; after the camera's last image
STATISTICS_HZ = 20.0


@dataclass
class Heard:
    """What the robot published, by the image's stamp, and what its edge had sent when."""

    class_ids: dict[int, int] = field(default_factory=dict)
    after_s: dict[int, float] = field(default_factory=dict)
    sent: list[tuple[float, int]] = field(default_factory=list)        # when, and bytes of IP packets so far
    connected: bool = False

    def take(self, message: Prediction) -> None:
        """The first prediction of an image counts."""
        stamp = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        if stamp not in self.after_s:
            self.class_ids[stamp], self.after_s[stamp] = message.class_ids[0], message.time_total

    def take_statistics(self, message: LinkStats) -> None:
        """Note what was sent."""
        self.connected = message.connected
        at = message.header.stamp.sec + message.header.stamp.nanosec / 1e9
        self.sent.append((at, message.bytes_sent + HEADER_BYTES * message.datagrams_sent))

    def bytes_between(self, first: float, last: float) -> float:
        """What was sent between two times."""
        when, sent = np.array(self.sent, float).T
        return float(np.diff(np.interp((first, last), when, sent))[0])


def play(bag: File, settings: Mapping[str, object], path: Path, seed: int, logs: File) -> tuple[Heard, float]:
    """Play a bag through the nodes over a link. Returns what was heard, and when the first image came. Raises PartError."""
    heard, began = Heard(), math.nan
    rclpy.init(args=[])
    node = rclpy.create_node('adviser', namespace=SPACE)
    node.create_subscription(Prediction, 'prediction', heard.take, qos.RESULTS)
    node.create_subscription(LinkStats, 'link_stats', heard.take_statistics, qos.RESULTS)
    logs.mkdir(parents=True, exist_ok=True)
    processes = Processes(logs)
    try:
        with tempfile.TemporaryDirectory() as folder:
            key = File(folder) / 'adviser.key'
            write_key_file(key)
            _start(processes, settings, path, seed, key)
            until = time.monotonic() + START_S
            while not heard.connected:
                rclpy.spin_once(node, timeout_sec=0.1)
                processes.check()
                if time.monotonic() > until:
                    raise PartError(f'the robot was not connected within {START_S:.0f} s; the logs are in {logs}')
            processes.start('camera', 'evitif_edge_node.camera_node', SPACE, source=bag, loop=False, wait_for_subscribers=1,
                            exit_when_done=True)
            ended = math.inf
            while time.monotonic() < ended + QUIET_S:
                rclpy.spin_once(node, timeout_sec=0.1)
                processes.check()
                if math.isnan(began) and heard.after_s:
                    began = time.time() - next(iter(heard.after_s.values()))
                if math.isinf(ended) and processes.ended('camera'):
                    ended = time.monotonic()
    except DemoError as error:
        raise PartError(str(error)) from None
    finally:
        processes.stop()
        node.destroy_node()
        rclpy.try_shutdown()
    if math.isnan(began):
        raise PartError(f'no prediction came; the logs are in {logs}')
    return heard, began


def _start(processes: Processes, settings: Mapping[str, object], path: Path, seed: int, key: File) -> None:
    bridge_port, link_port = free_udp_ports(2)
    processes.start('bridge', 'evitif_cloud_bridge.bridge_node', SPACE, bind_host=LOCALHOST, port=bridge_port, key_file=key,
                    **_own('bridge', settings))
    impairments = {f'{way}.{parameter.name}': getattr(impairment, name) for way, impairment in
                   (('uplink', path.uplink), ('downlink', path.downlink)) for name, parameter in DIRECTION.items()
                   if getattr(impairment, name) != getattr(Impairment(), name)}
    processes.start('link', 'evitif_cloud_bridge.link_simulator_node', SPACE, listen_host=LOCALHOST, listen_port=link_port,
                    forward_host=LOCALHOST, forward_port=bridge_port, seed=seed, **impairments)
    processes.start('edge', 'evitif_edge_node.edge_node', SPACE, bridge_host=LOCALHOST, bridge_port=link_port, key_file=key,
                    publish_stats_rate=STATISTICS_HZ, image_timeout=60.0, **_own('edge', settings))


def _own(side: str, settings: Mapping[str, object]) -> dict[str, object]:
    """The settings that a node has."""
    others = {'bridge': ('accuracy_margin', 'answer_deadline'), 'edge': ()}[side]
    return {name: value for name, value in settings.items() if name not in others}
