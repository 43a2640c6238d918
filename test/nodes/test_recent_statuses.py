"""Statuses look back over some seconds: they do not change with each message while a fault comes and goes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed')

from evitif.pictures import SignificantBits
from evitif_edge_node.image_watch import ImageWatch
from evitif_ros.diagnostics import ERROR, OK, RECENT_S, Recent


def test_recent_counts_are_of_the_last_seconds():
    now = [0.0]
    recent = Recent(lambda: now[0])
    assert recent({'images': 3}) == {'images': 0}
    grown = []
    for second in range(1, 21):
        now[0] = float(second)
        grown.append(recent({'images': 3 + 10 * second})['images'])
    assert grown[:5] == [10, 20, 30, 40, 50] and set(grown[5:]) == {10 * int(RECENT_S)}
    assert recent.seconds == RECENT_S
    assert recent({'images': 0}) == {'images': 0}, 'a counter that began anew'


def test_half_of_the_images_refused_is_an_error_all_the_time():
    subscription = SimpleNamespace(topic_name='/image')
    watch = ImageWatch(SimpleNamespace(), subscription, 'raw')
    image = SimpleNamespace(encoding='rgb8', width=4, height=3, step=12)
    now = [0.0]
    watch._recent = Recent(lambda: now[0])
    watch.status(2.0, SignificantBits())
    levels = []
    for second in range(1, 31):
        now[0] = float(second)
        for number in range(10):        # every other one, and each second ends with another
            watch.image(image)
            if (number + second) % 2:
                watch.refused("'32FC1' is not supported")
        status = watch.status(2.0, SignificantBits())
        levels.append(status.level)
    assert set(levels) == {ERROR} and status.message.startswith("25 of 50 images in the last 5 s: '32FC1' is not supported")
    for second in range(31, 38):
        now[0] = float(second)
        watch.image(image)
        status = watch.status(2.0, SignificantBits())
    assert status.level == OK
