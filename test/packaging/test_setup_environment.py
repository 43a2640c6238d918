"""The set-up's own logic: what is done again, what is repaired, and what is refused in a sentence."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope='module')
def setup():
    specification = importlib.util.spec_from_file_location('setup_environment', ROOT / 'scripts' / 'setup_environment.py')
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def environment(setup, tmp_path):
    return setup.Environment(tmp_path / 'environment', None)


def test_a_step_runs_again_only_when_its_inputs_change(environment):
    runs = []
    for inputs in (['a'], ['a'], ['b'], ['b'], ['a']):
        environment.step('step', 'a step', inputs, lambda: runs.append(None))
    assert len(runs) == 3


def test_an_interrupted_step_runs_again(environment):
    def interrupted():
        raise KeyboardInterrupt

    runs = []
    environment.step('step', 'a step', ['a'], lambda: runs.append(None))
    with pytest.raises(KeyboardInterrupt):
        environment.step('step', 'a step', ['b'], interrupted)
    environment.step('step', 'a step', ['a'], lambda: runs.append(None))
    assert len(runs) == 2


def test_a_package_that_was_installed_by_half_is_forgotten(environment):
    site_packages = environment.folder / 'lib' / 'python3.11' / 'site-packages'
    for name, files in {'whole': ['METADATA', 'RECORD', 'INSTALLER'], 'half': ['METADATA', 'RECORD']}.items():
        (site_packages / f'{name}-1.0.dist-info').mkdir(parents=True)
        for file in files:
            (site_packages / f'{name}-1.0.dist-info' / file).touch()
    environment.remove_incomplete_packages()
    assert [path.name for path in site_packages.iterdir()] == ['whole-1.0.dist-info']


def test_wheels_name_this_environment_after_the_repair(environment, monkeypatch):
    file = environment.folder / 'share' / 'std_msgs' / 'cmake' / 'Export.cmake'
    file.parent.mkdir(parents=True)
    file.write_text('"/opt/python/cp312-cp312/include/python3.12;'
                    '/opt/python/cp312-cp312/lib/python3.12/site-packages/numpy/_core/include"')
    monkeypatch.setattr(environment, 'ask', lambda code: '{"include": "/include", "purelib": "/packages"}')
    environment.repair_wheels()
    environment.repair_wheels()
    assert file.read_text() == '"/include;/packages/numpy/_core/include"'


@pytest.mark.parametrize(('names', 'expected'), [(['torch', 'sympy'], False), (['torch', 'nvidia-cublas'], True), (['cuda-toolkit'], True)])
def test_packages_for_nvidia_gpus_are_recognised_before_they_are_downloaded(environment, monkeypatch, names, expected):
    def report(*arguments):
        items = ', '.join(f'{{"metadata": {{"name": "{name}"}}}}' for name in names)
        Path(arguments[arguments.index('--report') + 1]).write_text(f'{{"install": [{items}]}}')

    environment.stamps.mkdir(parents=True)
    monkeypatch.setattr(environment, 'pip', report)
    assert environment.would_bring_cuda(['torch'], []) is expected


@pytest.fixture
def installing_torch(setup, environment, monkeypatch):
    """Record what pip is asked for on a machine without a GPU whose index would bring CUDA packages."""
    asked = []
    environment.stamps.mkdir(parents=True)
    monkeypatch.delenv('EVITIF_TORCH', raising=False)
    monkeypatch.setattr(setup, 'has_nvidia_gpu', lambda: False)
    monkeypatch.setattr(environment, 'would_bring_cuda', lambda *_: True)
    monkeypatch.setattr(environment, 'pip', lambda *arguments: asked.append(arguments))
    return asked


def test_pytorch_for_the_cpu_is_taken_from_its_own_index(environment, installing_torch, monkeypatch):
    monkeypatch.setenv('TORCH_INDEX_URL', 'https://mirror.example/cpu')
    environment.install_torch()
    first, second = installing_torch
    assert first[:4] == ('install', '--index-url', 'https://mirror.example/cpu', '--no-deps')
    assert 'timm' not in ' '.join(first) and 'timm' in ' '.join(second)


def test_a_machine_with_a_gpu_gets_cuda(setup, environment, installing_torch, monkeypatch):
    monkeypatch.setattr(setup, 'has_nvidia_gpu', lambda: True)
    environment.install_torch()
    (only,) = installing_torch
    assert '--index-url' not in only


def test_no_cuda_is_installed_behind_the_user_s_back(setup, environment, installing_torch, monkeypatch):
    def unreachable(*arguments):
        raise setup.SetupError('no such index')

    monkeypatch.setattr(environment, 'pip', unreachable)
    with pytest.raises(setup.SetupError, match='TORCH_INDEX_URL'):
        environment.install_torch()


def test_beside_a_distribution_its_own_packages_are_kept(setup, tmp_path, monkeypatch):
    environment = setup.Environment(tmp_path, 'jazzy')
    there = {'numpy', 'PIL', 'yaml', 'cv2', 'matplotlib', 'colcon_core', 'pytest'}
    monkeypatch.setattr(environment, 'has', lambda module: module in there)
    assert {line.split('=')[0] for line in environment.missing_beside_distribution()} == {
        'simplejpeg', 'safetensors', 'tqdm', 'cryptography', 'constriction', 'rosbags', 'mcap', 'pytest-timeout',
        'pytest-xdist', 'hypothesis', 'ruff', 'prometheus_client'}
    monkeypatch.setenv('EVITIF_FOR', 'robot')
    assert {line.split('=')[0] for line in environment.missing_beside_distribution()} == {
        'simplejpeg', 'safetensors', 'cryptography', 'constriction', 'rosbags', 'mcap'}


def test_a_robot_gets_neither_the_laboratory_nor_the_tests(setup, monkeypatch):
    monkeypatch.setenv('EVITIF_FOR', 'robot')
    assert [file.stem for file in setup.wheel_requirements()] == ['ros-wheels', 'runtime']


@pytest.mark.parametrize(('machine', 'sentence'), [('aarch64', 'source a ROS 2 distribution'), ('x86_64', 'compiler')])
def test_a_machine_that_will_not_do_is_told_why(setup, monkeypatch, machine, sentence):
    monkeypatch.setattr(setup.platform, 'system', lambda: 'Linux')
    monkeypatch.setattr(setup.platform, 'machine', lambda: machine)
    monkeypatch.setattr(setup.shutil, 'which', lambda *_, **__: None)
    with pytest.raises(setup.SetupError, match=sentence):
        setup.check_machine(None)


def run_setup_script(tmp_path, pythons, **variables):
    """Run setup.sh with only these commands for Python in PATH: a name and the shell script that it is."""
    for name, script in pythons.items():
        command = tmp_path / name
        command.write_text(f'#!/bin/sh\n{script}\n')
        command.chmod(0o755)
    (tmp_path / 'dirname').symlink_to('/usr/bin/dirname')
    return subprocess.run(['/bin/bash', str(ROOT / 'scripts' / 'setup.sh')], env={'PATH': str(tmp_path), **variables},
                          capture_output=True, text=True)


def test_without_a_suitable_python_every_candidate_s_lack_is_named(tmp_path):
    answer = run_setup_script(tmp_path, {'python3': 'echo is Python 3.8; exit 1',
                                         'python3.11': 'echo lacks its headers; exit 1'})
    assert answer.returncode == 1
    assert 'Python 3.10, 3.11 or 3.12 is needed' in answer.stderr
    assert 'python3 is Python 3.8' in answer.stderr and 'python3.11 lacks its headers' in answer.stderr


def test_the_distribution_s_python_is_used_where_one_is_sourced(tmp_path):
    if os.path.exists('/opt/ros'):
        pytest.skip('this machine has a ROS 2 distribution')
    answer = run_setup_script(tmp_path, {'python3': 'case "$*" in *setup_environment*) echo "started $*";; esac'}, ROS_DISTRO='jazzy')
    assert answer.stdout == 'started scripts/setup_environment.py --distribution jazzy\n'


def test_a_distribution_that_does_not_work_is_not_silently_replaced(tmp_path):
    if os.path.exists('/opt/ros'):
        pytest.skip('this machine has a ROS 2 distribution')
    answer = run_setup_script(tmp_path, {'python3': 'exit 1'}, ROS_DISTRO='jazzy')
    assert answer.returncode == 1 and 'no python3 imports rclpy' in answer.stderr


def test_this_python_is_accepted_or_refused_with_what_to_install():
    answer = subprocess.run([sys.executable, str(ROOT / 'scripts' / 'check_python.py')], capture_output=True, text=True)
    if answer.returncode:
        assert re.search('apt install|is Python', answer.stderr)
    else:
        assert os.access(answer.stdout.strip(), os.X_OK)
