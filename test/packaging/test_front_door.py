"""`import evitif`: quick, and every name that it offers is documented and has an example that runs."""

import doctest
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import evitif

ROOT = Path(__file__).resolve().parents[2]
# The order in which the examples build on one another.
STORY = ['load_model', 'CutModel', 'encode', 'decode', 'load_recovery', 'recover', 'classify', 'make_key', 'run_bridge', 'run_edge',
         'Prediction']


def test_the_names_are_those_that_the_docstring_lists():
    documented = re.findall(r'^- `(\w+)`: ', evitif.__doc__, re.MULTILINE)
    assert sorted(documented) == sorted(evitif.__all__) == sorted(STORY)
    assert 8 <= len(evitif.__all__) <= 12


def test_the_import_needs_nothing_but_python():
    code = 'import sys, evitif; print(*sorted({name.split(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)))'
    loaded = subprocess.run([sys.executable, '-S', '-c', code], env={'PYTHONPATH': str(ROOT)}, capture_output=True, text=True, check=True)
    assert set(loaded.stdout.split()) <= {'evitif', '__main__'}


def test_a_name_that_does_not_exist_is_refused_as_in_any_module():
    with pytest.raises(AttributeError, match="module 'evitif' has no attribute 'no_such_name'"):
        evitif.no_such_name  # noqa: B018
    assert set(evitif.__all__) <= set(dir(evitif))


@pytest.mark.skipif(find_spec('timm') is None, reason='PyTorch and timm are not installed')
def test_every_name_has_an_example_that_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = {'evitif': evitif, 'np': np}
    runner, told = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS), []
    for name in STORY:
        own = getattr(evitif, name).__doc__
        test = doctest.DocTestParser().get_doctest(own, known, name, None, 0)
        assert test.examples, f'{name} has no example'
        test.globs = known
        runner.run(test, out=told.append, clear_globs=False)
    assert not runner.failures, ''.join(told)
