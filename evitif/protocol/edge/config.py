"""What can be set on the robot's side of a link."""

from dataclasses import dataclass

from evitif.protocol.frames.packetiser import MAX_DATAGRAM_BYTES, MAX_PATCH_COPIES, MIN_PACKETS, PREFIX_COPIES
from evitif.protocol.wire import datagram
from evitif.protocol.wire.answer import MAX_TOP_K
from evitif.protocol.wire.parameters import check_count, check_seconds


@dataclass(frozen=True)
class EdgeConfig:
    """Times in seconds, sizes in bytes of UDP payload. Raises ValueError naming the value and what was expected."""

    max_datagram_bytes: int = MAX_DATAGRAM_BYTES
    min_packets: int = MIN_PACKETS
    prefix_copies: int = PREFIX_COPIES
    patch_copies: int = 0
    rate_limit_bit_s: float = 0.0          # with IP and UDP headers, over any second; 0: none (see `pacing`)
    congestion_control: bool = True        # False only where nobody shares the path (RFC 8085, section 3.6)
    hello_copies: int = 3
    hello_interval_s: float = 0.1
    hello_interval_max_s: float = 0.3
    hello_patience_s: float = 3.0          # silence after which the interval begins to grow
    refused_interval_s: float = 1.0
    ping_interval_s: float = 0.2
    link_timeout_s: float = 1.0
    answer_deadline_s: float = 0.5
    frames_remembered: int = 256
    bye_copies: int = 5
    top_k: int = 0                         # classes that an answer should have at least; 0: as the bridge has it

    def __post_init__(self):
        check_count('max_datagram_bytes', self.max_datagram_bytes, 256, datagram.MAX_UDP_PAYLOAD)
        check_count('min_packets', self.min_packets, 1, 65535)
        check_count('prefix_copies', self.prefix_copies, 0, 65535)
        check_count('patch_copies', self.patch_copies, 0, MAX_PATCH_COPIES)
        check_count('hello_copies', self.hello_copies, 1, 16)
        check_count('bye_copies', self.bye_copies, 1, 16)
        check_count('top_k', self.top_k, 0, MAX_TOP_K)
        check_count('frames_remembered', self.frames_remembered, 1, 65536)
        for name in ('hello_interval_s', 'hello_interval_max_s', 'hello_patience_s', 'refused_interval_s',
                     'ping_interval_s', 'link_timeout_s', 'answer_deadline_s'):
            check_seconds(name, getattr(self, name))
        if self.hello_interval_max_s < self.hello_interval_s:
            raise ValueError(f'hello_interval_max_s is {self.hello_interval_max_s}; expected at least '
                             f'hello_interval_s, {self.hello_interval_s}')
        if self.link_timeout_s <= self.ping_interval_s:
            raise ValueError(f'link_timeout_s is {self.link_timeout_s}; expected more than ping_interval_s, '
                             f'{self.ping_interval_s}')
