"""The QoS profiles of the nodes, by what they are for."""

import copy

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

# In: any publisher matches, and only the newest image waits.
NEWEST_IMAGE = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT,
                          durability=DurabilityPolicy.VOLATILE)
# Out: reliable, so that reliable and best-effort subscribers match; keep-last, so that a slow one never blocks.
IMAGES = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.RELIABLE,
                    durability=DurabilityPolicy.VOLATILE)
RESULTS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=50, reliability=ReliabilityPolicy.RELIABLE,
                     durability=DurabilityPolicy.VOLATILE)
# Known labels, one an image: kept a while for whoever subscribes after the first images.
LABELS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE,
                    durability=DurabilityPolicy.TRANSIENT_LOCAL)
LATCHED = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE,
                     durability=DurabilityPolicy.TRANSIENT_LOCAL)


def overridable(profile: QoSProfile) -> dict:
    """Arguments of create_publisher and create_subscription: the profile, with its policies as parameters.

    rclpy writes the overrides into the profile that it is given, so each gets a copy of its own.
    """
    return {'qos_profile': copy.copy(profile), 'qos_overriding_options': QoSOverridingOptions.with_default_policies()}
