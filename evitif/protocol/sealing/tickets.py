"""The fleet's key, and what it makes: tickets, which a bridge checks without asking anybody, and the seal of what bridges and directories
say to one another.

A ticket is u16 the bridge's number, u64 when it expires (milliseconds on that bridge's own clock, so no two clocks have to agree), and 16
bytes of HMAC-SHA256 over both and the robot's name. It is no secret: only who has the robot's key can use it, since that signs the HELLO
it travels in. The robot may use it again until it expires, to return to its bridge while no directory answers.
"""

from __future__ import annotations

import hmac
import struct
from hashlib import sha256

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from evitif.protocol.sealing.keys import KEY_BYTES

LIFETIME_S = 60.0            # of a ticket
NUMBERS = 1 << 16            # of bridges in a fleet
_TICKET = struct.Struct('>HQ')
_TAG_BYTES = 16


class FleetKey:
    """What the bridges and directories of one fleet have in common. Raises ValueError for anything but 32 bytes.

    `report` (32 bytes) signs what they say to one another.
    """

    __slots__ = ('_ticket', 'admin', 'report')

    def __init__(self, secret: bytes):
        if not isinstance(secret, bytes) or len(secret) != KEY_BYTES:
            raise ValueError(f'a fleet key of {len(secret) if isinstance(secret, bytes) else 0} bytes was given; expected {KEY_BYTES}')
        self._ticket, self.report, self.admin = (
            HKDFExpand(hashes.SHA256(), 32, b'evitif 2 fleet ' + use).derive(secret) for use in (b'ticket', b'report', b'admin'))

    def ticket(self, bridge: int, robot: str, expires_at: float) -> bytes:
        """A ticket for `robot` to the bridge of this number; `expires_at`: seconds on that bridge's clock."""
        said = _TICKET.pack(bridge, max(0, round(1000 * expires_at)))
        return said + self._tag(said, robot)

    def objection(self, ticket: bytes, bridge: int, robot: str, clock: float) -> str:
        """Why the bridge of this number does not take the ticket when its clock shows `clock` (seconds); '' if it does."""
        if not ticket:
            return 'ticket: the edge has none; expected its bridge_host to be a directory of this fleet'
        if len(ticket) != _TICKET.size + _TAG_BYTES or not hmac.compare_digest(self._tag(ticket[:_TICKET.size], robot),
                                                                              ticket[_TICKET.size:]):
            return f'ticket: it was made for another robot than {robot}, or by another fleet'
        number, expires = _TICKET.unpack_from(ticket)
        if number != bridge:
            return f'ticket: it is for bridge {number} of the fleet, this is bridge {bridge}'
        late = clock - expires / 1000
        return '' if late <= 0 else f'ticket: it expired {late:.0f} s ago; expected a new one from a directory'

    def _tag(self, said: bytes, robot: str) -> bytes:
        return hmac.digest(self._ticket, said + robot.encode(), sha256)[:_TAG_BYTES]

    def __repr__(self) -> str:
        return 'FleetKey(not shown)'

    def __reduce__(self):
        raise TypeError('a key is not copied or pickled')
