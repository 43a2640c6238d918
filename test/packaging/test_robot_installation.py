"""What runs on a robot and on a bridge can be imported where the laboratory and its packages are missing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN_TIME = ('evitif', 'evitif_ros', 'evitif_edge_node', 'evitif_cloud_bridge')
# A robot has these two verbs.
VERBS = ('evitif_cli.key', 'evitif_cli.link')
ABSENT = ('evitif_lab.training', 'evitif_lab.evaluation', 'evitif_lab.baselines', 'evitif_lab.trials', 'benchmarks', 'fuzz')
OF_ROS = {'rclpy', 'launch', 'launch_ros', 'ament_index_python', 'vision_msgs', 'evitif_msgs', 'sensor_msgs', 'std_msgs', 'diagnostic_msgs',
          'lifecycle_msgs', 'builtin_interfaces', 'rcl_interfaces'}
BROUGHT = {'tqdm'}      # by timm, which imports it; that we do not is a contract in .importlinter
NAMES = {'pytest-timeout': 'pytest_timeout', 'pytest-xdist': 'xdist'}
CODE = '''
import importlib, sys
sys.modules.update(dict.fromkeys(ABSENT))        # for Python and importlib: not installed
for name in MODULES:
    try:
        importlib.import_module(name)
    except ImportError as error:
        if (error.name or '').split('.')[0] not in OF_ROS:
            sys.exit(f'{name}: {error}')
'''


def modules():
    for package in RUN_TIME:
        for path in sorted((ROOT / package).rglob('*.py')):
            parts = path.relative_to(ROOT).with_suffix('').parts
            if parts[-1] != '__main__':
                yield '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def of_the_laboratory():
    """The modules that only laboratory, tests, benchmarks, fuzzing and documents import, by their requirements."""
    files = (ROOT / 'requirements' / f'{name}.txt' for name in ('laboratory', 'test', 'bench', 'video', 'fuzz', 'docs', 'lint'))
    found = {match[1] for file in files for line in file.read_text().splitlines() if (match := re.match(r'([\w-]+)==', line))}
    return {NAMES.get(name, name.replace('-', '_')) for name in found}


def test_the_run_time_needs_nothing_of_the_laboratory():
    pytest.importorskip('torch')
    absent = [*(of_the_laboratory() - BROUGHT), *ABSENT]
    assert {'matplotlib', 'hypothesis', 'zfec', 'av'} <= set(absent)
    code = f'ABSENT, MODULES, OF_ROS = {absent!r}, {[*modules(), *VERBS]!r}, {OF_ROS!r}\n{CODE}'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
