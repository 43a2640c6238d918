"""What a stranger meets first: the make targets, the environment's pieces, and nothing that works on one machine only."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tracked_files():
    try:
        listed = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip('this is not a git checkout')
    return [ROOT / name for name in listed.split('\0') if name and (ROOT / name).is_file()]


@pytest.mark.parametrize('target', ['demo', 'evaluate', 'test', 'bench', 'soak', 'fuzz', 'setup', 'build', 'docs', 'lint', 'clean'])
def test_make_help_tells_what_a_target_does(target):
    told = subprocess.run(['make', '--no-print-directory', 'help'], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(rf'^  make {target} +\S', told, re.MULTILINE)


def test_the_demo_gets_the_settings_that_were_given():
    command = ['make', '--dry-run', 'demo', 'LOSS=0.3', 'FRAMES=50', 'IMAGES=some folder']
    environment = {name: value for name, value in os.environ.items() if not name.startswith(('MAKE', 'MFLAGS'))}
    planned = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    demo = next(line for line in planned.splitlines() if 'scripts.demo' in line)
    assert "--loss '0.3'" in demo and "--frames '50'" in demo and "--images 'some folder'" in demo
    assert '--model' not in demo


def test_every_requirement_has_a_version():
    pinned = re.compile(r"[\w-]+==[\d.]+(; (python_version [<>]=? .3\.\d+.|platform_machine == '\w+'))?")
    for file in (ROOT / 'requirements').glob('*.txt'):
        if file.stem != 'distribution':
            for line in file.read_text().splitlines():
                assert not line or line.startswith('#') or pinned.fullmatch(line), line


def test_no_file_names_a_folder_of_somebody_s_machine():
    home = re.compile(rb'(?<![\w.])/(home|Users|root|work)/[a-z]')
    named = [f'{path.relative_to(ROOT)}: {match.group().decode()}' for path in tracked_files()
             if path.suffix not in ('.safetensors', '.png', '.npz') and (match := home.search(path.read_bytes()))]
    assert not named


@pytest.mark.parametrize('page', sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/*.md')]), ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page):
    links = re.findall(r'(?<!!)\[[^\]]*\]\((?!https?:|#)([^)#]+)', page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_artifacts_are_small_enough_for_git():
    artifacts = [path for path in tracked_files() if path.suffix == '.safetensors']
    assert all(path.stat().st_size <= 10_000_000 for path in artifacts)
    assert sum(path.stat().st_size for path in artifacts) <= 60_000_000


def test_a_python_with_wheels_starts_rclpy_in_an_emptied_environment():
    if not Path(sys.prefix, 'share', 'ament_index', 'resource_index', 'packages', 'rclpy').exists():
        pytest.skip('ROS 2 is not from wheels here')
    # The mark of a start that was made ready, inherited without the paths that belong to it.
    environment = {'_ROS_WHEELS_BOOTSTRAP_COMPLETE': '1', 'PATH': os.environ['PATH']}
    code = 'import rclpy, evitif_msgs.msg, os; print(os.environ["AMENT_PREFIX_PATH"])'
    answer = subprocess.run([sys.executable, '-c', code], env=environment, cwd='/', capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert sys.prefix in answer.stdout
