"""The benchmark of the transport's system calls: every way is measured beside the others. No speed is asserted."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))      # it is run from the repository and not installed
from benchmarks import transport_calls
from evitif_cli import main


def test_every_way_is_measured_in_every_round_and_written_down(tmp_path, capsys):
    report = tmp_path / 'reports' / 'transport_calls.json'
    assert main(['bench', 'transport_calls', '--rounds', '2', '--frames', '3', '--output', str(report.parent)]) == 0
    written = json.loads(report.read_text())['figures']
    assert {'bare, single', 'UdpLoop, single', 'TCP'} <= set(written['ways']) <= set(transport_calls.WAYS)
    assert written['ways']['bare, single']['cpu_ratio']['median'] == 1.0
    table = capsys.readouterr().out
    for way, result in written['ways'].items():
        assert result['round_trip_us']['median'] > 0 and result['cpu_us']['median'] > 0
        assert f'| {way}: ' in table
