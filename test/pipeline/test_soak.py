"""The soak in small: real processes over a bad link, both restarted, the robot moved, the link cut."""

import numpy as np
import pytest

from benchmarks import soak
from benchmarks.soak_ledger import ANSWERED, EXPIRED, FRAME, LIFE, SUBMITTED
from benchmarks.soak_report import judge, write_report


def test_every_frame_of_a_short_soak_is_accounted_for(tmp_path, capsys):
    report = soak.run(soak.Plan(120, 2, 1, 2, cut_s=1.0), rate=10.0, seed=1, folder=tmp_path)
    write_report({**report, 'command': 'test'}, tmp_path)
    assert all(target['holds'] for target in report['targets']), [target for target in report['targets'] if not target['holds']]
    assert report['outcomes']['answered'] > 10
    assert {path.name for path in tmp_path.iterdir()} >= {'soak.json', 'soak.md', 'soak.png'}
    # The same command finds that nothing is left to do.
    assert soak.run(soak.Plan(120, 2, 1, 2, cut_s=1.0), rate=10.0, seed=1, folder=tmp_path)['outcomes'] == report['outcomes']
    assert 'going on from frame 120' in capsys.readouterr().out


UNCOUNTED = 'frames without an outcome that no edge counted as unsent, replaced or failed'


class _Ledger:
    """Ten frames of one edge that was told to end: 8 answered, 1 expired, 1 replaced."""

    def __init__(self):
        self.frames, self.lives = np.zeros(10, FRAME), np.zeros(2, LIFE)
        self.frames['outcome'] = [ANSWERED] * 8 + [EXPIRED, SUBMITTED]
        self.frames['predictions'][:8] = 1
        self.frames['ended_at'][:8] = np.arange(8)
        self.lives['bridge'][1] = 1
        self.lives[0] = (0, 0.5, 1, 10, 1, 0, 0, 9, 8, 1, 0, 0)


@pytest.mark.parametrize('field, index, value, broken', [
    (None, 0, 0, []), ('predictions', 3, 2, ['frames answered twice']), ('wrong', 3, 1, ['wrong answers']),
    ('outcome', 8, SUBMITTED, [UNCOUNTED]), ('outcome', 9, 0, ['frames']),
    ('outcome', 2, EXPIRED, ['lives of the edge whose sum is right'])])
def test_what_goes_wrong_is_seen(field, index, value, broken):
    ledger = _Ledger()
    if field:
        ledger.frames[field][index] = value
    state = {'life': 2, 'next': 0, 'cuts': [5.5], 'moves': 0, 'memory': [], 'seconds': 1.0}
    report = judge(ledger, state, [], {'frames': 10, 'restarts': 0, 'rate': 10.0})
    assert [target['name'] for target in report['targets'] if not target['holds']] == broken
    assert report['s to the first answer after each cut'] == [0.5]
