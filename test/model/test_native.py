"""The compiled inner loops plan, write and read exactly as the Python ones do."""

import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evitif.model import native
from evitif.model.entropy_code import State
from evitif.model.entropy_tables import STEPS
from evitif.model.errors import CodeError
from evitif.model.sensitivity import Sensitivity
from evitif.pipeline.coded_choice import CodedChoice, Patches
from evitif.pipeline.coded_table import CodedTable
from fuzz.parsers import entropy_code

SOURCE = Path(__file__).resolve().parents[2] / 'native' / 'token_coder.c'
FLAGS = ('-O1', '-std=c11', '-Wall', '-Wextra', '-Werror', '-ffp-contract=off', '-shared', '-fPIC')


@pytest.fixture(scope='module')
def library(tmp_path_factory):
    """What the source as it is now becomes, whatever is installed."""
    if (compiler := shutil.which('cc')) is None:
        pytest.skip('there is no C compiler')
    path = tmp_path_factory.mktemp('native') / native.NAME
    subprocess.run([compiler, *FLAGS, '-o', path, SOURCE], check=True)
    return native.load(path)


def both(library, act):
    """What `act` returns with the library, and without it."""
    results = []
    for found in (library, None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, 'library', lambda found=found: found)
            results.append(act(entropy_code.__wrapped__()))
    return results


def read(code, payloads, parts, step, state):
    return [str(found) if isinstance(found, CodeError) else found.tolist()
            for found in code.unpack_parts(payloads, parts, step, state)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(0, len(STEPS) - 1), st.sampled_from((1, 30, 700, 32767)), st.booleans(), st.data())
def test_plans_and_bytes_are_the_same(library, seed, step, spread, referring, data):
    random = np.random.default_rng(seed)
    levels, before = (np.clip(random.standard_cauchy((7, 8)) * spread, -32767, 32767).astype(np.int16) for _ in range(2))
    state = State(before if seed % 3 else levels // 2, random.random(7) < 0.7) if referring else None
    parts = [np.array(sorted(places)) for places in data.draw(st.lists(st.sets(st.integers(0, 6), min_size=1), min_size=1, max_size=4))]
    unlike = Sensitivity(random.normal(0, 1, 6), random.normal(0, 0.01, 4)) if seed % 2 else None
    plan, expected = both(library, lambda code: code.with_sensitivity(unlike).plan(levels, step, state))
    for name in ('modes', 'known', 'symbols', 'classes', 'levels'):
        assert np.array_equal(getattr(plan, name), getattr(expected, name)), name
    assert np.allclose(plan.bits, expected.bits, rtol=1e-5)
    payloads, written = both(library, lambda code: code.pack_parts(plan, parts))
    assert payloads == written
    found, other = both(library, lambda code: read(code, payloads, parts, step, state))
    assert found == other == [plan.levels[places].tolist() for places in parts]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=120), st.integers(0, len(STEPS) - 1), st.booleans(), st.sets(st.integers(0, 6), min_size=1))
def test_any_bytes_are_read_alike(library, data, step, referring, places):
    state = State(np.full((7, 8), -32767, np.int16), np.arange(7) % 2 == 0) if referring else None
    found, expected = both(library, lambda code: read(code, [data], [np.array(sorted(places))], step, state))
    assert found == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from((1, 5, 60)), st.sampled_from((math.nan, 0.02, 0.4)), st.sampled_from((0.0, 0.5, 1.0)))
def test_a_frame_is_sent_in_the_same_way(library, seed, patches, loss, known):
    random = np.random.default_rng(seed)
    missed = random.lognormal(8, 2, patches)
    about = Patches(random.lognormal(3, 2, patches), missed, missed * random.random(patches), 2 * missed, random.random(patches) < known)
    table = CodedTable({str(step): 0.001 * 2**(step / 3) for step in range(6, 20, 2)}, {str(step): 3e4 / step for step in range(6, 20, 2)},
                       ((0.0, 0.0), (1.0, 0.5)))
    margin = random.choice((0.0, 0.01))
    found, expected = both(library, lambda code: CodedChoice(table, 90.0, margin).choose(
        12, about, 40.0, 1000, 1e9 if seed % 3 else 2000.0, loss, 4.0))
    assert vars(found) == pytest.approx(vars(expected))


def test_a_file_that_is_no_such_library_is_left_alone(tmp_path):
    (tmp_path / native.NAME).write_bytes(b'nothing')
    assert native.load(tmp_path / native.NAME) is None
