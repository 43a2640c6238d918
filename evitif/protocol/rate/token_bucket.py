"""A token bucket: so much a second on average, and so much at once."""

import math


class TokenBucket:
    """Fills at `rate` a second up to `depth`; full at first. Whoever spends more than it holds leaves a debt."""

    def __init__(self, rate: float, depth: float):
        self.rate, self.depth, self.level = rate, depth, depth
        self.filled_at = -math.inf

    def fill(self, now: float) -> float:
        """Its level at `now`, seconds."""
        if now > self.filled_at:
            if self.filled_at > -math.inf:
                self.level = min(self.depth, self.level + (now - self.filled_at) * self.rate)
            self.filled_at = now
        return self.level

    def reshape(self, rate: float, depth: float, now: float) -> None:
        """Fill at another rate, to another depth, from now on."""
        self.level = min(self.fill(now), depth)
        self.rate, self.depth = rate, depth

    def take(self, now: float) -> bool:
        """Spend one, if it holds one."""
        if self.fill(now) < 1.0:
            return False
        self.level -= 1.0
        return True
