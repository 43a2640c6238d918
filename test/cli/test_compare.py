"""`evitif compare` judges all ways by the same images over the same link, goes on where it was interrupted, and recommends one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip('torch')
sys.path.insert(0, str(Path(__file__).parents[1] / 'recording'))
from bags import frames, write_bag

from evitif_cli.main import main
from evitif_lab.advice.advice import Finding, recommend

MODEL = str(Path(__file__).parents[2] / 'artifacts' / 'fashion_mnist')
COUNT, SLOW_NS = 4, 4_000_000_000          # images so far apart that a busy machine answers each


@pytest.fixture(scope='module')
def recording(tmp_path_factory):
    return write_bag(tmp_path_factory.mktemp('compare') / 'rover', 'mcap', frames(COUNT), period_ns=SLOW_NS)


def compared(recording: Path, folder: Path, *options: str) -> dict:
    arguments = ['compare', str(recording), '--model', MODEL, '--cut', '3', '--deadline', '3', '--output', str(folder), *options]
    assert main(arguments) == 0
    return json.loads((folder / 'compare.json').read_text())


def test_on_a_clean_link_each_way_answers_every_image(recording, tmp_path):
    some = [option for text in ('0.002', 'CRF 24', 'JPEG 90', 'alone', 'selection', 'partition') for option in ('--only', text)]
    ways = {way['way']: way for way in compared(recording, tmp_path, *some)['ways']}
    assert all(way['answered'] == 1.0 and way['p50_s'] < 3 for way in ways.values()), ways
    assert ways['the robot alone']['right'] == 1.0 and ways['the robot alone']['bytes'] == 0
    evitif = [way for name, way in ways.items() if name.startswith('evitif, split')]
    assert len(evitif) == 1 and evitif[0]['right'] >= 0.75 and all(way['bytes'] > 0 and way['repeated'] == 0 for way in evitif)
    own = [way for name, way in ways.items() if 'fashion_mnist_light' in name or 'partition-3 of 3 devices' in name]
    assert len(own) == 2 and all(way['right'] >= 0.5 for way in own)
    best, reliable = ways['JPEG 90, best effort'], ways['JPEG 90, reliable, in order']
    assert best['bytes'] == reliable['bytes'] > 0 and best['right'] == reliable['right']
    page, table = (tmp_path / 'compare.html').read_text(), (tmp_path / 'compare.md').read_text()
    assert all(name in table and name in page for name in ways) and 'http' not in page.replace('http-equiv', '')


def test_a_link_that_loses_takes_answers_from_best_effort_and_time_and_bytes_from_reliable_ones(recording, tmp_path):
    options = ('--loss', '0.5', '--delay', '0.02', '--only', 'JPEG 90', '--only', 'alone')
    ways = {way['way']: way for way in compared(recording, tmp_path, *options)['ways']}
    assert ways['JPEG 90, best effort']['answered'] < 1.0
    assert ways['JPEG 90, reliable, in order']['answered'] > ways['JPEG 90, best effort']['answered']
    assert ways['JPEG 90, reliable, in order']['p99_s'] is None or ways['JPEG 90, reliable, in order']['p99_s'] > 0.2
    assert ways['the robot alone']['answered'] == 1.0


def test_a_recorded_link_is_played_and_its_silence_costs_answers(recording, tmp_path):
    trace = tmp_path / 'trace.csv'
    lines = [f'{number},{number * 0.02},100,{number * 0.02}' for number in range(1000) if number < 150 or number > 350]
    trace.write_text('\n'.join(['sequence,arrived_s,bytes,sent_s', *lines]) + '\n')
    ways = {way['way']: way for way in compared(recording, tmp_path, '--trace', str(trace), '--only', 'JPEG 90, best')['ways']}
    assert 0 < ways['JPEG 90, best effort']['answered'] < 1


def test_the_links_of_evitif_are_sealed(recording, tmp_path):
    from evitif.protocol.wire.datagram import SEALED_VERSION
    from evitif.transport import ImpairedChannel
    seen, offer = set(), ImpairedChannel.offer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImpairedChannel, 'offer', lambda self, data, now: seen.add(data[2]) or offer(self, data, now))
        compared(recording, tmp_path, '--only', 'split at cut 3, accuracy_margin 0.03')
    assert seen == {SEALED_VERSION}


def test_an_interrupted_comparison_goes_on(recording, tmp_path, monkeypatch, capsys):
    import evitif_lab.advice.advice as advice
    judge, judged = advice.judge, []

    def stops(way, *rest):
        if len(judged) == 2:
            raise KeyboardInterrupt
        judged.append(way.title)
        return judge(way, *rest)
    monkeypatch.setattr(advice, 'judge', stops)
    with pytest.raises(KeyboardInterrupt):
        advice_run(recording, tmp_path)
    judged_first = [*judged]
    monkeypatch.setattr(advice, 'judge', lambda way, *rest: judged.append(way.title) or judge(way, *rest))
    advice_run(recording, tmp_path)
    assert 'going on from 2' in capsys.readouterr().out
    assert len(judged) == len(set(judged)) and set(judged_first) < set(judged)
    assert not (tmp_path / 'compare.json.partial').exists()


def advice_run(recording: Path, folder: Path) -> None:
    from evitif_cli import compare
    from evitif_cli.main import build_parser
    arguments = ['compare', str(recording), '--model', MODEL, '--cut', '3', '--deadline', '3', '--output', str(folder),
                 '--only', 'JPEG', '--only', 'alone']
    compare.run(build_parser().parse_args(arguments), ' '.join(arguments))


def finding(way: str, right: float, size: float) -> Finding:
    return Finding(way, right, None, 1.0, 0.0, 0.01, 0.02, size, 0.1, 0.0)


def test_the_fewest_bytes_are_recommended_among_those_that_are_as_good_as_the_best():
    ways = [finding('a', 0.95, 3000), finding('b', 0.955, 9000), finding('c', 0.7, 100)]
    assert recommend(ways, 0.2).startswith('a: 95.0 %') and 'b has 95.5 %' in recommend(ways, 0.2)
    assert 'nothing is sent' in recommend([finding('the robot alone', 1.0, 0.0), *ways], 0.2)


@pytest.mark.parametrize(('options', 'words'), [
    (['--loss', '0.8', '--burst', '1.1'], 'the link cannot be so'), (['--start', '1000'], 'no image that can be read'),
    (['--only', 'pigeons'], 'no way of sending'), (['--trace', '/nowhere.csv'], "the trace '/nowhere.csv' cannot be read")])
def test_what_cannot_be_is_said(recording, tmp_path, capsys, options, words):
    assert main(['compare', str(recording), '--model', MODEL, '--output', str(tmp_path), *options]) == 1
    assert words in capsys.readouterr().err
