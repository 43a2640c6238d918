"""What `/diagnostics` says where images do not arrive: which topic is meant, and what helps."""

import contextlib
import time
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed')
pytest.importorskip('evitif_msgs.msg', reason='the message package is not built: make build')

import rclpy
from ros_domains import own_domain
from sensor_msgs.msg import CompressedImage, Image

from evitif.pictures import SignificantBits
from evitif_edge_node.image_watch import ImageWatch
from evitif_ros import fast_dds, qos
from evitif_ros.diagnostics import OK, RECENT_S, WARN


class Watched:
    """A watch of /camera/image (raw) or /camera/image/compressed, or of another topic, and publishers beside it."""

    def __init__(self, domain):
        # A context each, as two processes have: DDS lets one not have two types of a topic.
        self._contexts = rclpy.Context(), rclpy.Context()
        for context in self._contexts:
            rclpy.init(context=context, domain_id=domain)
        self.node, self.camera = (rclpy.create_node(name, context=context)
                                  for name, context in zip(('edge_node', 'driver'), self._contexts, strict=True))

    def watch(self, kind=Image, topic='/camera/image'):
        if kind is CompressedImage:
            topic += '/compressed'
        subscription = self.node.create_subscription(kind, topic, lambda message: None, qos.NEWEST_IMAGE)
        return ImageWatch(self.node, subscription, 'compressed' if kind is CompressedImage else 'raw')

    def publish(self, kind, topic, node=None):
        (node or self.camera).create_publisher(kind, topic, qos.IMAGES)

    def close(self):
        for node, context in zip((self.node, self.camera), self._contexts, strict=True):
            node.destroy_node()
            rclpy.shutdown(context=context)


@pytest.fixture
def watched():
    """In a domain without the images of other tests."""
    with own_domain() as domain, contextlib.closing(Watched(domain)) as watched:
        yield watched


def wait_for(watch, *words):
    """The status, once it says all the words."""
    until = time.monotonic() + 20
    while not all(word in (status := watch.status(-1.0, SignificantBits())).message for word in words):
        assert time.monotonic() < until, f'expected {words}: {status.message}'
        time.sleep(0.05)
    return status


@pytest.mark.parametrize('wanted, published, topic, words', [
    (Image, CompressedImage, '/camera/image/compressed', ['/camera/image/compressed is there', 'image_transport to compressed']),
    (CompressedImage, Image, '/camera/image', ['but /camera/image is there', 'image_transport to raw']),
    (Image, Image, '/front/pictures', ['remap image to one of', '/front/pictures (sensor_msgs/msg/Image)']),
    (CompressedImage, CompressedImage, '/front/pictures/compressed', ['/front/pictures/compressed (sensor_msgs/msg/CompressedImage)']),
])
def test_the_topic_that_is_meant_is_named(watched, wanted, published, topic, words):
    watch = watched.watch(wanted)
    watched.publish(published, topic)
    assert wait_for(watch, 'nobody publishes it', *words).level == WARN


def test_the_name_with_its_transport_is_told_apart_from_the_base_name(watched):
    watch = watched.watch(CompressedImage, '/camera/image/compressed')
    watched.publish(CompressedImage, '/camera/image/compressed')
    wait_for(watch, 'nobody publishes it', 'remap it to /camera/image')


def test_a_raw_subscription_of_a_compressed_topic_is_told_both_settings(watched):
    watch = watched.watch(Image, '/camera/image/compressed')
    watched.publish(CompressedImage, '/camera/image/compressed')
    wait_for(watch, 'expected sensor_msgs/msg/Image', 'remap image to /camera/image and set image_transport to compressed')


def test_the_nodes_own_pictures_are_not_offered(watched):
    watch = watched.watch()
    watched.publish(Image, '/edge_node/annotated_image', watched.node)
    watched.publish(Image, '/front/pictures')
    assert 'annotated' not in wait_for(watch, '/front/pictures').message


def test_many_other_topics_are_counted(watched):
    watch = watched.watch()
    for number in range(6):
        watched.publish(Image, f'/camera_{number}/image')
    wait_for(watch, '/camera_0/image', '/camera_3/image', 'and 2 more')


def test_no_image_topic_at_all(watched):
    wait_for(watched.watch(), 'is the name remapped? is the camera running in this ROS_DOMAIN_ID?')


def test_a_publisher_that_fits_and_no_image_says_what_to_set(watched):
    watch = watched.watch()
    watched.publish(Image, '/camera/image')
    status = wait_for(watch, '1 publisher: /driver (reliable, volatile)', 'lost on the way here', 'image_transport to compressed')
    assert status.level == WARN and f'{fast_dds.variable()}={fast_dds.profile()}' in status.message


def test_lost_images_are_counted_and_the_remedy_is_named(watched):
    watch = watched.watch()
    for _ in range(5):
        watch.image(Image())
    watch.lost(SimpleNamespace(total_count_change=15))
    status = watch.status(60.0, SignificantBits())
    assert status.level == WARN and '15 of 20 images on /camera/image were lost on the way here' in status.message
    assert f'{fast_dds.variable()}={fast_dds.profile()}' in status.message and status.values['lost on the way'] == 15
    # Until the interval that is looked back over is behind it.
    watch.image(Image())
    assert watch.status(60.0, SignificantBits()).level == WARN
    later = time.monotonic() + RECENT_S
    watch._recent._clock = lambda: later
    watch.image(Image())
    watch.status(60.0, SignificantBits())
    watch._recent._clock = lambda: later + RECENT_S
    watch.image(Image())
    assert watch.status(60.0, SignificantBits()).level == OK


def test_a_lost_image_now_and_then_is_no_warning(watched):
    watch = watched.watch()
    for _ in range(20):
        watch.image(Image())
    watch.lost(SimpleNamespace(total_count_change=1))
    assert watch.status(60.0, SignificantBits()).level == OK


def test_on_another_dds_its_own_remedy_is_left(watched, monkeypatch):
    monkeypatch.setattr(fast_dds, 'get_rmw_implementation_identifier', lambda: 'rmw_zenoh_cpp')
    watch = watched.watch()
    watched.publish(Image, '/camera/image')
    status = wait_for(watch, 'lost on the way here: set image_transport to compressed')
    assert 'FASTDDS' not in status.message
