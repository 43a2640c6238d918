"""The suite measures what is not there, says what cannot be, and writes every target down."""

import sys
import types
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))      # it is run from the repository and not installed
from benchmarks import part, suite
from benchmarks.part import PartError, save, target
from evitif_cli import main


@pytest.fixture
def parts(monkeypatch):
    """Two parts: one that counts how often it was measured, one that cannot be."""
    counting, unable = types.ModuleType('benchmarks.counting'), types.ModuleType('benchmarks.unable')
    counting.measured = 0
    counting.TITLE = 'Counting'

    def run(quick, output):
        counting.measured += 1
        return save(output, 'counting', 'evitif bench counting', {'quick': quick},
                    [target('low', 'at most 1', '2', False, 'the reason'), target('high', 'at least 1', '2', True),
                     target('other', '-', '?', None)])

    def refuse(quick, output):
        raise PartError('there is no such thing here')
    counting.run, unable.run = run, refuse
    counting.section = lambda result, images: f'![plot]({{images}}/plot.png) quick: {result["figures"]["quick"]}'
    counting.summary = lambda result: '1 counted'
    for module in (counting, unable):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(suite, 'PARTS', ('benchmarks.counting', 'benchmarks.unable', 'benchmarks.not_there'))
    monkeypatch.setattr(suite, 'identity_of', lambda name, module, quick: {'quick': quick})
    return counting


def test_a_part_that_was_measured_is_not_measured_again_unless_asked_for_or_different(parts, tmp_path, capsys):
    arguments = ['--output', str(tmp_path), '--only', 'counting']
    assert main(['bench', '--quick', *arguments]) == 0
    assert main(['bench', '--quick', *arguments]) == 0
    assert parts.measured == 1 and 'measured already' in capsys.readouterr().out
    assert main(['bench', '--quick', '--again', *arguments]) == 0
    assert parts.measured == 2
    assert main(['bench', *arguments]) == 0       # the full form is another measurement
    assert parts.measured == 3


def test_a_part_that_cannot_run_says_why_and_the_others_go_on(parts, tmp_path):
    assert main(['bench', '--output', str(tmp_path)]) == 0
    page = (tmp_path / 'benchmarks.md').read_text()
    assert 'there is no such thing here' in page and 'benchmarks.not_there' in page
    assert '## Counting\n\n1 counted\n' in page and '- [Counting](counting.md)' in page
    page = (tmp_path / 'counting.md').read_text()
    assert '# Counting' in page and '![plot](./plot.png) quick: False' in page


def test_every_target_is_printed_and_in_the_page_with_its_verdict_and_reason(parts, tmp_path, capsys):
    main(['bench', '--output', str(tmp_path), '--only', 'counting'])
    printed, page = capsys.readouterr().out, (tmp_path / 'counting.md').read_text()
    assert 'NOT REACHED  low: 2 (target: at most 1)' in printed and 'holds  high: 2' in printed
    assert '| low | at most 1 | 2 | **no** |' in page and '| high | at least 1 | 2 | yes |' in page and '| other | - | ? | – |' in page
    assert '- low: the reason' in page
    whole = (tmp_path / 'benchmarks.md').read_text()
    assert '1 of 2 targets are reached' in whole and '| low | at most 1 | 2 |' in whole and '| high |' not in whole


def test_the_page_can_be_written_again_without_measuring(parts, tmp_path):
    assert main(['bench', '--output', str(tmp_path), '--page']) == 1       # nothing is there yet
    assert main(['bench', '--output', str(tmp_path), '--only', 'counting']) == 0
    (tmp_path / 'benchmarks.md').unlink()
    assert main(['bench', '--output', str(tmp_path), '--page']) == 0
    assert parts.measured == 1 and '## Counting' in (tmp_path / 'benchmarks.md').read_text()


def test_a_result_that_cannot_be_read_is_measured_again(parts, tmp_path):
    (tmp_path / 'counting.json').write_text('{')
    assert main(['bench', '--output', str(tmp_path), '--only', 'counting']) == 0
    assert parts.measured == 1


def test_an_unknown_part_is_refused_by_name(parts, tmp_path, capsys):
    assert main(['bench', '--output', str(tmp_path), '--only', 'speed']) == 1
    assert "there is no part 'speed' (expected some of counting, unable, not_there)" in capsys.readouterr().err


def test_nothing_that_can_be_measured_is_a_failure(parts, tmp_path):
    assert main(['bench', '--output', str(tmp_path), '--only', 'unable']) == 1


def test_figures_stand_only_for_the_sources_that_they_come_from(tmp_path, monkeypatch):
    for folder in suite.LIBRARY:
        (tmp_path / folder).mkdir(parents=True)
    source, page = tmp_path / suite.LIBRARY[0] / 'some.py', tmp_path / suite.LIBRARY[0] / 'some_page.py'
    source.write_text('a = 1')
    page.write_text('b = 1')
    own = tmp_path / 'benchmarks' / 'own.py'
    own.parent.mkdir()
    own.write_text('c = 1')
    monkeypatch.setattr(part, 'ROOT', tmp_path)
    module = types.ModuleType('benchmarks.own')

    def digest():
        return suite.identity_of('benchmarks.own', module, False)['sources']
    first = digest()
    page.write_text('b = 2')
    assert digest() == first
    source.write_text('a = 2')
    second = digest()
    own.write_text('c = 2')
    assert len({first, second, digest()}) == 3


def test_the_parts_that_ship_can_be_imported_and_have_what_the_suite_calls():
    pytest.importorskip('torch')
    for name in (*suite.PARTS, *suite.OTHER_PARTS):
        module = __import__(name, fromlist=['run'])
        assert callable(module.run) and callable(module.section) and module.TITLE


@pytest.mark.parametrize('name', ['sealing_cost', 'transport_calls'])
def test_a_part_of_seconds_measures_the_link_as_it_is_now(name, tmp_path):
    """What calls the link as a program would breaks where the link changes."""
    assert main(['bench', '--quick', '--only', name, '--output', str(tmp_path)]) == 0
    assert (tmp_path / f'{name}.json').exists()
