"""A link whose path changes: how its absence is measured, and, where there are namespaces, two changes that it has to follow."""

import math
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))      # it is run from the repository and not installed
from benchmarks import path_changes
from benchmarks.link import changing_path
from benchmarks.link.changing_path import BRIDGE_NAME, ChangingPath
from benchmarks.link.namespaces import run_tool
from benchmarks.path_changes import GAP_S, Change, back_after, measured, moves, peers, section, targets_of


@pytest.mark.parametrize(('answers', 'back'), [([0.9, 1.1, 1.4, 1.8, 2.2], 0.0), ([0.9, 2.0, 2.1, 2.5], 1.0), ([1.2, 1.9, 2.3], 0.9),
                                                 ([0.9, 1.1], math.inf), ([], math.inf)])
def test_a_link_is_back_at_the_end_of_the_last_gap(answers, back):
    assert back_after(answers, 1.0, 2.6, 0.5) == pytest.approx(back)


def test_a_change_that_is_not_said_misses_its_target():
    row = {'change': 'the name', 'back_s': 1.0, 'target_s': 5.0, 'said': True}
    judged = targets_of([row, row | {'said': False}, row | {'back_s': 6.0}], [row])
    assert [entry['holds'] for entry in judged] == [True, False, False, True] and 'not said' in judged[1]['measured']
    assert '| the name | 6.0 s | 1.0 s |' in section({'figures': {'plain': [row | {'back_s': 6.0}], 'nodes': [row]}}, Path())


def test_where_there_are_no_namespaces_the_reason_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(changing_path.os, 'geteuid', lambda: 1000)
    reason = changing_path.unavailable()
    assert reason in ('network namespaces need root', f'{sys.platform} has no network namespaces')
    with pytest.raises(path_changes.PartError, match=reason):
        path_changes.run(True, tmp_path)


def test_a_robot_follows_its_bridge_s_name_and_a_path_that_swallows_large_datagrams():
    if reason := changing_path.unavailable():
        pytest.skip(reason)
    with ChangingPath() as path:
        with peers(path, BRIDGE_NAME) as robot:
            for change in (change for change in moves(path, 'is at', 'DatagramSize') if change.says and 'interface' not in change.name):
                until = time.monotonic() + 30.0
                found = measured(Change(change.name, change.make, 2.5, says=change.says), robot, GAP_S)
                while not (found['said'] and found['back_s'] < math.inf):      # a busy machine takes longer
                    assert time.monotonic() < until, found
                    found = measured(Change(change.name, lambda: None, 2.0, says=change.says if not found['said'] else ''), robot, GAP_S)
        names = path.namespaces
    assert not any(name in run_tool(['ip', 'netns', 'list']) for name in names)
