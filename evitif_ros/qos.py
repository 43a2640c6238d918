"""The QoS profiles of the nodes, by what they are for, and how parameters override them."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from evitif.settings import Setting
from evitif_ros.parameters import overrides_of, require_accepted


def _keep_last(depth: int, reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE,
               durability: DurabilityPolicy = DurabilityPolicy.VOLATILE) -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability)


def with_depth(profile: QoSProfile, depth: int) -> QoSProfile:
    """The same profile, with `depth` messages that wait."""
    changed = copy.copy(profile)
    changed.depth = depth
    return changed


# In: any publisher matches, and only the newest image waits.
NEWEST_IMAGE = _keep_last(1, ReliabilityPolicy.BEST_EFFORT)
# Out: reliable, so that reliable and best-effort subscribers match; keep-last, so that a slow one never blocks.
IMAGES, RESULTS, DIAGNOSTICS = _keep_last(5), _keep_last(50), _keep_last(10)
# Known labels, one for each image: kept a while for late subscribers.
LABELS, LATCHED = (_keep_last(depth, durability=DurabilityPolicy.TRANSIENT_LOCAL) for depth in (100, 1))

PREFIX = 'qos_overrides.'
PUBLISHER, SUBSCRIPTION = 'publisher', 'subscription'
Endpoint = tuple[str, str]      # a topic's full name, in which `*` stands for any one name; PUBLISHER or SUBSCRIPTION
_NAME = re.compile(r'qos_overrides\.(?:(.*)\.)?([^.]*)')
_LARGEST_DEPTH = 2 ** 31 - 1    # of Fast DDS
_LONGEST_NS = 2 ** 63 - 1


def _names_of(policy: type[Enum]) -> tuple[str, ...]:
    return tuple(name.lower() for name in policy.__members__ if name.isupper() and name != 'UNKNOWN')


_POLICIES = {parameter.name: parameter for parameter in (
    Setting('history', 'keep_last', 'which messages wait', choices=_names_of(HistoryPolicy)),
    Setting('depth', 1, 'how many wait', 'messages', 1, _LARGEST_DEPTH),
    Setting('reliability', 'reliable', 'whether lost ones are sent again', choices=_names_of(ReliabilityPolicy)),
    Setting('durability', 'volatile', 'whether late subscribers get them', choices=_names_of(DurabilityPolicy)),
    Setting('deadline', 0, 'longest time between two', 'ns', 0, _LONGEST_NS),
    Setting('lifespan', 0, 'time after which one is not delivered any more', 'ns', 0, _LONGEST_NS),
    Setting('liveliness', 'automatic', 'who says that the publisher is alive', choices=_names_of(LivelinessPolicy)),
    Setting('liveliness_lease_duration', 0, 'time after which it counts as dead', 'ns', 0, _LONGEST_NS),
)}
_SHOWN = ('history', 'depth', 'reliability', 'durability')      # parameters of every endpoint of images, overridden or not


def overridable(node: Node, kind: str, topic: str, profile: QoSProfile, *, shown: bool = False) -> dict:
    """Arguments of create_publisher and create_subscription: the profile, with its policies as parameters.

    rclpy writes the overrides into the profile that it is given, so each gets a copy of its own.

    :param kind: PUBLISHER or SUBSCRIPTION
    :param shown: the usual policies are parameters even where nobody overrides them
    """
    prefix, profile = f'{PREFIX}{node.resolve_topic_name(topic)}.{kind}.', copy.copy(profile)
    given = {name.removeprefix(prefix): value for name, value in overrides_of(node).items() if name.startswith(prefix)}
    if _is_latched(given) and 'reliability' not in given:
        profile.reliability = ReliabilityPolicy.RELIABLE
    kinds = [policy for policy in QoSPolicyKind if policy.name.lower() in _POLICIES
             and (policy.name.lower() in given or shown and policy.name.lower() in _SHOWN)]
    return {'qos_profile': profile, 'qos_overriding_options': QoSOverridingOptions(kinds)}


def check_overrides(given: Mapping[str, object], endpoints: Iterable[Endpoint]) -> list[str]:
    """A sentence for each override in `given` (parameters by name) that no topic of this node uses, or that takes more than its value.

    Raises ValueError with the reason for a value that its policy cannot have.
    """
    by_endpoint: defaultdict[str, dict[str, object]] = defaultdict(dict)
    for name, value in sorted(given.items()):
        if name.startswith(PREFIX):
            endpoint, policy = _NAME.fullmatch(name).groups()
            by_endpoint[endpoint or ''][policy] = value.lower() if isinstance(value, str) else value     # as rclpy takes them
    known = sorted({f'{topic}.{kind}' for topic, kind in endpoints})
    return [sentence for endpoint, policies in by_endpoint.items() for sentence in _check_endpoint(endpoint, policies, known)]


def _check_endpoint(endpoint: str, given: Mapping[str, object], known: list[str]) -> Iterator[str]:
    heeded = any(re.fullmatch(re.escape(pattern).replace(r'\*', '[^/]+'), endpoint) for pattern in known)
    policies = [policy for policy in _POLICIES if policy != 'lifespan' or endpoint.endswith(PUBLISHER)]
    for policy, value in given.items():
        name = '.'.join(filter(None, (PREFIX[:-1], endpoint, policy)))
        if not heeded:
            meant = _meant(endpoint, known) or '; QoS can be overridden of ' + ', '.join(known)
            yield f'parameter {name!r} is not known and ignored{meant}'
        elif policy not in policies:
            meant = _meant(policy, policies) or '; expected one of ' + ', '.join(policies)
            yield f'parameter {name!r} is not known and ignored{meant}'
        else:
            require_accepted((dataclasses.replace(_POLICIES[policy], name=name),), {name: value})
    if heeded and _is_latched(given):
        reliability = given.get('reliability')
        if reliability is None and endpoint.endswith(SUBSCRIPTION):
            yield f'{endpoint} is reliable, since durability transient_local has no effect on a best-effort one'
        elif reliability == 'best_effort':
            yield (f'{endpoint}: durability transient_local has no effect beside reliability best_effort: nothing comes that was '
                   'published before a subscription')


def _is_latched(given: Mapping[str, object]) -> bool:
    return str(given.get('durability')).lower() == 'transient_local'


def _meant(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, names, 1)
    return f'; is {close[0]!r} meant?' if close else ''
