"""The bridge's side of the strategy `split` fills in lost tokens from the robot's own earlier frames, and says so."""

import math
from dataclasses import replace

import numpy as np
import pytest

from evitif.pipeline.split_bridge import SplitBridge
from evitif.pipeline.strategy import blank_frame
from evitif.settings import bridge_settings

MODEL = {'model': 'vit_tiny_patch16_224', 'random_seed': 1, 'image_size': 64, 'num_classes': 9, 'cut': 1, 'quantisation': 'int8'}
TOKENS = 17
SECOND = 1_000_000_000


@pytest.fixture(scope='module')
def bridge():
    return SplitBridge(bridge_settings(**MODEL))


def frame(bridge, values: np.ndarray, number: int, lost: range = range(0), session: int = 1, after_s: float = 0.1):
    received = np.ones(TOKENS, bool)
    received[list(lost)] = False
    rows = bridge.model.quantiser.quantise(values)
    rows[list(lost)] = 0
    return replace(blank_frame(bridge.parameters, received), rows=rows, session_id=session, frame_id=number,
                   capture_stamp_ns=int(SECOND + number * after_s * SECOND))


def scene(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(TOKENS, 192)).astype(np.float32)


def test_a_frame_that_lost_tokens_is_answered_as_if_it_had_them_where_nothing_moved(bridge):
    whole, damaged = (bridge.answer_batch([frame(bridge, scene(1), number, lost, session=10)])[0]
                      for number, lost in ((0, range(0)), (1, range(5, 12))))
    assert (whole.recovery, damaged.recovery) == ('none', 'memory')
    assert damaged.class_ids == whole.class_ids
    np.testing.assert_allclose(damaged.scores, whole.scores, atol=1e-4)
    assert np.flatnonzero(damaged.remembered).tolist() == list(range(5, 12))
    assert damaged.memory_age_s == pytest.approx(0.1)
    assert whole.remembered is None and math.isnan(whole.memory_age_s)


def test_one_robot_s_tokens_are_not_another_s(bridge):
    bridge.answer_batch([frame(bridge, scene(1), 0, session=20), frame(bridge, scene(2), 0, session=21)])
    first, second = bridge.answer_batch([frame(bridge, scene(number), 1, range(5, 12), session=session)
                                         for number, session in ((1, 20), (3, 22))])
    assert first.recovery == 'memory'
    assert (second.recovery, second.remembered) == ('omission', None)


def test_what_is_remembered_ends_with_the_session(bridge):
    bridge.answer_batch([frame(bridge, scene(1), 0, session=30)])
    bridge.forget(30)
    (outcome,) = bridge.answer_batch([frame(bridge, scene(1), 1, range(5, 12), session=30)])
    assert outcome.remembered is None


def test_next_to_nothing_is_answered_from_memory_the_less_sure_the_older_it_is(bridge):
    sure = []
    for session, after_s in ((40, 0.05), (41, 1.0)):
        bridge.answer_batch([frame(bridge, scene(1), 0, session=session, after_s=after_s)])
        (outcome,) = bridge.answer_batch([frame(bridge, scene(1), 1, range(1, TOKENS), session=session, after_s=after_s)])
        assert outcome.recovery == 'memory' and outcome.memory_age_s == pytest.approx(after_s)
        sure.append(outcome.scores[0])
    whole = bridge.answer_batch([frame(bridge, scene(1), 0, session=42)])[0].scores[0]
    assert whole > sure[0] > sure[1] > 1 / 9


def test_without_a_limit_nothing_is_remembered():
    bridge = SplitBridge(bridge_settings(**MODEL, memory_limit=0.0))
    bridge.answer_batch([frame(bridge, scene(1), 0)])
    (outcome,) = bridge.answer_batch([frame(bridge, scene(1), 1, range(5, 12))])
    assert (outcome.recovery, outcome.remembered) == ('omission', None)
