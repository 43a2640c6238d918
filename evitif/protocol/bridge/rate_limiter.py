"""How often the bridge does what anybody can cause, such as a RESET: a token bucket for each address, and one for all.

The burst of a RESET's bucket is what lets one through a lossy link: at 60 % loss the packets of one frame trigger 8, of which one
arrives in 98 % of the cases, and the next frame triggers more.
"""

from evitif.bounded import BoundedDict
from evitif.protocol.rate.token_bucket import TokenBucket
from evitif.protocol.wire.datagram import Address

RESETS_PER_ADDRESS = 20.0, 8.0      # a second, burst
RESETS_OVERALL = 1000.0, 256.0
_ADDRESSES = 256                    # remembered; the one that asked longest ago is forgotten


class RateLimiter:
    """:param per_address, overall: (a second, burst)"""

    def __init__(self, per_address: tuple[float, float] = RESETS_PER_ADDRESS, overall: tuple[float, float] = RESETS_OVERALL):
        self._per_address = per_address
        self._overall = TokenBucket(*overall)
        self._addresses: BoundedDict[Address, TokenBucket] = BoundedDict(_ADDRESSES)

    def allows(self, address: Address, now: float) -> bool:
        """Whether `address` may have another one now; if so it is counted."""
        self._addresses[address] = bucket = self._addresses.get(address) or TokenBucket(*self._per_address)
        return bucket.fill(now) >= 1.0 and self._overall.take(now) and bucket.take(now)
