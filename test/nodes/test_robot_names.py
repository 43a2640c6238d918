"""Robots' names as topic names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evitif_cloud_bridge.robot_names import topic_token


@pytest.mark.parametrize('robot, token', [
    ('robot', 'robot'), ('Spot 1', 'Spot_1'), ('fleet/arm-2', 'fleet_arm_2'), ('7', 'robot_7'), ('', 'robot'),
    ('__hidden__', 'hidden'), ('größe', 'gr_e'), ('机器人', 'robot'), ('a__b', 'a_b'), ('../../x', 'x'),
])
def test_tokens(robot, token):
    assert topic_token(robot) == token


def test_collisions_are_numbered():
    taken = []
    for robot in ('a b', 'a_b', 'a-b'):
        taken.append(topic_token(robot, taken))
    assert taken == ['a_b', 'a_b_2', 'a_b_3']


@given(st.lists(st.text(max_size=200), max_size=8))
def test_any_names_give_valid_and_different_tokens(robots):
    taken = []
    for robot in robots:
        taken.append(topic_token(robot, taken))
    assert len(set(taken)) == len(taken)
    for token in taken:
        assert re.fullmatch(r'[A-Za-z](_?[A-Za-z0-9])*', token) and len(token) < 80
