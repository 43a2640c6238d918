"""Set up the environment that `make demo` and `make test` run in; called by scripts/setup.sh with a suitable Python.

With a sourced ROS 2 distribution the environment is a virtual environment on top of the distribution's Python (`.venv-<distro>`);
otherwise it is one with ROS 2 from PyPI's wheels in it (`.venv`). The colcon package is built inside it, in `workspace/`.

Each finished step leaves a stamp: a digest of what the step depends on. A step runs if its stamp is missing or differs. So you can
interrupt the set-up at any point and run it again. It uses Python's standard library only.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / 'requirements'
PIP = 'pip==26.3'
CPU_INDEX = 'https://download.pytorch.org/whl/cpu'
# Requirements whose module has another name.
MODULES = {'opencv-python-headless': 'cv2', 'pillow': 'PIL', 'pyyaml': 'yaml', 'colcon-common-extensions': 'colcon_core',
           'pytest-timeout': 'pytest_timeout', 'pytest-xdist': 'xdist'}
# The build of the colcon package depends on the content of the first, and on the file names of the second, which it installs as links.
BUILT = ('package.xml', 'CMakeLists.txt', 'cmake', 'evitif_msgs', 'executables', 'native')
LINKED = ('evitif', 'evitif_lab', 'evitif_fleet', 'evitif_cli', 'evitif_ros', 'evitif_edge_node', 'evitif_cloud_bridge', 'launch', 'config',
          'rviz', 'artifacts', 'docs')
DEVELOPMENT = ('laboratory', 'test')        # what a robot needs none of


class SetupError(Exception):
    """The set-up cannot go on; the text says why and what to do."""


class Environment:
    """A virtual environment, the steps that make it, and the record of the finished ones."""

    def __init__(self, folder: Path, distribution: str | None):
        self.folder = folder
        self.distribution = distribution
        self.python = folder / 'bin' / 'python'
        self.stamps = folder / '.evitif'
        self.log = self.stamps / 'log.txt'
        self.lock: int | None = None

    # Steps

    def step(self, name: str, title: str, inputs: Iterable[object], action: Callable[[], None]) -> None:
        """Run `action` unless it has already finished with the same inputs, in this folder, with this Python."""
        described = '\0'.join(map(str, [self.folder, sys.version_info[:2], self.distribution, *inputs]))
        digest = hashlib.sha256(described.encode()).hexdigest()
        stamp = self.stamps / f'{name}.stamp'
        if stamp.exists() and stamp.read_text() == digest:
            return
        stamp.unlink(missing_ok=True)
        print(f'evitif: {title}', flush=True)
        started = time.monotonic()
        action()
        self.stamps.mkdir(parents=True, exist_ok=True)
        write(stamp, digest)
        print(f'evitif: {title}: done in {time.monotonic() - started:.0f} s', flush=True)

    def create(self) -> None:
        """Make the virtual environment, or keep one that works."""
        if self.works():
            print(f'evitif: keeping the virtual environment in {self.folder.name}')
        else:
            if self.folder.exists():
                print(f'evitif: the virtual environment in {self.folder.name} is incomplete; making it again')
                shutil.rmtree(self.folder)
            options = ['--system-site-packages'] if self.distribution else []
            self.run([sys.executable, '-m', 'venv', *options, str(self.folder)], log=None)
        # colcon looks for packages in every folder below the one where it starts.
        (self.folder / 'COLCON_IGNORE').touch()
        if not self.distribution:
            # colcon calls a prefix without these broken. They have nothing to do: see wheels_environment.py.
            for shell in ('sh', 'bash', 'zsh'):
                (self.folder / f'local_setup.{shell}').touch()
        self.pip('install', PIP)

    def works(self) -> bool:
        """Whether the environment has a Python of this one's version and a pip, both of which start."""
        code = 'import sys, pip; print(*sys.version_info[:2], sep=".", end="")'
        try:
            answer = subprocess.run([self.python, '-c', code], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return False
        return answer.returncode == 0 and answer.stdout == f'{sys.version_info.major}.{sys.version_info.minor}'

    def install_with_wheels(self) -> None:
        """Install ROS 2 and what evitif imports, all from wheels; on a robot without the laboratory and the tests."""
        self.pip('install', *(argument for file in wheel_requirements() for argument in ('-r', str(file))))
        self.install_environment_module()
        self.repair_wheels()

    def install_environment_module(self) -> None:
        """Let this Python set up ROS 2's paths when it starts."""
        site_packages = Path(self.ask('import sysconfig; print(sysconfig.get_paths()["purelib"], end="")'))
        write(site_packages / 'evitif_wheels_environment.py', (ROOT / 'scripts' / 'wheels_environment.py').read_text())
        # Python imports the modules of .pth files in the order of the files' names: this one before ros_wheels_bootstrapper.
        write(site_packages / 'evitif_wheels_environment.pth', 'import evitif_wheels_environment\n')

    def repair_wheels(self) -> None:
        """Replace the paths of the machine that built the wheels in their CMake files by this environment's."""
        paths = json.loads(self.ask('import json, sysconfig; print(json.dumps(sysconfig.get_paths()))'))
        for file in sorted((self.folder / 'share').rglob('*.cmake')):
            text = file.read_text(errors='surrogateescape')
            repaired = re.sub(r'/opt/python/cp3\d+-cp3\d+/include/python3\.\d+', lambda _: paths['include'], text)
            repaired = re.sub(r'/opt/python/cp3\d+-cp3\d+/lib/python3\.\d+/site-packages', lambda _: paths['purelib'], repaired)
            if repaired != text:
                write(file, repaired)

    def install_beside_distribution(self) -> None:
        """Install what the distribution's Python lacks."""
        self.pip('install', *self.constraints(), *self.missing_beside_distribution())

    def missing_beside_distribution(self) -> list[str]:
        """Return the lines of requirements/distribution.txt whose modules this Python lacks."""
        missing, left_out = [], set()
        if for_robot():
            left_out = {name_of(line) for name in DEVELOPMENT for line in requirement_lines(REQUIREMENTS / f'{name}.txt')}
        for line in requirement_lines(REQUIREMENTS / 'distribution.txt'):
            name = name_of(line)
            if name in left_out:
                continue
            if name == 'ruff' or not self.has(MODULES.get(name, name)):
                missing.append(line)
        return missing

    def constraints(self) -> list[str]:
        """Return the pip options that keep the versions which were compiled against one another."""
        if not self.distribution:
            return [argument for name in ('ros-wheels', 'runtime', 'laboratory') for argument in ('-c', str(REQUIREMENTS / f'{name}.txt'))]
        lines = ['setuptools<80']
        for name in ('numpy', 'torch', 'torchvision'):
            if self.has(name):
                lines.append(f'{name}=={self.ask(f"import {name}; print({name}.__version__, end=str())")}')
        self.stamps.mkdir(parents=True, exist_ok=True)
        write(self.stamps / 'constraints.txt', '\n'.join(lines) + '\n')
        return ['-c', str(self.stamps / 'constraints.txt')]

    def install_torch(self) -> None:
        """Install PyTorch and timm, without CUDA packages on a machine that has no NVIDIA GPU."""
        if shutil.disk_usage(self.folder).free < 2 << 30:
            raise SetupError(f'PyTorch needs 2 GB on the disk of {self.folder}, and less is free')
        pinned = requirement_lines(REQUIREMENTS / 'torch.txt')
        constraints = self.constraints()
        if self.distribution and self.has('torch'):
            # A Jetson's PyTorch, for example, which PyPI does not have.
            print("evitif: keeping the PyTorch that the distribution's Python has")
            self.pip('install', *constraints, *(line for line in pinned if not line.startswith('torch')))
            return
        if Path('/etc/nv_tegra_release').exists():
            raise SetupError('this is a Jetson and its Python has no PyTorch: install the one that NVIDIA publishes for your JetPack, '
                             'then run this again')
        wanted = os.environ.get('EVITIF_TORCH') or ('cuda' if has_nvidia_gpu() else 'cpu')
        if wanted == 'cuda':
            print('evitif: installing PyTorch with CUDA, for the NVIDIA GPU of this machine')
            self.pip('install', *constraints, *pinned)
            return
        if not self.would_bring_cuda(pinned, constraints):
            self.pip('install', *constraints, *pinned)
            return
        index = os.environ.get('TORCH_INDEX_URL') or CPU_INDEX
        print(f'evitif: no NVIDIA GPU here: installing PyTorch without CUDA, from {index}')
        try:
            self.pip('install', '--index-url', index, '--no-deps', *(line for line in pinned if line.startswith('torch')))
        except SetupError as error:
            raise SetupError(f'PyTorch for the CPU could not be had from {index}; set TORCH_INDEX_URL to an index that has it, '
                             f'or EVITIF_TORCH=cuda to install the one with CUDA ({error})') from None
        self.pip('install', *constraints, *pinned)

    def would_bring_cuda(self, requirements: list[str], constraints: list[str]) -> bool:
        """Whether installing the requirements from the configured index would bring packages for NVIDIA GPUs."""
        report = self.stamps / 'torch.json'
        self.pip('install', '--dry-run', '--report', str(report), *constraints, *requirements)
        names = [item['metadata']['name'].lower() for item in json.loads(report.read_text())['install']]
        return any(name.startswith(('nvidia-', 'cuda-')) for name in names)

    def build_package(self) -> None:
        """Build the colcon package with its messages inside the environment."""
        workspace = self.folder / 'workspace'
        environment = {name: value for name, value in os.environ.items() if name not in ('MAKEFLAGS', 'MAKELEVEL', 'MFLAGS')}
        environment['PATH'] = os.pathsep.join([str(self.folder / 'bin'), environment.get('PATH', '')])
        environment['VIRTUAL_ENV'] = str(self.folder)
        colcon = shutil.which('colcon', path=environment['PATH'])
        if colcon is None:
            raise SetupError('colcon is not installed: `sudo apt install python3-colcon-common-extensions`')
        command = [colcon, '--log-base', str(workspace / 'log'), 'build', '--base-paths', str(ROOT), '--packages-select', 'evitif',
                   '--build-base', str(workspace / 'build'), '--install-base', str(workspace / 'install'), '--symlink-install',
                   '--event-handlers', 'console_direct+', '--cmake-args', '-DBUILD_TESTING=OFF',
                   f'-DPython3_EXECUTABLE={self.python}']
        complete = workspace / 'complete'
        if complete.exists():
            complete.unlink()
            try:
                self.run(command, env=environment)
                complete.touch()
                return
            except SetupError:
                print('evitif: building it again from nothing')
        # What an interrupted or failed build left cannot be trusted.
        shutil.rmtree(workspace, ignore_errors=True)
        self.run(command, env=environment)
        complete.touch()

    # Programs

    def pip(self, *arguments: str) -> None:
        """Run the environment's pip."""
        self.remove_incomplete_packages()
        self.run([str(self.python), '-m', 'pip', '--disable-pip-version-check', '--no-input', *arguments])

    def remove_incomplete_packages(self) -> None:
        """Forget packages whose installation was interrupted.

        pip writes a package's INSTALLER and RECORD last, but takes a package for installed as soon as its metadata is there.
        """
        for metadata in self.folder.glob('lib/python3*/site-packages/*.dist-info'):
            if not (metadata / 'RECORD').exists() or not (metadata / 'INSTALLER').exists():
                print(f'evitif: {metadata.name[:-len(".dist-info")]} was installed incompletely; installing it again')
                shutil.rmtree(metadata)

    def has(self, module: str) -> bool:
        """Whether the environment's Python finds a module."""
        answer = self.ask(f'import importlib.util; print(importlib.util.find_spec("{module}") is not None, end="")')
        return answer == 'True'

    def ask(self, code: str) -> str:
        """Return what the environment's Python prints when it runs the code."""
        answer = subprocess.run([self.python, '-c', code], capture_output=True, text=True)
        if answer.returncode:
            raise SetupError(f'{self.python} fails:\n{answer.stderr}')
        return answer.stdout

    def run(self, command: list[str], env: dict[str, str] | None = None, log: str | None = 'a') -> None:
        """Run a program and show its progress. All of its output goes to the log; if it fails, the end is shown."""
        lines: list[str] = []
        # The program inherits the lock: if it outlives an interrupted set-up, the next one waits for it.
        inherited = () if self.lock is None else (self.lock,)
        child = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True, errors='replace', pass_fds=inherited)
        progress = Progress()
        try:
            for line in child.stdout:
                lines.append(line)
                progress.show(line)
            child.wait()
        finally:
            progress.clear()
            if child.poll() is None:
                child.terminate()
                child.wait()
        if log and self.stamps.parent.exists():
            self.stamps.mkdir(exist_ok=True)
            with self.log.open(log) as file:
                file.writelines([f'$ {" ".join(command)}\n', *lines])
        if child.returncode:
            sys.stderr.writelines(lines[-40:])
            raise SetupError(f'`{" ".join(command[:6])} …` ended with exit code {child.returncode}; its last lines are above')


