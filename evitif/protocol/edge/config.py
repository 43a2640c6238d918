"""What can be set on the robot's end of its link."""

from dataclasses import dataclass

from evitif.protocol.frames.packetiser import MAX_PATCH_COPIES
from evitif.protocol.wire import datagram
from evitif.protocol.wire.answer import MAX_TOP_K
from evitif.protocol.wire.parameters import check_count, check_name, check_seconds
from evitif.settings import EdgeSettings

PING_INTERVAL_S = 0.2


@dataclass(frozen=True)
class EdgeConfig:
    """Times in seconds, sizes in bytes of UDP payload. Defaults are those of EdgeSettings; the ranges are what the wire can carry.

    Raises ValueError naming the value and what was expected.
    """

    max_datagram_bytes: int = EdgeSettings.max_datagram_bytes
    min_packets: int = EdgeSettings.min_packets
    prefix_copies: int = EdgeSettings.prefix_copies
    patch_copies: int = EdgeSettings.patch_copies
    rate_limit_bit_s: float = 1e6 * EdgeSettings.rate_limit     # with IP and UDP headers, over any second; 0: none (see `pacing`)
    congestion_control: bool = EdgeSettings.congestion_control  # False only where nobody shares the path (RFC 8085, section 3.6)
    ecn: bool = EdgeSettings.ecn                                # mark ECT(1), where the path takes it (see `marking`)
    link_timeout_s: float = EdgeSettings.link_timeout
    answer_deadline_s: float = EdgeSettings.answer_deadline
    frames_remembered: int = 256
    top_k: int = 0                         # classes that an answer should have at least; 0: the bridge decides
    bridge_name: str = EdgeSettings.bridge_name      # of the only bridge that it may be; '': any

    def __post_init__(self):
        check_count('max_datagram_bytes', self.max_datagram_bytes, 256, datagram.MAX_UDP_PAYLOAD)
        check_count('min_packets', self.min_packets, 1, 65535)
        check_count('prefix_copies', self.prefix_copies, 0, 65535)
        check_count('patch_copies', self.patch_copies, 0, MAX_PATCH_COPIES)
        check_count('top_k', self.top_k, 0, MAX_TOP_K)
        if self.bridge_name:
            check_name('bridge_name', self.bridge_name)
        check_count('frames_remembered', self.frames_remembered, 1, 65536)
        check_seconds('link_timeout_s', self.link_timeout_s)
        check_seconds('answer_deadline_s', self.answer_deadline_s)
        if self.link_timeout_s <= PING_INTERVAL_S:
            raise ValueError(f'link_timeout_s is {self.link_timeout_s}; expected more than the PING interval, {PING_INTERVAL_S}')
