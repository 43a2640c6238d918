"""What can be set on the bridge's end of its links."""

from dataclasses import dataclass

from evitif.protocol.frames.reassembly import FRAMES_IN_FLIGHT
from evitif.protocol.wire import datagram
from evitif.protocol.wire.parameters import check_count, check_seconds
from evitif.settings import BridgeSettings


@dataclass(frozen=True)
class BridgeConfig:
    """Times in seconds, sizes in bytes of UDP payload. Defaults are those of BridgeSettings; the ranges are what the wire can carry.

    Raises ValueError naming the value and what was expected.
    """

    max_sessions: int = BridgeSettings.max_robots
    session_timeout_s: float = BridgeSettings.session_timeout
    reassembly_deadline_s: float = BridgeSettings.reassembly_deadline
    frames_in_flight: int = FRAMES_IN_FLIGHT      # for each robot, a power of two
    answer_copies: int = BridgeSettings.answer_copies     # 0: 3 to 20, by the loss on the downlink
    silent_to_strangers: bool = BridgeSettings.silent_to_strangers      # needs keys
    max_datagram_bytes: int = BridgeSettings.max_datagram_bytes

    def __post_init__(self):
        check_count('max_sessions', self.max_sessions, 1, 65536)
        check_seconds('session_timeout_s', self.session_timeout_s)
        check_seconds('reassembly_deadline_s', self.reassembly_deadline_s)
        check_count('frames_in_flight', self.frames_in_flight, 1, 256)
        if self.frames_in_flight & (self.frames_in_flight - 1):
            raise ValueError(f'frames_in_flight is {self.frames_in_flight}; expected a power of two')
        check_count('answer_copies', self.answer_copies, 0, 255)
        check_count('max_datagram_bytes', self.max_datagram_bytes, 256, datagram.MAX_UDP_PAYLOAD)