class Progress:
    """One line that says what is going on: rewritten in place on a terminal, printed now and then into a file."""

    TOLD = re.compile(r'^\s*(Collecting|Downloading|Using cached|Installing collected|Building|\[ *\d+%\]).*')

    def __init__(self) -> None:
        self.started = self.shown = time.monotonic()
        self.terminal = sys.stdout.isatty()

    def show(self, line: str) -> None:
        """Show a line of a program's output if it says how far the program is."""
        now = time.monotonic()
        if not self.TOLD.match(line) or now - self.shown < (0.1 if self.terminal else 10):
            return
        self.shown = now
        text = f'  {now - self.started:3.0f} s  {line.strip()}'[:shutil.get_terminal_size().columns - 1]
        print(f'\r\033[K{text}' if self.terminal else text, end='' if self.terminal else '\n', flush=True)

    def clear(self) -> None:
        """Remove the line from the terminal."""
        if self.terminal:
            print('\r\033[K', end='', flush=True)


def write(file: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = file.with_name(f'{file.name}.{os.getpid()}')
    temporary.write_text(text, errors='surrogateescape')
    temporary.replace(file)


def for_robot() -> bool:
    """Whether the environment is a robot's, without the laboratory and the tests."""
    return os.environ.get('EVITIF_FOR') == 'robot'


def wheel_requirements() -> list[Path]:
    """Return the files of requirements that are installed without a distribution."""
    return [REQUIREMENTS / f'{name}.txt' for name in ('ros-wheels', 'runtime', *(() if for_robot() else DEVELOPMENT))]


def name_of(line: str) -> str:
    """Return the name of the package that a requirement is of."""
    return re.split(r'[=<>;]', line)[0].strip()


def requirement_lines(file: Path) -> list[str]:
    """Return the requirements of a file without comments."""
    lines = (line.split('#')[0].strip() for line in file.read_text().splitlines())
    return [line for line in lines if line]


def has_nvidia_gpu() -> bool:
    """Whether an NVIDIA driver answers on this machine."""
    if shutil.which('nvidia-smi') is None:
        return False
    try:
        answer = subprocess.run(['nvidia-smi', '-L'], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and 'GPU' in answer.stdout


def files_below(names: Iterable[str]) -> list[Path]:
    """Return these files of the repository and those below these folders, sorted, without caches."""
    files = []
    for name in names:
        path = ROOT / name
        found = [path] if path.is_file() else path.rglob('*')
        files += [file for file in found if file.is_file() and '__pycache__' not in file.parts]
    return sorted(files)


def check_machine(distribution: str | None) -> None:
    """Refuse a machine on which the set-up would fail, before it downloads anything."""
    if not distribution and (platform.system() != 'Linux' or platform.machine() != 'x86_64'):
        raise SetupError(f'there are no ROS 2 wheels for {platform.system()} on {platform.machine()}: source a ROS 2 distribution '
                         '(`. /opt/ros/jazzy/setup.bash`) and run this again')
    if not any(map(shutil.which, filter(None, [os.environ.get('CXX'), 'c++', 'g++', 'clang++']))):
        raise SetupError('a C++ compiler is needed to build the messages: `sudo apt install g++`')
    if not any(map(shutil.which, filter(None, [os.environ.get('CC'), 'cc', 'gcc', 'clang']))):
        raise SetupError('a C compiler is needed to build the messages: `sudo apt install gcc`')
    if shutil.which('make') is None:
        raise SetupError('make is needed to build the messages: `sudo apt install make`')
    if not Path(sysconfig.get_paths()['include'], 'Python.h').exists():
        raise SetupError(f"Python's headers are needed to build the messages: `sudo apt install python3.{sys.version_info.minor}-dev`")


def set_up(distribution: str | None) -> None:
    """Run all steps that are not done. Raises SetupError."""
    folder = ROOT / (f'.venv-{distribution}' if distribution else '.venv')
    environment = Environment(folder, distribution)
    source = f'the sourced ROS 2 {distribution}' if distribution else 'ROS 2 Kilted from PyPI wheels'
    print(f'evitif: using {source}, Python {platform.python_version()}, {folder.name}', flush=True)

    environment.lock = os.open(Path(__file__), os.O_RDONLY)
    try:
        fcntl.flock(environment.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print('evitif: waiting for another set-up of this folder to end', flush=True)
        fcntl.flock(environment.lock, fcntl.LOCK_EX)

    environment.step('venv', 'making the virtual environment', [PIP], environment.create)
    if distribution:
        environment.step('packages', 'installing Python packages', [(REQUIREMENTS / 'distribution.txt').read_text(), for_robot()],
                         environment.install_beside_distribution)
    else:
        files = [*wheel_requirements(), ROOT / 'scripts' / 'wheels_environment.py']
        environment.step('packages', 'installing ROS 2 and Python packages', [file.read_text() for file in files],
                         environment.install_with_wheels)
    environment.step('torch', 'installing PyTorch and timm', [(REQUIREMENTS / 'torch.txt').read_text()], environment.install_torch)
    built = [file.read_bytes() for file in files_below(BUILT)]
    environment.step('workspace', 'building the package and its messages', [*built, *files_below(LINKED)], environment.build_package)


def main() -> int:
    """Set up; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--distribution', help='name of the sourced ROS 2 distribution; without it ROS 2 comes from PyPI')
    distribution = parser.parse_args().distribution
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        check_machine(distribution)
        set_up(distribution)
    except SetupError as error:
        print(f'evitif: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nevitif: interrupted; run it again to continue', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
