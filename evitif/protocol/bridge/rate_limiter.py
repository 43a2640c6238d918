"""How many RESETs the bridge sends, so that nobody can make it talk much by inventing sessions.

A token bucket for each address and one for all. A bucket's burst is what lets a RESET through a lossy link: at 60 %
loss the packets of one frame trigger a burst of 8, of which one arrives in 98 % of the cases, and the next frame
triggers more. What is said of keys that do not fit is rationed by the same means.
"""

from collections import OrderedDict

PER_ADDRESS = (20.0, 8.0)          # RESETs a second, burst
OVERALL = (1000.0, 256.0)
_ADDRESSES = 256                   # remembered; the one that asked longest ago is forgotten


class _Bucket:
    def __init__(self, rate: float, burst: float, now: float):
        self.rate, self.burst, self.level, self.at = rate, burst, burst, now

    def fill(self, now: float) -> float:
        self.level = min(self.burst, self.level + max(now - self.at, 0.0) * self.rate)
        self.at = now
        return self.level


class RateLimiter:
    """:param per_address, overall: (a second, burst)"""

    def __init__(self, per_address: tuple[float, float] = PER_ADDRESS, overall: tuple[float, float] = OVERALL):
        self._rates = per_address, overall
        self._overall: _Bucket | None = None
        self._addresses: OrderedDict[object, _Bucket] = OrderedDict()

    def allows(self, address: object, now: float) -> bool:
        """Whether another may go to `address` now; if so it is counted."""
        if self._overall is None:
            self._overall = _Bucket(*self._rates[1], now)
        bucket = self._addresses.get(address)
        if bucket is None:
            bucket = self._addresses[address] = _Bucket(*self._rates[0], now)
            if len(self._addresses) > _ADDRESSES:
                self._addresses.popitem(last=False)
        self._addresses.move_to_end(address)
        if min(bucket.fill(now), self._overall.fill(now)) < 1.0:
            return False
        bucket.level -= 1.0
        self._overall.level -= 1.0
        return True
