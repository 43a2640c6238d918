"""The links that the adaptive sender is compared on: as they stay, as they drift, and what hits a sender at once.

Of the last kind are a fall of the rate into a deep queue, a path that gets longer and shorter, a policer, which drops what is above its
rate and queues nothing, and a TCP flow that fills the queue beside.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.link.tcp_flow import Passage
from evitif.transport.impairment import HEADER_BYTES, ImpairedChannel, Impairment

DRIFT = 'drift'
DELAY_S = 0.01               # one way
QUEUE_S = 0.3                # of the bottleneck
POLICED_S = 0.05             # of its rate, that a policer lets pass at once
WARM_UP_S = 3.0              # of each point, that is not judged
# Loss, mean burst, Mbit/s.
POINTS = ((0.0, 1, 5.0), (0.0, 1, 1.0), (0.0, 1, 0.3), (0.3, 1, 5.0), (0.6, 1, 2.0), (0.6, 6, 5.0),
          (0.8, 1, 5.0), (0.8, 6, 1.0), (0.4, 6, 0.5))
Course = Callable[[float], Impairment]     # time in s to what the link does to packets


@dataclass(frozen=True)
class Link:
    """A link, and how it is measured."""

    name: str
    course: Course
    seconds: float
    skip_s: float                # of them, that are not judged
    seeds: int
    beside: str = ''             # 'cubic' or 'reno': the TCP flow on the same uplink
    policed: bool = False        # the uplink drops what is above its rate


class Policer:
    """A token bucket of bytes in front of a channel: what does not fit is dropped at once (RFC 2697)."""

    def __init__(self, channel: ImpairedChannel):
        self.channel = channel
        self._level, self._filled_at = math.inf, 0.0

    def set_impairment(self, impairment: Impairment) -> None:
        """Change the link; the rate is the policer's, and the channel has none."""
        self._rate, self._most = impairment.rate_bit_s / 8, POLICED_S * impairment.rate_bit_s / 8
        self.channel.set_impairment(without_rate(impairment))

    def offer(self, datagram: bytes, now: float) -> list[tuple[float, bytes]]:
        """As `ImpairedChannel.offer`."""
        self._level = min(self._level + (now - self._filled_at) * self._rate, self._most)
        self._filled_at = now
        size = len(datagram) + HEADER_BYTES
        if size > self._level:
            return []
        self._level -= size
        return self.channel.offer(datagram, now)


def uplink_of(link: Link, seed: int) -> ImpairedChannel | Policer:
    """The channel towards the bridge."""
    if not link.policed:
        return ImpairedChannel(link.course(0.0), seed)
    policer = Policer(ImpairedChannel(seed=seed))
    policer.set_impairment(link.course(0.0))
    return policer


def segment_through(uplink: ImpairedChannel | Policer, size: int, now: float, delay_s: float) -> Passage | None:
    """A TCP segment of `size` bytes, IP header included, enters the uplink, whose delay counts as the flow's."""
    delivered = uplink.offer(bytes(size - HEADER_BYTES), now)
    return Passage(delivered[0][0] - delay_s) if delivered else None


def without_rate(link: Impairment) -> Impairment:
    """The same link without a limit of its rate."""
    return Impairment(loss=link.loss, burst_length=link.burst_length, delay_s=link.delay_s)


def steady(loss: float, burst: float, rate: float, queue_s: float = QUEUE_S, delay_s: float = DELAY_S) -> Course:
    """A link that stays as it is; the rate in Mbit/s."""
    link = Impairment(loss=loss, burst_length=burst, delay_s=delay_s, rate_bit_s=1e6 * rate, queue_s=queue_s)
    return lambda now: link


def falling(before: float, after: float, queue_s: float, at: float) -> Course:
    """The rate falls at time `at`, Mbit/s, and the queue takes `queue_s` of the new one."""
    first, second = steady(0.0, 1, before), steady(0.0, 1, after, queue_s)
    return lambda now: (first if now < at else second)(now)


def stepping(added_s: float, every_s: float, loss: float, rate: float) -> Course:
    """Both ways get longer by `added_s` and shorter again, in turn."""
    short, long = steady(loss, 1, rate), steady(loss, 1, rate, delay_s=DELAY_S + added_s)
    return lambda now: (long if int(max(now, 0.0) / every_s) % 2 else short)(now)


def drifting(seconds: float) -> Course:
    """Loss 0 → 80 → 0 %, in bursts in every other sixth, and the rate from 5 to 0.3 Mbit/s and back, three times."""
    def link(now: float) -> Impairment:
        share = min(max(now / seconds, 0.0), 1.0)
        rate = 0.3 * (5.0 / 0.3) ** (0.5 + 0.5 * math.cos(6 * math.pi * share))
        return Impairment(loss=0.8 * math.sin(math.pi * share), burst_length=6.0 if int(6 * share) % 2 else 1.0, delay_s=DELAY_S,
                          rate_bit_s=1e6 * rate, queue_s=QUEUE_S)
    return link


def links(quick: bool) -> list[Link]:
    """All links; the drift is the last."""
    points, seconds, drift = (POINTS[2::3], 13.0, 30.0) if quick else (POINTS, 23.0, 120.0)
    seeds, drifts = (1, 1) if quick else (5, 2)
    steadily = [Link(f'{100 * loss:.0f} % loss' + (f', bursts of {burst}' if burst > 1 else '') + f', {rate:g} Mbit/s',
                     steady(loss, burst, rate), seconds, WARM_UP_S, seeds) for loss, burst, rate in points]
    fall_at = WARM_UP_S + 2.0
    sudden = [
        *(Link(f'fall from {before:g} to {after:g} Mbit/s, {queue_s:g} s of queue', falling(before, after, queue_s, fall_at), seconds,
               WARM_UP_S, seeds) for before, after, queue_s in ((5.0, 0.5, 2.0), (30.0, 0.3, 5.0))),
        Link('10 % loss, 5 Mbit/s, 10 or 70 ms one way, in turn', stepping(0.06, 4.0, 0.1, 5.0), seconds, WARM_UP_S, seeds),
        Link('policer, 1 Mbit/s', steady(0.0, 1, 1.0), seconds, WARM_UP_S, seeds, policed=True),
        *(Link(f'2 Mbit/s, 100 ms of queue, beside a {kind} flow', steady(0.0, 1, 2.0, 0.1), seconds, WARM_UP_S, seeds,
               beside=kind.lower()) for kind in ('CUBIC', 'Reno'))]
    return [*steadily, *sudden, Link(DRIFT, drifting(drift), drift, 0.0, drifts)]
