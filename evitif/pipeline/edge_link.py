"""The link of an edge, as its settings describe it."""

from __future__ import annotations

from evitif.protocol.edge.config import EdgeConfig
from evitif.protocol.edge.connection import EdgeConnection
from evitif.protocol.edge.links import EdgeLinks
from evitif.protocol.sealing.keys import read_key_file
from evitif.protocol.wire.answer import MAX_TOP_K
from evitif.protocol.wire.link_names import link_name
from evitif.protocol.wire.parameters import StreamParameters
from evitif.settings import EdgeSettings
from evitif.settings.hosts import hosts_of


def edge_links(config: EdgeSettings, parameters: StreamParameters) -> tuple[EdgeLinks, list[tuple[str, int]]]:
    """The robot's end of its links, and the hosts that it asks. Raises KeyFileError; ValueError where no HELLO fits."""
    key = read_key_file(config.key_file) if config.key_file else None
    link = EdgeConfig(
        answer_deadline_s=config.answer_deadline, link_timeout_s=config.link_timeout, max_datagram_bytes=config.max_datagram_bytes,
        min_packets=config.min_packets, prefix_copies=config.prefix_copies, patch_copies=config.patch_copies,
        rate_limit_bit_s=1e6 * config.rate_limit, congestion_control=config.congestion_control, ecn=config.ecn,
        top_k=min(config.top_k or 0, MAX_TOP_K), bridge_name=config.bridge_name)
    name, hosts = link_name(config.robot_name, parameters.device), hosts_of(config.bridge_host, config.bridge_port)

    def connection(ticket: bytes) -> EdgeConnection:
        return EdgeConnection(parameters, name, link, key=key, ticket=ticket)
    return EdgeLinks(connection, len(hosts), config.redundant_bridges), hosts
