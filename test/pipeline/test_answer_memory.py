"""What the robot says of a frame that no answer came for."""

import math

import numpy as np
import pytest

from evitif.pipeline.answer_memory import AnswerMemory
from evitif.protocol.wire.answer import Answer

MS = 1_000_000
NOW = 1_000_000 * MS


def answer(recovery: str = 'none', motion: float = 1.0, age_s: float = math.nan) -> Answer:
    return Answer(7, NOW, (3, 1), (0.75, 0.2), 'split', recovery, 1, 1, 1, 4, 4, np.ones(4, bool), 0.5, 0.0, 0.0, 0.0, 0.0, 0.0,
                  None if math.isnan(age_s) else np.zeros(4, bool), age_s, motion)


def recalled(after_ms: int, *, limit_s: float = 1.0, **about):
    memory = AnswerMemory(limit_s, 10)
    memory.keep(NOW, (3, 1), (0.75, 0.2), answer(**about))
    return memory.recall(NOW + after_ms * MS)


def test_it_is_the_last_answer_less_sure_with_its_age():
    soon, late = recalled(20), recalled(300)
    assert soon.class_ids == late.class_ids == (3, 1)
    assert (soon.age_s, late.age_s) == pytest.approx((0.02, 0.3))
    assert 0.75 > soon.scores[0] > late.scores[0] > 0.1
    assert list(late.scores) == sorted(late.scores, reverse=True)


def test_the_faster_the_scene_changes_the_less_sure_it_is():
    slow, fast, unknown = (recalled(100, motion=motion).scores[0] for motion in (0.1, 5.0, math.nan))
    assert slow > unknown > fast


def test_an_answer_from_memory_is_as_old_as_what_it_rests_on():
    assert recalled(100, recovery='memory', age_s=0.2).age_s == pytest.approx(0.3)


@pytest.mark.parametrize('about', [{'after_ms': 1001}, {'after_ms': -1001}, {'after_ms': 1, 'limit_s': 0.0},
                                   {'after_ms': 900, 'motion': 500.0}], ids=['too old', 'too new', 'switched off', 'all has changed'])
def test_where_it_says_nothing_there_is_no_answer(about):
    assert recalled(**about) is None


def test_an_older_answer_does_not_take_the_place_of_a_newer_one():
    memory = AnswerMemory(1.0, 10)
    assert memory.recall(NOW) is None
    memory.keep(NOW, (3,), (0.5,), answer())
    memory.keep(NOW - 100 * MS, (4,), (0.5,), answer())
    assert memory.recall(NOW).class_ids == (3,)
    memory.keep(NOW - 5000 * MS, (5,), (0.5,), answer())        # the camera's clock was set back
    assert memory.recall(NOW - 4990 * MS).class_ids == (5,)
