"""Every command and example of the pages works: it is run where that is quick, else read by what would read it."""

import contextlib
import io
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from documents.checks import NO_COMMANDS, check, parameters, parse_evitif, simple_commands
from documents.fences import ROOT, blocks, commands

from evitif.datasets import DatasetError, fashion_mnist
from evitif.settings import setting

BLOCKS, COMMANDS = blocks(), commands()
# Blocks that nothing reads: (page, beginning of the text) and why.
NOT_CHECKED: dict[tuple[str, str], str] = {}
UNCHECKED_LANGUAGES = {'text': 'a drawing, or what a program prints', 'mermaid': '`make docs` draws it'}
EXAMPLES = [block for block in BLOCKS if block.language == 'python' and (block.page, block.text.splitlines()[0]) not in NOT_CHECKED]


def verbs() -> list[tuple[str, ...]]:
    """The verbs of evitif that the pages name, up to the first option."""
    found = set()
    for command in COMMANDS:
        for words in simple_commands(command.text):
            if words[0] == 'evitif' and len(words) > 1 and words[1].isalpha():
                found.add(tuple(word for word in words[1:3] if word.isalpha() and word.islower()))
    return sorted(found)


def test_the_pages_show_commands_and_examples():
    assert len(COMMANDS) > 60 and len(EXAMPLES) >= 2 and len(verbs()) > 5      # the readers still find them


@pytest.mark.parametrize('block', BLOCKS, ids=lambda block: f'{block.page}:{block.line}')
def test_every_block_is_of_a_kind_that_is_checked(block):
    known = {'bash', 'console', 'python', 'yaml', *UNCHECKED_LANGUAGES}
    assert block.language in known, f'{block.page}:{block.line}: {block.language!r}: expected one of {", ".join(sorted(known))}'


def test_what_is_not_checked_is_still_there():
    assert set(NOT_CHECKED) <= {(block.page, block.text.splitlines()[0]) for block in BLOCKS}
    assert set(NO_COMMANDS) <= {command.text for command in COMMANDS}


@pytest.mark.parametrize('command', COMMANDS, ids=str)
def test_a_command_is_right(command):
    if 'evitif' in command.text.split() and find_spec('torch') is None:
        pytest.skip('PyTorch is not installed')
    check(command)


@pytest.mark.skipif(find_spec('torch') is None, reason='PyTorch is not installed')
@pytest.mark.parametrize('verb', verbs(), ids=' '.join)
def test_a_verb_has_help(verb):
    assert parse_evitif([*verb, '--help']) == ''


def test_the_key_command_writes_a_key(tmp_path, monkeypatch):
    from evitif_cli.main import main
    monkeypatch.chdir(tmp_path)
    line = next(command.text for command in COMMANDS if command.text.startswith('evitif key new'))
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(simple_commands(line)[0][1:]) == 0
    assert (tmp_path / 'rover.key').stat().st_mode & 0o777 == 0o600


@pytest.fixture
def example_folder(tmp_path, monkeypatch):
    """A folder with the files that the examples name; Fashion-MNIST is found from there too."""
    with contextlib.suppress(DatasetError):
        monkeypatch.setenv(fashion_mnist.ENVIRONMENT_VARIABLE, str(fashion_mnist.locate().resolve()))
    rng = np.random.default_rng(3)
    Image.fromarray(rng.integers(0, 255, (28, 28, 3), np.uint8)).save(tmp_path / 'photo.png')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.skipif(find_spec('torch') is None, reason='PyTorch is not installed')
@pytest.mark.parametrize('page', sorted({block.page for block in EXAMPLES}))
def test_the_examples_of_a_page_run(page, example_folder):
    """In their order and with one another's names, as a reader would paste them."""
    image = np.zeros((28, 28, 3), np.uint8)
    names = {'image': image, 'pixels': image, 'camera': [image] * 3, 'setting': setting, '__name__': 'example'}
    if any('MovingFashion' in block.text for block in EXAMPLES if block.page == page):
        try:
            fashion_mnist.locate()
        except DatasetError as error:
            pytest.skip(str(error))
    for block in EXAMPLES:
        if block.page == page:
            if 'features, present' in block.text:
                names |= partition_stand_ins()
            code = '\n' * (block.line - 1) + block.text
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(code, str(ROOT / page), 'exec'), names)


def partition_stand_ins() -> dict[str, np.ndarray]:
    """What the bridge has of three devices: their features, and which of them came."""
    from evitif.partition import load_device
    device = load_device('artifacts/fashion_mnist/partition-3', 'device0')
    row = device.features(device.preprocessor(np.zeros((28, 28, 3), np.uint8)))
    return {'features': np.stack([row] * 3), 'present': np.array([True, True, False])}


@pytest.mark.parametrize('block', [block for block in BLOCKS if block.language == 'yaml'], ids=lambda block: f'{block.page}:{block.line}')
def test_yaml_is_valid_and_names_parameters_that_exist(block):
    content = yaml.safe_load(block.text)
    assert isinstance(content, dict)
    for node, values in content.items():
        if isinstance(values, dict) and 'ros__parameters' in values:
            for name, value in values['ros__parameters'].items():
                for full, setting in ({name: value} if not isinstance(value, dict) or name in parameters() else
                                      {f'{name}.{key}': inner for key, inner in value.items()}).items():
                    if full.startswith('qos_overrides'):        # ROS's own
                        continue
                    assert full in parameters(), f'{block.page}:{block.line}: {node} has no parameter {full}'
                    assert None in [parameter.refusal(setting) for parameter in parameters()[full]], f'{block.page}: {full}: {setting}'


def test_make_is_installed():
    assert shutil.which('make'), 'the commands of the pages need make'
