"""The tree of verbs: quick to start, and each verb needs only what it uses."""

import subprocess
import sys

import pytest

from evitif_cli import main
from evitif_cli.main import VERBS

HEAVY = ('torch', 'timm', 'matplotlib', 'tqdm', 'evitif_lab.training', 'evitif_lab.evaluation', 'benchmarks', 'fuzz')


def paths(table, before=()):
    for name, (_, below) in table.items():
        yield from paths(below, (*before, name)) if isinstance(below, dict) else [(*before, name)]


def run(code: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-c', code, *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize('arguments', [('--help',), ('train', '--help'), ('key', 'new', '--help'), ('link', '--help'), ('fetch', '--help')])
def test_help_loads_nothing_heavy(arguments):
    done = run('import sys\nfrom evitif_cli import main\ntry:\n    main(sys.argv[1:])\nfinally:\n'
               f'    print("LOADED", *({set(HEAVY)!r} & sys.modules.keys()))', *arguments)
    assert 'usage: evitif' in done.stdout and done.stdout.strip().endswith('LOADED'), done.stdout + done.stderr


@pytest.mark.parametrize('path', paths(VERBS), ids=' '.join)
def test_every_verb_says_how_it_is_used(path, capsys):
    with pytest.raises(SystemExit) as left:
        main([*path, '--help'])
    assert left.value.code == 0 and f'usage: evitif {" ".join(path)}' in capsys.readouterr().out


def test_without_the_source_tree_the_verbs_that_need_it_say_so(tmp_path, monkeypatch):
    code = ('import sys\nsys.modules.update(dict.fromkeys(("benchmarks", "fuzz")))\nfrom evitif_cli import main\n'
            'sys.exit(main(sys.argv[1:]))')
    monkeypatch.chdir(tmp_path)
    for verb in ('bench', 'soak', 'fuzz'):
        done = run(code, verb)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and 'needs the source tree' in done.stderr, done.stderr


def test_options_of_all_parts_before_one_part_are_refused(capsys):
    assert main(['bench', '--quick', 'robots']) == 1
    assert '`evitif bench robots --quick`' in capsys.readouterr().err


def test_the_help_of_the_benchmark_lists_its_parts(capsys):
    with pytest.raises(SystemExit):
        main(['bench', '--help'])
    told = capsys.readouterr().out
    assert '* From image to answer' in told and 'robots' in told and 'timm_families' in told


@pytest.mark.parametrize('package', ['tqdm', 'matplotlib'])
def test_without_the_laboratory_a_verb_says_which_package_it_needs(package, monkeypatch, capsys):
    def missing(name):
        raise ModuleNotFoundError(f'No module named {package!r}', name=package)
    monkeypatch.setattr('evitif_cli.tree.importlib.import_module', missing)
    assert main(['train', 'model', '--help']) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and repr(package) in said and 'requirements/laboratory.txt' in said
