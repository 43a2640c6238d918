"""The benchmark of recovery's cost measures what it finds and says what it skips."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))      # it is run from the repository and not installed
from evitif_cli import main


def test_every_paldn_is_measured_and_what_cannot_be_is_named(folder, train, tmp_path, capsys):
    report = tmp_path / 'reports' / 'recovery_cost.json'
    arguments = ['bench', 'recovery_cost', '--artifacts', str(folder.parent), '--repetitions', '5', '--output', str(report.parent)]
    assert main(arguments) == 1
    assert 'small: skipped, no PALDN' in capsys.readouterr().out and not report.exists()

    for cut in (0, 1, 2, 3):
        train('paldn', cut, width=16)
    broken = folder / 'paldn-cut2.json'
    broken.write_text(json.dumps({**json.loads(broken.read_text()), 'format': 1}))
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert 'paldn-cut2.json skipped: recovery artifact' in out and 'paldn-cut3.json skipped: ' in out
    assert '| small | 1 |' in out
    results = json.loads(report.read_text())['figures']['results']
    assert [result['cut'] for result in results] == [0, 1]
    for result in results:
        assert result['share_of_tail_multiply_adds'] == pytest.approx(result['multiply_adds'] / result['tail_multiply_adds'])
        low, high = result['share_of_tail_time']['quartiles']
        assert 0 < low <= result['share_of_tail_time']['median'] <= high
