"""The two package.xml files, what CMake installs, and the versions agree with one another and with the sources."""

import ast
import re
from pathlib import Path

import pytest

import evitif

ROOT = Path(__file__).resolve().parents[2]
EXECUTABLES = sorted(path for path in (ROOT / 'executables').iterdir() if path.is_file())


@pytest.fixture(scope='module', params=['.', 'evitif_msgs'])
def package(request):
    parser = pytest.importorskip('catkin_pkg.package', reason='catkin_pkg comes with colcon')
    warnings = []
    package = parser.parse_package(str(ROOT / request.param), warnings=warnings)
    assert not warnings
    return package


def test_the_description_is_valid_and_complete(package):
    package.validate()
    assert package.package_format == 3
    assert package.get_build_type() == 'ament_cmake'
    assert package.licenses == ['Apache-2.0']
    # colcon silently takes a package with a malformed address for one of another type.
    assert all(re.fullmatch(r'[\w.+-]+@[\w-]+(\.[\w-]+)+', maintainer.email) for maintainer in package.maintainers)


def test_the_versions_agree(package):
    assert package.version == evitif.__version__
    assert f'## [{evitif.__version__}]' in (ROOT / 'CHANGELOG.md').read_text()


def test_the_licence_is_the_whole_apache_2():
    text = (ROOT / 'LICENSE').read_text()
    assert (ROOT / 'evitif_msgs' / 'LICENSE').read_text() == text
    assert 'Version 2.0, January 2004' in text and 'END OF TERMS AND CONDITIONS' in text


def test_every_python_package_is_installed():
    installed = set(re.findall(r'ament_python_install_package\((\w+)\)', (ROOT / 'CMakeLists.txt').read_text()))
    of_the_source_tree = {'benchmarks', 'fuzz'}
    assert installed == {path.parent.name for path in ROOT.glob('*/__init__.py')} - of_the_source_tree


def test_every_executable_is_installed():
    installed = set(re.findall(r'executables/(\w+)', (ROOT / 'CMakeLists.txt').read_text()))
    assert installed == {path.name for path in EXECUTABLES}


def test_every_message_is_generated():
    generated = set(re.findall(r'msg/(\w+\.msg)', (ROOT / 'evitif_msgs' / 'CMakeLists.txt').read_text()))
    assert generated == {path.name for path in (ROOT / 'evitif_msgs' / 'msg').iterdir()}


@pytest.mark.parametrize('path', EXECUTABLES, ids=lambda path: path.name)
def test_the_executable_calls_a_main_that_exists(path):
    assert path.stat().st_mode & 0o111, 'it cannot be executed'
    text = path.read_text()
    assert text.startswith('#!/usr/bin/env python3\n')
    imported = next(node for node in ast.parse(text).body if isinstance(node, ast.ImportFrom) and node.names[0].name == 'main')
    module = pytest.importorskip(imported.module, reason='the nodes need rclpy')
    assert callable(module.main)


@pytest.mark.parametrize('path', sorted((ROOT / 'evitif_msgs' / 'msg').iterdir()), ids=lambda path: path.stem)
def test_every_field_of_a_message_is_explained(path):
    for line in path.read_text().splitlines():
        assert line.strip() in ('', '#') or '# ' in line, f'no comment: {line}'


def test_the_messages_have_the_fields_that_the_definitions_say():
    messages = pytest.importorskip('evitif_msgs.msg', reason='the messages are not built')
    for path in (ROOT / 'evitif_msgs' / 'msg').iterdir():
        defined = re.findall(r'^[\w/\[\]]+ +([a-z_0-9]+) *(?:#.*)?$', path.read_text(), re.MULTILINE)
        assert list(getattr(messages, path.stem).get_fields_and_field_types()) == defined, 'build the package again'
