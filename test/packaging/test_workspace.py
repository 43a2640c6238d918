"""The messages as a package of their own: a workspace with the whole repository and who only needs its messages, in C++ and in Python.

Of evitif itself the files are empty here; the messages, and what decides how they are built, are the repository's.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONSUMERS = Path(__file__).parent / 'consumers'
pytestmark = pytest.mark.timeout(900)       # generating and compiling messages takes half a minute, on a busy machine several


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder in which colcon can build messages; skips where it cannot, saying what is missing."""
    for program in ('colcon', 'cmake', 'make', 'git'):
        if shutil.which(program) is None:
            pytest.skip(f'{program} is not installed')
    if not any(map(shutil.which, ('c++', 'g++', 'clang++'))):
        pytest.skip('there is no C++ compiler')
    for package in ('ament_cmake', 'rosidl_default_generators', 'rosidl_generator_cpp'):
        if not any(Path(prefix, 'share', package).is_dir() for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)):
            pytest.skip(f'{package} is not in AMENT_PREFIX_PATH')
    folder = tmp_path_factory.mktemp('workspace')
    lay_out_repository(folder / 'src' / 'evitif')
    shutil.copytree(CONSUMERS, folder / 'src', dirs_exist_ok=True)
    return folder


def lay_out_repository(folder: Path) -> None:
    """The repository's build files and messages, and everything else that CMakeLists.txt names as an empty folder or file."""
    folder.mkdir(parents=True)
    build = (ROOT / 'CMakeLists.txt').read_text()
    for name in re.findall(r'ament_python_install_package\((\w+)\)', build):
        (folder / name).mkdir()
        (folder / name / '__init__.py').touch()
    for name in ('artifacts', 'config', 'docs', 'foxglove', 'launch', 'rviz'):
        (folder / name).mkdir()
    for name in ('evitif_msgs', 'cmake', 'executables', 'native'):
        shutil.copytree(ROOT / name, folder / name)
    for name in ('CMakeLists.txt', 'package.xml', 'colcon.pkg', 'LICENSE', 'README.md', 'CHANGELOG.md'):
        shutil.copy(ROOT / name, folder)


def colcon(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(('MAKE', 'MFLAGS', 'COLCON'))}
    answer = subprocess.run(['colcon', *arguments], cwd=folder, env=environment, capture_output=True, text=True, errors='replace')
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@pytest.fixture(scope='module')
def built(workspace):
    """The workspace after one build, told of the messages' folder as docs/install.md says, and colcon's output."""
    output = colcon(workspace, 'build', '--base-paths', 'src', 'src/evitif/evitif_msgs', '--event-handlers', 'console_direct+',
                    '--cmake-args', '-DBUILD_TESTING=OFF', f'-DPython3_EXECUTABLE={sys.executable}')
    return workspace, output


def run_in(workspace: Path, command: str) -> str:
    """What a command prints in the workspace's environment."""
    # From Python, whose wheels of ROS 2 bring the libraries' paths along.
    code = 'import subprocess, sys; sys.exit(subprocess.run(["bash", "-c", sys.argv[1]]).returncode)'
    line = f'. {workspace}/install/local_setup.bash && {command}'
    answer = subprocess.run([sys.executable, '-c', code, line], cwd=workspace, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_the_messages_are_built_before_who_depends_on_them(built):
    _, output = built
    finished, started = (re.findall(rf'^{word} [<>]{{3}} (\w+)', output, re.MULTILINE) for word in ('Finished', 'Starting'))
    assert sorted(finished) == ['a_cpp_consumer', 'a_python_consumer', 'evitif', 'evitif_msgs']
    assert started[0] == finished[0] == 'evitif_msgs'


def test_the_messages_are_built_once(built):
    workspace, output = built
    assert [str(path.relative_to(workspace)) for path in workspace.glob('install/*/share/evitif_msgs/package.xml')] == [
        'install/evitif_msgs/share/evitif_msgs/package.xml']
    assert not list(workspace.glob('install/evitif/lib/libevitif_msgs*'))
    assert output.count('Built target evitif_msgs__rosidl_generator_c\n') == 1


def test_licence_and_documents_are_installed(built):
    workspace, _ = built
    share = workspace / 'install' / 'evitif' / 'share' / 'evitif'
    assert all((share / name).exists() for name in ('LICENSE', 'README.md', 'docs'))
    assert (workspace / 'install' / 'evitif_msgs' / 'share' / 'evitif_msgs' / 'LICENSE').is_file()


def test_a_consumer_in_c_plus_plus_and_one_in_python_use_them(built):
    workspace, _ = built
    assert run_in(workspace, 'install/a_cpp_consumer/lib/a_cpp_consumer/a_cpp_consumer') == 'classes 134, 517 of rover\n'
    said = run_in(workspace, f'"{sys.executable}" -m a_python_consumer')
    assert said == f'classes 134, 517 of rover, {workspace}/install/evitif_msgs\n'


def test_who_needs_the_messages_only_finds_them_in_a_sparse_checkout(workspace, tmp_path):
    """What docs/install.md tells a subscriber's machine to do; colcon then sees one package, and none that needs PyTorch."""
    commands = re.search(r'```bash\n(git clone[^`]*sparse-checkout[^`]*)```', (ROOT / 'docs' / 'install.md').read_text()).group(1)
    origin = workspace / 'src' / 'evitif'
    if not (origin / '.git').exists():
        for command in (['init', '-q'], ['add', '-A'], ['-c', 'user.name=a', '-c', 'user.email=a@b.c', 'commit', '-qm', 'all']):
            subprocess.run(['git', *command], cwd=origin, check=True)
    lines = [line for line in commands.replace('<this repository>', origin.as_uri()).splitlines() if line.startswith('git')]
    subprocess.run(['bash', '-ec', '\n'.join(lines)], cwd=tmp_path, check=True, capture_output=True)
    assert colcon(tmp_path, 'list', '--names-only').split() == ['evitif_msgs']


def test_a_link_lets_colcon_find_the_messages_by_itself(workspace):
    consumers = ['a_cpp_consumer', 'a_python_consumer']
    assert colcon(workspace, 'list', '--names-only').split() == [*consumers, 'evitif']
    link = workspace / 'src' / 'evitif_msgs'
    link.symlink_to('evitif/evitif_msgs')
    try:
        assert colcon(workspace, 'list', '--names-only', '--topological-order').split() == ['evitif_msgs', *consumers, 'evitif']
    finally:
        link.unlink()
