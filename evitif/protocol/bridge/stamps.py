"""Whether capture stamps can identify images, by which the frames of several devices are joined.

The devices of a robot look at the same images, so each stamp is new for its device, and soon another device's too. Two kinds of
stamp are refused, naming device and stamp:

* one that this device gave to another image before, as a driver does that sets none, or whole seconds. One image would get
  the other's answer.
* one of a device whose last images no other device has seen: its clock differs, by more than a second, or its stamps come for three
  seconds 0.15 s sooner or later after what they say than another's. Ahead, it would make all others late for good; behind, it is late
  itself. The clock that others agree with counts; if none agree, the first one's.

Until that is known, a stamp that is far from all others' is joined with none, and makes none late (`stands_apart`).
"""

import math
from collections.abc import Mapping, Sequence

from evitif.bounded import BoundedDict

REMEMBERED = 32         # stamps of a device
UNSHARED = 8            # images in a row that no other device has seen: then a device's clock is not believed
APART_S = 1.0           # from the others' newest stamp
DELIVERING_S = 1.0      # since the last frame of a device that is compared with
OFF_S, OFF_FOR_S = 0.15, 3.0    # by which a clock that is less far off differs, and for how long no image may have been shared


class DeviceStamps:
    """The last stamps of one device; `order`: how many devices came before it."""

    def __init__(self, order: int):
        self.order = order
        self.unshared = 0                                       # images in a row that no other device has seen so far
        self._frames: BoundedDict[int, int] = BoundedDict(REMEMBERED)       # frame id by stamp
        self._heard_at = self.shared_at = -math.inf             # a stamp of another device's, or the first one
        self.offset_s = 0.0                                     # of the newest stamp from its arrival

    def __contains__(self, stamp_ns: int) -> bool:
        return stamp_ns in self._frames

    @property
    def newest(self) -> int:
        """The stamp that came last."""
        return next(reversed(self._frames))

    def note(self, stamp_ns: int, frame_id: int, now: float) -> None:
        """Remember a frame's stamp."""
        self._frames[stamp_ns] = self._frames.get(stamp_ns, frame_id)
        self._heard_at, self.offset_s = now, stamp_ns / 1e9 - now
        if math.isinf(self.shared_at):
            self.shared_at = now

    def is_of_another(self, stamp_ns: int, frame_id: int) -> bool:
        """Whether the stamp belonged to another frame before."""
        return self._frames.get(stamp_ns, frame_id) != frame_id

    def delivers(self, now: float) -> bool:
        """Whether a frame came recently."""
        return now - self._heard_at <= DELIVERING_S

    @property
    def is_doubtful(self) -> bool:
        """Whether no other device has seen its last images."""
        return self.unshared >= UNSHARED


def objection(devices: Mapping[str, DeviceStamps], device: str, stamp_ns: int, frame_id: int, now: float) -> str:
    """Note a frame's stamp; returns a sentence on why the frame cannot be joined by it, or nothing."""
    own = devices[device]
    repeated = own.is_of_another(stamp_ns, frame_id)
    own.note(stamp_ns, frame_id, now)
    if repeated:
        return (f'device {device}: stamp {seconds(stamp_ns)} s is that of more than one image; expected another one for each image, since '
                'images are told apart by it')
    others = [(name, other) for name, other in devices.items() if other is not own and other.delivers(now)]
    _count_shared(own, [other for _, other in others], stamp_ns, now)
    if own.is_doubtful:
        for name, other in others:
            apart = (stamp_ns - other.newest) / 1e9
            off = now >= own.shared_at + OFF_FOR_S and abs(own.offset_s - other.offset_s) > OFF_S
            if (off or abs(apart) > APART_S) and (not other.is_doubtful or other.order < own.order):
                where = 'ahead of' if apart > 0 else 'behind'
                return (f"device {device}: stamp {seconds(stamp_ns)} s is {abs(apart):.1f} s {where} device {name}'s, "
                        f'{seconds(other.newest)} s; expected the same images with the same stamps on all devices')
    return ''


def stands_apart(devices: Mapping[str, DeviceStamps], device: str, stamp_ns: int, now: float) -> bool:
    """Whether a stamp is far from those of all other devices, so that nobody knows yet whose clock is right."""
    own = devices[device]
    others = [other for other in devices.values() if other is not own and other.delivers(now)
              and not (other.is_doubtful and other.order > own.order)]
    return bool(others) and all(stamp_ns not in other and abs(stamp_ns - other.newest) > APART_S * 1e9 for other in others)


def seconds(stamp_ns: int) -> str:
    """A stamp for people: seconds with nine decimals, as `ros2 topic echo` shows its two parts."""
    return f'{stamp_ns // 10**9}.{stamp_ns % 10**9:09d}'


def _count_shared(own: DeviceStamps, others: Sequence[DeviceStamps], stamp_ns: int, now: float) -> None:
    shared = [other for other in others if stamp_ns in other]
    if shared:
        for device in (own, *shared):
            device.unshared, device.shared_at = 0, now
    elif others:
        own.unshared += 1
