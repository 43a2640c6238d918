"""What the comparison of the adaptive sender with fixed ones makes of its streams."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))      # it is run from the repository and not installed
pytest.importorskip('torch')
from benchmarks import adaptive
from benchmarks.adaptive import ADAPTIVE, Fixed, section, targets_of
from benchmarks.adaptive_links import DRIFT, Policer, drifting, falling, links, stepping
from evitif.transport.impairment import ImpairedChannel, Impairment


def cell(link, sender, *rights):
    return {'link': link, 'sender': sender, 'runs': [{'right': right} for right in rights]}


def test_adaptive_is_judged_beside_the_best_of_the_fixed_ones_on_the_same_frames():
    cells = [cell('poor', ADAPTIVE, '1110', '1111'), cell('poor', 'a', '1111', '1111'), cell('poor', 'b', '0000', '1111'),
             cell(DRIFT, ADAPTIVE, '1111'), cell(DRIFT, 'a', '1110'), cell(DRIFT, 'b', '0000')]
    poor, drift = targets_of(cells)
    assert poor['measured'].startswith('-12.5 points (95 %: ') and 'a 100.0 %' in poor['measured'] and not poor['holds']
    assert drift['measured'].startswith('+25.0 points') and drift['holds']
    equal, = targets_of([cell('poor', ADAPTIVE, '10'), cell('poor', 'a', '01')])
    assert equal['holds'] and equal['measured'].startswith('+0.0 points')


def test_the_page_has_each_sender_on_each_link(tmp_path):
    result = {'model': 'm', 'cut': 1, 'data': 'd', 'frame_rate': 10.0, 'delay_s': 0.01, 'queue_s': 0.3, 'deadline_s': 0.5,
              'figures': {'cells': [cell('poor', ADAPTIVE, '10'), cell('poor', 'a', '11'), cell(DRIFT, ADAPTIVE, '1'),
                                    cell(DRIFT, 'a', '0')]}}
    text = section(result, tmp_path)
    assert 'beside' not in text and '| poor | 50.0 | **100.0** |' in text and f'| {DRIFT} | **100.0** | 0.0 |' in text


def test_the_page_says_what_a_flow_beside_has(tmp_path):
    cells = [cell(link, sender, '10') for link in ('beside', DRIFT) for sender in (ADAPTIVE, 'a')]
    for each in cells[:2]:
        each['runs'][0] |= {'mbit_s': 0.8, 'flow_mbit_s': 1.2}
    result = {'model': 'm', 'cut': 1, 'data': 'd', 'frame_rate': 10.0, 'delay_s': 0.01, 'queue_s': 0.3, 'deadline_s': 0.5,
              'figures': {'cells': cells}}
    assert 'beside: the adaptive sender has 0.80 Mbit/s, the flow 1.20 Mbit/s.' in section(result, tmp_path)


def test_an_interrupted_comparison_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    ran = []

    class Streams:
        stream, ids, edge_config = None, [0], SimpleNamespace(answer_deadline=0.5)

        def __init__(self, *_):
            pass

        def fixed(self):
            return [Fixed('int8', 1)]

        def stream_of(self, sender, link, seed):
            if len(ran) == 5 and 'stopped' not in ran:
                ran.append('stopped')
                raise KeyboardInterrupt
            ran.append((link.name, sender, seed))
            return {'right': '10'}

    monkeypatch.setattr(adaptive, 'Bench', Streams)
    with pytest.raises(KeyboardInterrupt):
        adaptive.run(True, tmp_path)
    adaptive.run(True, tmp_path)
    assert 'going on from 5' in capsys.readouterr().out
    streams = [one for one in ran if one != 'stopped']
    assert len(streams) == len(set(streams)) == 2 * len(links(True))


def test_the_drift_begins_and_ends_well_and_is_bad_between():
    link = drifting(60.0)
    assert link(0.0).loss == 0 and link(0.0).rate_bit_s == pytest.approx(5e6) and link(30.0).loss == pytest.approx(0.8)
    assert min(link(second).rate_bit_s for second in range(60)) == pytest.approx(0.3e6, rel=0.1)
    assert links(True)[-1].name == DRIFT


def test_a_link_falls_into_a_deep_queue_and_another_one_gets_longer_and_shorter():
    fall = falling(5.0, 0.5, 2.0, at=4.0)
    assert [(fall(now).rate_bit_s, fall(now).queue_s) for now in (3.9, 4.0)] == [(5e6, 0.3), (0.5e6, 2.0)]
    step = stepping(0.06, 4.0, 0.1, 5.0)
    assert [step(now).delay_s for now in (-1.0, 3.9, 4.0, 8.0)] == pytest.approx([0.01, 0.01, 0.07, 0.01])


def test_a_policer_lets_its_rate_pass_without_a_delay_and_drops_the_rest():
    policer = Policer(ImpairedChannel())
    policer.set_impairment(Impairment(rate_bit_s=1e6, delay_s=0.01))
    passed = [when for number in range(2000) for when, _ in policer.offer(bytes(972), number / 1000)]
    assert len(passed) == pytest.approx(2 * 125 + 6, abs=2) and passed[0] == 0.01
    assert all(when * 1000 == pytest.approx(round(when * 1000)) for when in passed)
