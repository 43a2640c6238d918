"""Whether a camera's stamps tell its images apart; the devices of a partition rely on it (`evitif.protocol.bridge.stamps`)."""

import math

from evitif.protocol.bridge.stamps import seconds

DISTRUST_S = 2.0        # after a repetition: stamps in whole seconds repeat for all images but the first of each second

_EXPECTED = ('; expected one of its own for each image, since the devices of a partition tell images apart by it: this one answers alone '
             'until the camera driver sets them')


class StampCheck:
    """Checks the stamps of all images in the order in which they came."""

    def __init__(self):
        self._last: int | None = None
        self._repeated_at = -math.inf

    def objection(self, stamp_ns: int, now: float) -> str:
        """Say why this stamp does not tell the image from others; an empty string if it does."""
        if stamp_ns == self._last:
            self._repeated_at = now
        self._last = stamp_ns
        if stamp_ns == 0:
            return 'the images have no stamp (header.stamp is 0)' + _EXPECTED
        if now - self._repeated_at < DISTRUST_S:
            return f'several images have one stamp, the last of them {seconds(stamp_ns)} s' + _EXPECTED
        return ''
