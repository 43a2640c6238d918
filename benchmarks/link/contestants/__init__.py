"""Who is compared, and what each does on the robot and on the bridge.

A contestant's module has `Robot` and `Bridge`. `Robot(context, options, on_answer, on_replaced)` gets images by `submit` and
calls `on_answer(number, class_id, compute_s)` from whichever thread an answer comes in; `Bridge(context, options)` serves.
Both are made once; `connect(condition)` is called before a turn, on the bridge first, while the link loses nothing.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Contestant:
    """One way from an image to its answer on the robot."""

    title: str
    module: str                             # in this package
    datagrams: bool = False                 # plain UDP to one port, which the link simulator can carry
    reconnects: bool = False                # for each turn; the others are connected once
    options: dict = field(default_factory=dict)

    def part(self, side: str) -> type:
        """Its class `Robot` or `Bridge`; raises ImportError where something that it needs is not installed."""
        return getattr(importlib.import_module(f'{__name__}.{self.module}'), side)


JPEG_QUALITY, WEBP_QUALITY = 90, 80

CONTESTANTS: dict[str, Contestant] = {
    'evitif': Contestant('evitif, as it is by default', 'evitif_split', True, options={'quantisation': 'auto'}),
    'evitif-int8': Contestant('evitif, int8', 'evitif_split', True, options={'quantisation': 'int8'}),
    'evitif-int4': Contestant('evitif, int4', 'evitif_split', True, options={'quantisation': 'int4'}),
    'tcp-cubic': Contestant('int8 tokens over TCP, CUBIC', 'tcp', reconnects=True, options={'payload': 'tokens', 'congestion': 'cubic'}),
    'tcp-bbr': Contestant('int8 tokens over TCP, BBR', 'tcp', reconnects=True, options={'payload': 'tokens', 'congestion': 'bbr'}),
    'tcp-jpeg': Contestant('JPEG over TCP, CUBIC', 'tcp', reconnects=True,
                           options={'payload': 'JPEG', 'quality': JPEG_QUALITY, 'congestion': 'cubic'}),
    'ros-raw-reliable': Contestant('ROS 2 topic, raw, RELIABLE', 'ros_topics', options={'compressed': False, 'reliable': True}),
    'ros-raw-best-effort': Contestant('ROS 2 topic, raw, BEST_EFFORT', 'ros_topics', options={'compressed': False, 'reliable': False}),
    'ros-jpeg-reliable': Contestant('ROS 2 topic, JPEG, RELIABLE', 'ros_topics',
                                    options={'compressed': True, 'reliable': True, 'quality': JPEG_QUALITY}),
    'ros-jpeg-best-effort': Contestant('ROS 2 topic, JPEG, BEST_EFFORT', 'ros_topics',
                                       options={'compressed': True, 'reliable': False, 'quality': JPEG_QUALITY}),
    'parity-jpeg': Contestant('JPEG over UDP, ideal parity', 'codec_parity', True, options={'codec': 'JPEG', 'quality': JPEG_QUALITY}),
    'parity-webp': Contestant('WebP over UDP, ideal parity', 'codec_parity', True, options={'codec': 'WEBP', 'quality': WEBP_QUALITY}),
    'local': Contestant('the robot alone', 'local', True),
}
