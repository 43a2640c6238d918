"""Watches the image topic: says when images stop, who publishes them, whether the QoS fits, and what helps."""

from __future__ import annotations

import time
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo

from evitif.image_transports import IMAGE_TYPES, TRANSPORTS
from evitif.pictures import SignificantBits
from evitif_edge_node.image_topics import describe
from evitif_ros import fast_dds
from evitif_ros.diagnostics import ERROR, OK, WARN, Recent, Status

TOO_MANY_LOST = 0.1     # of the images that were published of late
REPEAT_LOST_S = 60.0    # between log messages about it
NAMED = 4               # other topics of images, at most


class ImageWatch:
    """Counts images, those that could not be used, and lost ones; `status` says in a sentence how it goes."""

    def __init__(self, node: Node, subscription: Subscription, transport: str):
        self._node, self._subscription, self._transport = node, subscription, transport
        self._message_type = TRANSPORTS[transport].kind
        self._last = time.monotonic()
        self._count = self._refused = self._lost = 0
        self._recent = Recent()
        self._recent(self._counts())
        self._description = self._refusal = ''
        self._missing = False
        self._waiting = ''

    def image(self, message: Any) -> None:
        """Count an image that came."""
        self._last = time.monotonic()
        self._count += 1
        self._description = describe(message)

    def refused(self, reason: str) -> None:
        """Count one that could not be used."""
        self._refused += 1
        self._refusal = reason

    def waiting(self, reason: str) -> None:
        """What the images wait for, where they are packets of a video; empty: nothing."""
        if reason and not self._waiting:
            self._node.get_logger().warning(f'{self._subscription.topic_name}: {reason}')
        self._waiting = reason

    def lost(self, event: Any) -> None:
        """Count the messages of rmw's message_lost event, which did not arrive whole."""
        self._lost += event.total_count_change

    def status(self, timeout_s: float, significant: SignificantBits) -> Status:
        """The rate of images over the last seconds, or what is wrong. Logs once when images stop, come back, or are nearly black."""
        recent = self._recent(self._counts())
        count, lost, period = recent['images'], recent['lost'], self._recent.seconds
        topic = self._subscription.topic_name
        silent = time.monotonic() - self._last
        values = {'topic': topic, 'rate (Hz)': count / period if period > 0 else 0.0, 'image': self._description,
                  'refused': self._refused, 'lost on the way': lost}
        if significant.bits:
            values['significant bits'] = f'{significant.bits}{"" if significant.given else ", found from the images"}'
        if silent > timeout_s:
            level, publishers = self._publishers(topic)
            text = f'no image on {topic} for {silent:.1f} s: {publishers}'
            if not self._missing:
                self._missing = True
                self._node.get_logger().warning(text)
            return Status(level, text, values)
        if self._missing and count:
            self._missing = False
            self._node.get_logger().info(f'images on {topic} again')
        if recent['refused']:
            share = '' if recent['refused'] >= count else f'{recent["refused"]} of {count} images in the last {period:.0f} s: '
            return Status(ERROR, share + self._refusal, values)
        if self._waiting:
            return Status(WARN, f'{topic}: {self._waiting}', values)
        if lost > TOO_MANY_LOST * (count + lost):
            text = f'{lost} of {count + lost} images on {topic} were lost on the way here: {self._remedy()}'
            self._node.get_logger().warning(text, throttle_duration_sec=REPEAT_LOST_S)
            return Status(WARN, text, values)
        if significant.darkness:
            self._node.get_logger().warning(f'{topic}: {significant.darkness}', once=True)
            return Status(WARN, significant.darkness, values)
        return Status(OK, f'images on {topic}', values)

    def _counts(self) -> dict[str, int]:
        return {'images': self._count, 'refused': self._refused, 'lost': self._lost}

    def _publishers(self, topic: str) -> tuple[bytes, str]:
        found = self._node.get_publishers_info_by_topic(topic)
        if not found:
            return WARN, self._unpublished(topic)
        level, parts, fits = WARN, [], False
        for endpoint in found:
            name = f'{endpoint.node_namespace.rstrip("/")}/{endpoint.node_name}'
            if endpoint.topic_type != self._message_type:
                level = ERROR
                parts.append(f'{name} publishes {endpoint.topic_type}, expected {self._message_type}{_other_transport(topic, endpoint)}')
                continue
            part = f'{name} ({_reliability(endpoint.qos_profile)})'
            compatibility, reason = qos_check_compatible(endpoint.qos_profile, self._subscription.qos_profile)
            if compatibility == QoSCompatibility.ERROR:
                level = ERROR
                part += (f' is incompatible with this subscription ({_reliability(self._subscription.qos_profile)}): '
                         f'{reason.strip().rstrip(";")}')
            else:
                fits = True
            parts.append(part)
        text = f'{len(found)} publisher{"s" if len(found) > 1 else ""}: ' + '; '.join(parts)
        return level, f'{text}. Nothing is published, or it is lost on the way here: {self._remedy()}' if fits else text

    def _remedy(self) -> str:
        """What helps where images are published and do not arrive."""
        ways = [fast_dds.remedy(), 'set image_transport to compressed, if the publisher offers it' if self._transport == 'raw' else
                'publish smaller images']
        return ', or '.join(filter(None, ways))

    def _unpublished(self, topic: str) -> str:
        """What may be meant instead of a topic that nobody publishes: its other transport, else the images that there are."""
        others = self._image_topics()
        image = topic.removesuffix(TRANSPORTS[self._transport].suffix)
        for transport, way in TRANSPORTS.items():
            if transport != self._transport and way.kind in others.get(image + way.suffix, ()):
                return f'nobody publishes it, but {image}{way.suffix} is there: set image_transport to {transport}'
        if suffix := next((way.suffix for way in TRANSPORTS.values() if way.suffix and image.endswith(way.suffix)), ''):
            return f'nobody publishes it; image is the name without {suffix}: remap it to {image.removesuffix(suffix)}'
        if others:
            names = [f'{name} ({", ".join(kinds)})' for name, kinds in sorted(others.items())]
            more = f' and {len(names) - NAMED} more' if len(names) > NAMED else ''
            return f'nobody publishes it; remap image to one of those that there are: {", ".join(names[:NAMED])}{more}'
        return 'nobody publishes it (is the name remapped? is the camera running in this ROS_DOMAIN_ID?)'

    def _image_topics(self) -> dict[str, list[str]]:
        """The topics on which other nodes publish images, with their types."""
        own = (self._node.get_name(), self._node.get_namespace())
        found = {}
        for topic, kinds in self._node.get_topic_names_and_types():
            kinds = [kind for kind in kinds if kind in IMAGE_TYPES]
            if kinds and any((endpoint.node_name, endpoint.node_namespace) != own
                             for endpoint in self._node.get_publishers_info_by_topic(topic)):
                found[topic] = kinds
        return found


def _other_transport(topic: str, endpoint: TopicEndpointInfo) -> str:
    """What to do if a topic of the right name has the other type of image."""
    for transport, way in TRANSPORTS.items():
        if way.suffix and endpoint.topic_type == way.kind and topic.endswith(way.suffix):
            return f': remap image to {topic.removesuffix(way.suffix)} and set image_transport to {transport}'
    return ''


def _reliability(profile: QoSProfile) -> str:
    reliability = 'best effort' if profile.reliability == ReliabilityPolicy.BEST_EFFORT else \
        profile.reliability.name.lower().replace('_', ' ')
    return f'{reliability}, {profile.durability.name.lower().replace("_", " ")}'
