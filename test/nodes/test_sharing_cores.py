"""A node leaves the cores that it does not compute on to the others."""

from __future__ import annotations

import os

import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed')

from evitif_ros import lifecycle


@pytest.mark.parametrize('environment, expected', [
    ({}, 'PASSIVE'), ({'OMP_WAIT_POLICY': 'ACTIVE'}, 'ACTIVE'), ({'GOMP_SPINCOUNT': '10'}, None)])
def test_threads_that_wait_sleep_unless_the_user_says_otherwise(monkeypatch, environment, expected):
    for name in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME'):
        monkeypatch.setenv(name, environment.get(name, ''))
        if name not in environment:
            monkeypatch.delenv(name)
    lifecycle._share_the_cores()
    assert os.environ.get('OMP_WAIT_POLICY') == expected
