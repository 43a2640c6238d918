"""Watches the image topic: says when no image arrives, who publishes it, and whether their QoS fits."""

from __future__ import annotations

import time

from rclpy.qos import QoSCompatibility, ReliabilityPolicy, qos_check_compatible

from evitif_ros.diagnostics import ERROR, OK, WARN, Recent, Status


class ImageWatch:
    """Told of every image and every image that could not be used; `status` puts it into a sentence."""

    def __init__(self, node, subscription, message_type: str, encoding_of):
        self._node, self._subscription, self._message_type = node, subscription, message_type
        self._encoding_of = encoding_of
        self._last = time.monotonic()
        self._count = self._refused = 0
        self._recent = Recent()
        self._description = self._refusal = ''
        self._missing = False

    def image(self, message) -> None:
        self._last = time.monotonic()
        self._count += 1
        self._description = self._encoding_of(message)

    def refused(self, reason: str) -> None:
        self._refused += 1
        self._refusal = reason

    def status(self, timeout_s: float) -> Status:
        """Of the last seconds: the rate of images, or what is wrong. Logs once when images stop or come back."""
        recent = self._recent({'images': self._count, 'refused': self._refused})
        period = self._recent.seconds
        topic = self._subscription.topic_name
        silent = time.monotonic() - self._last
        values = {'topic': topic, 'rate (Hz)': recent['images'] / period if period > 0 else 0.0, 'image': self._description,
                  'refused': self._refused}
        if silent > timeout_s:
            level, publishers = self._publishers(topic)
            text = f'no image on {topic} for {silent:.1f} s: {publishers}'
            if not self._missing:
                self._missing = True
                self._node.get_logger().warning(text)
            return Status(level, text, values)
        if self._missing and recent['images']:
            self._missing = False
            self._node.get_logger().info(f'images on {topic} again')
        if recent['refused']:
            share = '' if recent['refused'] >= recent['images'] else \
                f'{recent["refused"]} of {recent["images"]} images in the last {period:.0f} s: '
            return Status(ERROR, share + self._refusal, values)
        return Status(OK, f'images on {topic}', values)

    def _publishers(self, topic: str) -> tuple[bytes, str]:
        found = self._node.get_publishers_info_by_topic(topic)
        if not found:
            return WARN, 'nobody publishes it (is the name remapped? is the camera running in this ROS_DOMAIN_ID?)'
        level, parts = WARN, []
        for endpoint in found:
            name = f'{endpoint.node_namespace.rstrip("/")}/{endpoint.node_name}'
            if endpoint.topic_type != self._message_type:
                level = ERROR
                parts.append(f'{name} publishes {endpoint.topic_type}, expected {self._message_type}')
                continue
            part = f'{name} ({_reliability(endpoint.qos_profile)})'
            compatibility, reason = qos_check_compatible(endpoint.qos_profile, self._subscription.qos_profile)
            if compatibility == QoSCompatibility.ERROR:
                level = ERROR
                part += (f' is incompatible with this subscription ({_reliability(self._subscription.qos_profile)}): '
                         f'{reason.strip().rstrip(";")}')
            parts.append(part)
        return level, f'{len(found)} publisher{"s" if len(found) > 1 else ""}: ' + '; '.join(parts)


def _reliability(profile) -> str:
    reliability = 'best effort' if profile.reliability == ReliabilityPolicy.BEST_EFFORT else \
        profile.reliability.name.lower().replace('_', ' ')
    return f'{reliability}, {profile.durability.name.lower().replace("_", " ")}'
