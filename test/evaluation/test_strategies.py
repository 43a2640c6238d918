"""What was measured of each strategy comes side by side, and nothing is made up where nothing was measured."""

import json

from evitif_cli import main
from evitif_lab.evaluation import strategies

ROW = {'bytes': 900.0, 'top1': 0.78}


def selection(light='light', large='large'):
    return {'classes': 10, 'patches': 64, 'top1': {'light': 0.7, 'large': 0.8}, 'light': light, 'large': large, 'images': 100,
            'calibrated': {'coded': ROW}, 'loss': {'0.3': {**ROW, 'bytes': 2000.0}},
            'reference': {'WebP': {'quality': 70, 'top1': 0.8, 'bytes at 0': 1500.0, 'bytes at 0.3': 4000.0, 'bytes at 0.6': 9000.0}},
            'configuration': {'light': light, 'large': large, 'light_checkpoint': None}}


def test_rows_have_what_was_measured(monkeypatch):
    monkeypatch.setattr(strategies, '_multiply_adds', lambda folder, cut: {'light': 10, 'large': 100}[folder] - 10 * cut)
    split = {'cut': 4, 'top1_uncut': 0.8, 'bytes_per_frame': 10_000, 'packets_per_frame': 20,
             'top1': {'paldn': {rate: {'mean': 0.79} for rate in strategies.RATES}}}
    rows = {row['strategy']: row for row in strategies.compare(selection(), [split], 'light', 'large')['rows']}
    assert rows['split at block 4, PALDN']['edge_multiply_adds'] == 40
    assert rows['split at block 4, PALDN']['bytes']['0'] > 10_000 + 20 * 16
    chosen = rows['selection, as calibrated']
    assert chosen['bytes'] == {'0': 900.0, '0.3': 2000.0, '0.6': None} and round(chosen['points']['0'], 6) == -2
    text = strategies.markdown([strategies.compare(selection(), [split], 'light', 'large')])
    assert '| selection, as calibrated | 0 M | 900 / 2,000 / – |' in text
    assert '| local: the light model alone | 0 M | 0 / 0 / 0 | -10.00 / -10.00 / -10.00 |' in text


def test_a_partition_sends_as_many_copies_as_the_loss_asks_for(monkeypatch):
    monkeypatch.setattr(strategies, '_multiply_adds', lambda folder, cut: 100)
    entry = {'devices': 3, 'redundancy': 1, 'subsets': 'random', 'reduction': 6.04, 'multiply_adds_largest': 10, 'top1': 0.75,
             'top1_original': 0.8, 'copies': {'0': 3, '0.3': 5},
             'bytes_per_frame': {'0': 900, '0.3': 1500}, 'packet_loss': {'0.3': {'top1': 0.74}}}
    rows = strategies.compare(selection(), [], 'light', 'large', [{**entry, 'devices': 5}, entry])['rows']
    three, five = (row for row in rows if row['strategy'].startswith('partition'))
    assert three['strategy'] == 'partition among 3 devices, 6.0× smaller, random subsets' and 'among 5 devices' in five['strategy']
    sizes = three['bytes']
    assert sizes['0'] > 900 + 16 * 3 * 3 and sizes['0.3'] > 1500 + 16 * 3 * 5 and sizes['0.6'] is None
    assert [round(three['points'][rate], 6) for rate in ('0', '0.3')] == [-5, -6] and three['points']['0.6'] is None


def test_without_figures_it_says_so(tmp_path, capsys):
    assert main(['evaluate', 'strategies', '--results', str(tmp_path)]) == 1
    assert 'holds no figures' in capsys.readouterr().err


def test_both_files_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(strategies, '_multiply_adds', lambda folder, cut: 100)
    (tmp_path / 'selection').mkdir()
    (tmp_path / 'selection' / 'a.json').write_text(json.dumps(selection()))
    assert main(['evaluate', 'strategies', '--results', str(tmp_path)]) == 0
    assert len(json.loads((tmp_path / 'strategies.json').read_text())['tables']) == 1
    assert '## large' in (tmp_path / 'strategies.md').read_text()
