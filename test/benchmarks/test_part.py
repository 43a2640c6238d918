"""What the parts of the benchmark reckon with: percentiles with answers that never came, and intervals of ratios."""

import json
import math
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))      # it is run from the repository and not installed
from benchmarks.part import PartError, percentile, print_part, ratio_interval95, save, target


@given(st.lists(st.one_of(st.none(), st.floats(0, 1e4)), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values, share):
    found = percentile(values, share)
    numbers = [math.inf if value is None else value for value in values]
    assert found in numbers
    assert sum(number <= found for number in numbers) >= share * len(numbers) - 1e-6
    assert sum(number < found for number in numbers) < share * len(numbers) + 1e-6


def test_an_answer_that_never_came_is_above_all_others():
    assert percentile([1.0] * 98 + [None] * 2, 0.98) == 1.0
    assert percentile([1.0] * 98 + [None] * 2, 0.99) == math.inf
    assert math.isnan(percentile([], 0.5))


@given(st.integers(1, 5000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_the_interval_of_a_ratio_holds_it_and_stays_within_0_and_1(pair):
    hits, count = pair
    low, high = ratio_interval95(hits, count)
    assert 0 <= low <= hits / count + 1e-12 and hits / count - 1e-12 <= high <= 1


def test_the_interval_of_all_of_a_few_is_wider_than_that_of_all_of_many():
    assert ratio_interval95(10, 10)[0] == pytest.approx(0.722, abs=0.001)     # Wilson's for 10 of 10
    assert ratio_interval95(1000, 1000)[0] > 0.99
    assert ratio_interval95(0, 0) == (0.0, 1.0)


def test_a_result_says_how_it_was_made_and_where(tmp_path):
    fast = target('fast', 'at most 1 ms', '2 ms', False, 'a reason')
    save(tmp_path / 'new', 'some', 'evitif bench some', {'figure': 1.5}, [fast], rounds=3)
    written = json.loads((tmp_path / 'new' / 'some.json').read_text())
    assert written['command'] == 'evitif bench some' and written['rounds'] == 3 and written['figures'] == {'figure': 1.5}
    assert written['machine']['cpus'] >= 1
    assert written['targets'] == [{'name': 'fast', 'target': 'at most 1 ms', 'measured': '2 ms', 'holds': False, 'note': 'a reason'}]


def test_a_part_by_itself_prints_its_section_and_targets_or_why_it_cannot_be_measured(tmp_path, capsys):
    result = save(tmp_path, 'some', 'evitif bench some', {}, [target('fast', 'at most 1 ms', '2 ms', False)])
    assert print_part('some', lambda: result, lambda result, images: f'section of {result["name"]}', tmp_path) == 0
    assert capsys.readouterr().out == 'section of some\nfast: 2 ms (target: at most 1 ms)\n'

    def refuse():
        raise PartError('there is no such thing here')
    assert print_part('some', refuse, str, tmp_path) == 1
    assert capsys.readouterr().out == 'some: there is no such thing here\n'
