"""package.xml names everything that the installed code imports, and the code keeps to the Python of the oldest ROS 2 it is for."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = re.findall(r'ament_python_install_package\((\w+)\)', (ROOT / 'CMakeLists.txt').read_text())
# The keys of rosdep that are named otherwise than the module; a package of ROS has its own name.
KEYS = {'numpy': 'python3-numpy', 'PIL': 'python3-pil', 'cv2': 'python3-opencv', 'torch': 'python3-torch', 'tqdm': 'python3-tqdm',
        'torchvision': 'python3-torchvision-pip', 'timm': 'python3-timm-pip', 'matplotlib': 'python3-matplotlib',
        'cryptography': 'python3-cryptography', 'yaml': 'python3-yaml',
        # timm brings them, and there are no keys of their own for every platform
        'safetensors': 'python3-timm-pip', 'huggingface_hub': 'python3-timm-pip'}
# rosdep has none; package.xml says in words how to get it
NO_KEY = {'simplejpeg', 'constriction', 'rosbags', 'mcap', 'av', 'prometheus_client', 'ray'}
BROUGHT = {'apsw'}              # by rosbags
OLDEST_PYTHON = (3, 10)         # Ubuntu 22.04: Humble, and a Jetson with JetPack 6


def sources():
    folders = [*INSTALLED, 'launch', 'executables']
    found = [path for name in folders for path in (ROOT / name).rglob('*')]
    return [path for path in found if path.is_file() and (path.suffix == '.py' or path.parent.name == 'executables')]


def imported(path: Path) -> set[str]:
    """The modules of others that a file imports, at whatever place."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.split('.')[0] for name in names} - set(sys.stdlib_module_names) - {*INSTALLED, 'evitif_msgs'}


def test_package_xml_names_what_the_installed_code_imports():
    parser = pytest.importorskip('catkin_pkg.package', reason='catkin_pkg comes with colcon')
    package = parser.parse_package(str(ROOT))
    named = {dependency.name for dependency in package.exec_depends}
    missing = {(KEYS.get(module, module), str(path.relative_to(ROOT))) for path in sources() for module in imported(path)
               if KEYS.get(module, module) not in named | NO_KEY | BROUGHT}
    assert not missing
    assert all(f'pip install {module}' in (ROOT / 'package.xml').read_text() for module in NO_KEY)


def test_package_xml_names_what_the_messages_are_made_of():
    parser = pytest.importorskip('catkin_pkg.package', reason='catkin_pkg comes with colcon')
    definitions = ''.join(path.read_text() for path in (ROOT / 'evitif_msgs' / 'msg').iterdir())
    used = set(re.findall(r'^([a-z]\w+)/', definitions, re.MULTILINE))
    for folder in ('.', 'evitif_msgs'):         # the root builds them too where nobody else does
        package = parser.parse_package(str(ROOT / folder))
        assert used <= {dependency.name for dependency in package.build_depends} & {dependency.name for dependency in package.exec_depends}


@pytest.mark.parametrize('folder', ['.', 'evitif_msgs'])
def test_package_xml_says_who_wrote_it_and_where_it_is(folder):
    parser = pytest.importorskip('catkin_pkg.package', reason='catkin_pkg comes with colcon')
    package = parser.parse_package(str(ROOT / folder))
    assert package.urls and package.authors
    assert all((ROOT / folder / licence.file).is_file() for licence in package.licenses)


def test_the_code_keeps_to_the_oldest_python():
    # What Python took in later, and would be missed only where it runs; ruff looks at the syntax (target-version).
    later = {'tomllib', 'ExceptionGroup', 'BaseExceptionGroup', 'Self', 'assert_never', 'StrEnum', 'override', 'batched', 'TaskGroup',
             'LiteralString', 'Never', 'NotRequired', 'reveal_type', 'dataclass_transform'}
    found = []
    for path in sources():
        tree = ast.parse(path.read_text(), feature_version=OLDEST_PYTHON)
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | {
            alias.name for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names}
        found += [f'{path.relative_to(ROOT)}: {name}' for name in names & later]
    assert not found
