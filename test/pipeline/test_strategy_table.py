"""`strategy: auto`: what is measured decides, what does not fit is refused with what would, and edge and bridge choose alike."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running_system import IMAGE, System, wait

from evitif.model.errors import ArtifactError
from evitif.model.folder import find_model_folder
from evitif.pipeline.strategies import edge_strategy
from evitif.pipeline.strategy_table import AS_GOOD, FILE, Measured, choose, load_table, resolved, save_table
from evitif.settings import edge_settings

RATES = (0.0, 0.3, 0.6)


def row(strategy, sizes, points, multiply_adds=1e6, **names):
    return Measured(strategy, names.get('cut'), names.get('light_model'), multiply_adds, dict(zip(RATES, sizes, strict=True)),
                    dict(zip(RATES, points, strict=True)))


SPLIT = row('split', (19_000, 20_000, 21_000), (0.0, -0.1, -0.4), 60e6, cut=2)
SELECTION = row('selection', (900, 2_800, 6_400), (-0.7, -1.0, -1.0), 120e6, light_model='light')


@pytest.mark.parametrize('expected, chosen', [
    ({}, SPLIT), ({'frame_bytes': 10_000}, SELECTION), ({'frame_bytes': 20_000, 'loss': 0.45}, SELECTION),
    ({'frame_bytes': 20_500, 'loss': 0.45}, SPLIT), ({'multiply_adds': 100e6}, SPLIT), ({'frame_bytes': 6_400, 'loss': 0.9}, SELECTION)])
def test_the_most_accurate_that_fits_is_chosen(expected, chosen):
    assert choose([SPLIT, SELECTION], **expected) is chosen


def test_what_is_as_good_and_takes_fewer_bytes_is_chosen():
    near = row('selection', (900, 2_800, 6_400), (-0.4, -1.0, -1.0), light_model='near')
    assert choose([SPLIT, near]) is near and choose([SPLIT, near], loss=0.3) is SPLIT


@given(rows=st.lists(st.tuples(st.floats(1, 1e5), st.floats(-20, 1), st.floats(1e6, 1e9)), min_size=1, max_size=6),
       loss=st.floats(0, 0.99), budget=st.floats(0, 1e5))
def test_nothing_that_fits_is_much_better(rows, loss, budget):
    table = [row('split', (size,) * 3, (points,) * 3, adds, cut=index) for index, (size, points, adds) in enumerate(rows)]
    fitting = [entry for entry in table if not budget or entry.bytes[0.0] <= budget * (1 - 1e-9)]
    if not fitting:
        return
    chosen = choose(table, budget, loss)
    assert not budget or chosen.bytes[0.0] <= budget * (1 + 1e-9)
    assert all(entry.points[0.0] <= chosen.points[0.0] + AS_GOOD + 1e-6 for entry in fitting)


@pytest.mark.parametrize('expected, words', [
    ({'frame_bytes': 1_000, 'loss': 0.6}, 'at most 1000 bytes for an image at 60 % loss: expected at least 6400'),
    ({'multiply_adds': 50e6}, 'at most 50 million multiply-adds for an image on the robot: expected at least 60')])
def test_what_nothing_fits_is_refused_with_what_would(expected, words):
    with pytest.raises(ValueError, match=words):
        choose([SPLIT, SELECTION], **expected)


def test_a_table_comes_back_as_it_was_written_and_a_bad_one_is_refused(pair, tmp_path):
    (tmp_path / 'model.json').write_text('{}')
    with pytest.raises(ArtifactError, match=f'has no {FILE}, by which strategy auto chooses'):
        load_table(str(tmp_path))
    save_table(tmp_path, 'large', [SPLIT, SELECTION], 'command')
    assert load_table(str(tmp_path)) == [SPLIT, SELECTION]
    path = tmp_path / FILE
    content = json.loads(path.read_text())
    for change in ({'rows': []}, {'rows': [{'strategy': 'split'}]}, {'rows': [{**content['rows'][0], 'points': {'0': 1.0}}]}, {'rows': 5},
                   {'rows': [{**content['rows'][0], 'strategy': 'local'}]}, {'kind': 'other'}, {'format': 2}):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(ArtifactError, match='table of strategies'):
            load_table(str(tmp_path))


@pytest.fixture
def table(pair, tmp_path):
    """The configuration of both sides, for a large model with a table."""
    light, large = pair
    folder = tmp_path / 'large'
    shutil.copytree(large, folder)
    save_table(folder, 'large', [row('split', (9_000,) * 3, (0.0,) * 3, 60e6, cut=1),
                                 row('selection', (900, 2_800, 6_400), (-0.7, -1.0, -1.0), 120e6, light_model=light)], '')
    return {'unsealed': True, 'strategy': 'auto', 'model': str(folder), 'threads': 1}


def test_edge_and_bridge_choose_alike_and_answer(table, pair):
    for budget, strategy in ((0.0, 'split'), (3_000.0, 'selection')):
        both = {**table, 'auto_frame_bytes': budget, 'auto_loss': 0.3}
        if strategy == 'selection':     # its settings name the large model's weights, which are those of the copy as well
            assert resolved(edge_settings(**both))[0].light_model == pair[0]
        with System(both, bridge=both) as system:
            system.connected()
            system.edge.submit(IMAGE, 7)
            wait(lambda system=system: system.robot)
            (answer,) = system.robot
        assert (answer.strategy, answer.how) == (strategy, 'off-board') and np.isfinite(answer.scores).all()


def test_other_expectations_on_the_two_sides_are_refused(table):
    with System({**table, 'auto_frame_bytes': 3_000.0}, bridge=table) as system:
        wait(lambda: system.edge.statistics().state == 'refused')
        assert system.edge.statistics().reason == 'strategy: the edge has selection, the bridge has split'


def test_a_cut_and_a_light_model_that_are_named_are_kept_to(table, pair, tmp_path):
    assert resolved(edge_settings(**table, cut=1))[0].cut == 1
    config, note = resolved(edge_settings(**table, cut=3))
    assert config.strategy == 'selection' and note.startswith('strategy auto: selection with ')
    with pytest.raises(ValueError, match="cut is 3 and light_model 'elsewhere': expected some that the table"):
        resolved(edge_settings(**table, cut=3, light_model='elsewhere'))
    assert edge_strategy(edge_settings(**table)).description.startswith('strategy auto: split at block 1, 9000 bytes')


@pytest.mark.parametrize('name, value', [('auto_frame_bytes', -1.0), ('auto_loss', 1.0), ('auto_multiply_adds', -1.0)])
def test_impossible_expectations_are_refused(name, value):
    with pytest.raises(ValueError, match=f'{name} is {value}'):
        edge_settings(strategy='auto', **{name: value})


SHIPPED = sorted(Path(__file__).parents[2].glob(f'artifacts/*/{FILE}'))


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.parent.name)
def test_a_thin_link_takes_selection_by_the_shipped_tables_and_a_wide_one_what_is_most_accurate(path):
    rows = load_table(str(path.parent))
    thin = choose(rows, frame_bytes=4000, loss=0.3)
    assert thin.strategy == 'selection' and find_model_folder(thin.light_model) is not None
    wide = choose(rows, loss=0.3)
    assert wide.points[0.3] >= max(row.points[0.3] for row in rows) - AS_GOOD


def test_with_heads_auto_stays_with_split(tmp_path):
    save_table(tmp_path, 'large', [SPLIT, SELECTION], '')
    (tmp_path / 'model.json').write_text('{}')
    for heads, strategy in (('', 'selection'), ('artifacts/rooms', 'split')):
        config = edge_settings('auto', model=str(tmp_path), heads=heads, auto_frame_bytes=0.0 if heads else 10_000.0, unsealed=True)
        found, _ = resolved(config)
        assert (found.strategy, found.heads) == (strategy, heads)
    save_table(tmp_path, 'large', [SELECTION], '')
    with pytest.raises(ValueError, match="and heads 'artifacts/rooms', which only strategy split runs: expected"):
        resolved(edge_settings('auto', model=str(tmp_path), heads='artifacts/rooms', unsealed=True))
