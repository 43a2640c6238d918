"""Overrides of QoS: which are heeded, and what is said of the others."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed')

from evitif_ros.qos import PUBLISHER, SUBSCRIPTION, check_overrides

ENDPOINTS = [('/one/image', SUBSCRIPTION), ('/one/prediction', PUBLISHER), ('/server/*/prediction', PUBLISHER)]


@pytest.mark.parametrize('name, value', [
    ('/one/image.subscription.reliability', 'reliable'), ('/one/image.subscription.reliability', 'BEST_EFFORT'),
    ('/one/image.subscription.history', 'keep_all'), ('/one/image.subscription.depth', 5), ('/one/image.subscription.deadline', 10**9),
    ('/one/prediction.publisher.durability', 'transient_local'), ('/one/prediction.publisher.lifespan', 10**9),
    ('/one/prediction.publisher.liveliness', 'automatic'), ('/one/prediction.publisher.liveliness_lease_duration', 10**9),
    ('/server/robot_1/prediction.publisher.depth', 5)])
def test_what_is_heeded_is_passed(name, value):
    assert check_overrides({f'qos_overrides.{name}': value, 'model': 'x'}, ENDPOINTS) == []


@pytest.mark.parametrize('name, words', [
    ('/one/image.subscription.durabilty', "'durability' meant"), ('/one/imaeg.subscription.depth', "'/one/image.subscription' meant"),
    ('/image.subscription.depth', "'/one/image.subscription' meant"), ('/one/image.publisher.depth', 'meant'),
    ('/one/prediction.subscription.depth', 'meant'), ('/one/image.subscription.lifespan', 'one of history, depth'),
    ('/zzz.publisher.depth', '/one/image.subscription, /one/prediction.publisher'), ('depth', 'QoS can be overridden of'),
    ('/server/a/b/prediction.publisher.depth', 'meant')])
def test_what_nothing_heeds_gets_a_sentence(name, words):
    sentence, = check_overrides({f'qos_overrides.{name}': 5}, ENDPOINTS)
    assert sentence.startswith(f"parameter 'qos_overrides.{name}' is not known and ignored") and words in sentence


@pytest.mark.parametrize('policy, value, expected', [
    ('reliability', 'relaible', "'best_effort'"), ('durability', 'latched', "'transient_local'"), ('history', 'keep_first', "'keep_all'"),
    ('liveliness', True, "'automatic'"), ('depth', 'five', 'an integer from 1'), ('depth', -1, 'an integer from 1'),
    ('depth', 0, 'an integer from 1'), ('depth', 1.5, 'an integer from 1'), ('deadline', '1s', 'an integer from 0'),
    ('deadline', -5, 'an integer from 0'), ('reliability', None, "'best_effort'")])
def test_a_value_that_a_policy_cannot_have_is_refused(policy, value, expected):
    with pytest.raises(ValueError) as refused:
        check_overrides({f'qos_overrides./one/image.subscription.{policy}': value}, ENDPOINTS)
    assert all(word in str(refused.value) for word in (f'/one/image.subscription.{policy}: expected', expected, repr(value)))


def test_late_subscription_of_what_is_kept_has_to_be_reliable():
    name = 'qos_overrides./one/image.subscription.'
    assert 'is reliable, since' in check_overrides({f'{name}durability': 'transient_local'}, ENDPOINTS)[0]
    both = {f'{name}durability': 'transient_local', f'{name}reliability': 'best_effort'}
    assert 'has no effect beside reliability best_effort' in check_overrides(both, ENDPOINTS)[0]
