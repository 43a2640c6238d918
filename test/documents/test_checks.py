"""The checks of documented commands refuse what is wrong."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from documents.checks import check
from documents.fences import Command


@pytest.mark.parametrize('text', [
    'evitif key make rover.key',
    'evitif train recovery --model artifacts/mine --data FOLDER --budgett 0.1',
    'evitif train recovery --model artifacts/mine --data FOLDER --steps many',
    'make demoo',
    'make demo LOS=0.3',
    'make demo LOSS=3',
    'make demo STRATEGY=none',
    'ros2 launch evitif edges.launch.py',
    'ros2 launch evitif edge.launch.py bridge:=192.168.1.2',
    'ros2 run evitif robot_node',
    'ros2 run evitif edge_node --ros-args -p answer_dead_line:=0.5',
    'ros2 run evitif edge_node --ros-args -p answer_deadline:=-1.0',
    'ros2 param set /link_simulator uplink.loss 1.5',
    'ros2 param set /link_simulatorr uplink.loss 0.5',
    'ros2 topic echo /predictions',
    'ros2 lifecycle set /edge_node wake_up',
    'python -m evitif_edge_node.no_such_node',
    'python -m pytest test/no_such_folder',
    'python scripts/no_such_program.py',
    '. scripts/environment.sh',
    'export FASTDDS_DEFAULT_PROFILES_FILE=$(ros2 pkg prefix --share evitif)/config/fast_dds.xml',
    'make setup && evitif key make rover.key',
    'frobnicate the link',
])
def test_a_wrong_command_is_found(text):
    if 'evitif' in text.split() and find_spec('torch') is None:
        pytest.skip('PyTorch is not installed')
    with pytest.raises(AssertionError):
        check(Command('page.md', 1, text))


@pytest.mark.skipif(find_spec('torch') is None, reason='PyTorch is not installed')
def test_the_running_text_may_leave_out_what_is_required():
    check(Command('page.md', 1, 'evitif train recovery --cut 0', whole=False))
    with pytest.raises(AssertionError, match='no_such'):
        check(Command('page.md', 1, 'evitif train recovery --no_such', whole=False))
    with pytest.raises(AssertionError, match='required'):
        check(Command('page.md', 1, 'evitif train recovery --cut 0'))
