"""The check of the adviser: what counts as apart, and H.264 over real sockets."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('torch')
from benchmarks import adviser
from evitif.transport import Impairment
from evitif_lab.advice.scene import Frame
from evitif_lab.advice.timeline import Path, Seed


def row(right: tuple, size: tuple = (1000, 1000), p50: tuple = (0.03, 0.03)) -> dict:
    sides = [{'right': right[index], 'bytes': size[index], 'p50_s': p50[index]} for index in (0, 1)]
    return {'link': 'a link', 'way': 'split', 'foretold': sides[0], 'measured': sides[1]}


@pytest.mark.parametrize(('rows', 'expected'), [
    ([row((0.99, 0.985), (1000, 1020), (0.030, 0.033))], [True, True, True]),
    ([row((0.99, 0.975))], [None, True, True]),                                  # chance alone may do that
    ([row((0.99, 0.80))], [False, True, True]),
    ([row((1.0, 1.0), (1000, 1050), (0.02, 0.03))], [True, False, False]),
    ([row((1.0, 1.0), p50=(0.02, None))], [True, True, False])])
def test_each_target_is_judged_by_its_worst_line(rows, expected):
    found = adviser.verdicts([row((1.0, 1.0)), *rows], 290)
    assert [each['holds'] for each in found] == expected
    figures = {'rows': rows, 'judged': 290, 'frames': 300, 'rate_hz': 15.0, 'deadline_s': 0.2}
    page = adviser.section({'command': 'evitif bench adviser', 'figures': figures, 'targets': found}, None)
    assert ('held' in page) and ('missed' in page) == (False in expected)


def test_video_over_real_sockets_answers_what_arrives():
    pytest.importorskip('av', reason='H.264 needs PyAV (requirements/video.txt)')
    from benchmarks.adviser_video import RealVideo
    random, forgotten = np.random.default_rng(0), []
    frames = [Frame(random.integers(0, 256, (32, 32, 3), np.uint8), 0.05 * index, None) for index in range(8)]
    scene = SimpleNamespace(frames=frames, rate_hz=20.0, whole_s=0.0, look=lambda pictures: np.array([[0.0, 1.0]]),
                            forget=lambda: forgotten.append(1))
    way = RealVideo('H.264', 1.0, 24)
    way.prepare(scene)
    clean = Impairment(delay_s=0.01)
    fates = way.run(frames, 0, Path(clean, clean), Seed('7'), 5.0).fates
    assert [fate.class_id for fate in fates] == [1] * 8 and len(forgotten) == 8
    assert all(0.02 <= fate.after_s < 5 and fate.bytes > 100 for fate in fates)
