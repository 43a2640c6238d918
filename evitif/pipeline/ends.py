"""The two ends of a link without their sockets, as the settings describe them: for the runtimes, and for simulated time."""

from __future__ import annotations

from random import Random

from evitif.pipeline.strategy import BridgeStrategy
from evitif.protocol.bridge.endpoint import BridgeConfig, BridgeEndpoint
from evitif.protocol.bridge.joining import JoiningEndpoint
from evitif.protocol.edge.connection import EdgeConfig, EdgeConnection
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.wire.answer import MAX_TOP_K
from evitif.protocol.wire.link_names import link_name
from evitif.protocol.wire.parameters import StreamParameters
from evitif.settings import BridgeSettings, EdgeSettings, PartitionBridgeSettings


def edge_end(config: EdgeSettings, parameters: StreamParameters, key: Key | None, random: Random | None = None) -> EdgeConnection:
    """The robot's end. Raises ValueError where a row or the HELLO does not fit into a datagram, or the robot's name is unusable."""
    return EdgeConnection(parameters, link_name(config.robot_name, parameters.device), EdgeConfig(
        answer_deadline_s=config.answer_deadline, link_timeout_s=config.link_timeout, max_datagram_bytes=config.max_datagram_bytes,
        min_packets=config.min_packets, prefix_copies=config.prefix_copies, patch_copies=config.patch_copies,
        rate_limit_bit_s=1e6 * config.rate_limit, congestion_control=config.congestion_control, ecn=config.ecn,
        top_k=min(config.top_k or 0, MAX_TOP_K), bridge_name=config.bridge_name), key=key, random=random)


def bridge_end(config: BridgeSettings, strategy: BridgeStrategy, keys: RobotKeys | None, random: Random | None = None) -> BridgeEndpoint:
    """The bridge's end. Raises ValueError where its name is unusable."""
    protocol = BridgeConfig(max_sessions=config.max_robots, session_timeout_s=config.session_timeout,
                            reassembly_deadline_s=config.reassembly_deadline, answer_copies=config.answer_copies,
                            max_datagram_bytes=config.max_datagram_bytes, silent_to_strangers=config.silent_to_strangers)
    if isinstance(config, PartitionBridgeSettings):
        return JoiningEndpoint(strategy.streams, config.bridge_name, protocol, keys=keys, random=random,
                               join_deadline_s=config.join_deadline)
    return BridgeEndpoint(strategy.streams, config.bridge_name, protocol, keys=keys, random=random)
