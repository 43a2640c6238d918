"""How launches end: refused ones leave nothing running, a wrong configuration ends them, a crash is respawned; by `ros2 launch`."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

pytest.importorskip('ros2launch', reason='ros2launch is not installed (a ROS 2 distribution has it); launch files are not run')

from ament_index_python.packages import PackageNotFoundError, get_package_prefix

try:
    get_package_prefix('evitif')
except PackageNotFoundError:
    pytest.skip('the package evitif is not built: colcon build, and source install/setup.sh', allow_module_level=True)

LIMIT_S = 120.0

# A user's own launch file. What it starts first must not be left behind when what it includes is refused.
USERS_FILE = """\
from launch import LaunchDescription
from launch.actions import ExecuteProcess, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

def generate_launch_description():
    return LaunchDescription([
        ExecuteProcess(cmd=['sleep', '1000'], name='sleeper'),
        IncludeLaunchDescription(PythonLaunchDescriptionSource('{folder}/{file}.launch.py'), launch_arguments={arguments}),
    ])
"""


class Launched:
    """A running `ros2 launch`, its output as it comes."""

    def __init__(self, log, *words):
        self._log = log
        with open(log, 'w') as file:
            self.process = subprocess.Popen([shutil.which('ros2'), 'launch', *map(str, words)], stdout=file, stderr=subprocess.STDOUT,
                                            start_new_session=True)

    @property
    def output(self):
        return self._log.read_text()

    @property
    def started(self):
        """The process numbers of what it started, in order."""
        return [int(number) for number in re.findall(r'process started with pid \[(\d+)\]', self.output)]

    def wait_until(self, condition):
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert self.process.poll() is None and time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def ended(self):
        """The exit code; fails where anything that was started is left."""
        self.process.wait(LIMIT_S)
        left = [number for number in self.started if os.path.exists(f'/proc/{number}')]
        assert left == [], self.output
        return self.process.returncode

    def interrupt(self):
        """As Ctrl-C in a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def stop(self):
        if self.process.poll() is None:
            self.interrupt()
            self.process.wait(30)
        for number in self.started:
            if os.path.exists(f'/proc/{number}'):
                os.kill(number, signal.SIGKILL)


@pytest.fixture
def launch(ros_domain, launch_folder, monkeypatch, tmp_path):
    """Start a file of the package, or a path, with arguments: `launch('edge', cut=3)`."""
    monkeypatch.setenv('ROS_HOME', str(tmp_path / 'ros'))
    running = []

    def start(file, **arguments):
        path = launch_folder / f'{file}.launch.py' if isinstance(file, str) else file
        running.append(Launched(tmp_path / f'launch_{len(running)}.log', path, *(f'{name}:={value}' for name, value in arguments.items())))
        return running[-1]
    yield start
    for entry in running:
        entry.stop()


def nobody_holds(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(('127.0.0.1', port))


@pytest.mark.parametrize(('file', 'argument', 'value'), [
    ('demo', 'loss', '0,3'), ('demo', 'rviz', 'true'), ('edge', 'autostart', 'maybe'), ('bridge', 'params_file', '/no/such.yaml')])
def test_a_refused_launch_starts_nothing(launch, free_ports, file, argument, value):
    if argument == 'rviz':
        try:
            get_package_prefix('rviz2')
            pytest.skip('RViz is installed here')
        except PackageNotFoundError:
            pass
    port = {'demo': 'bridge_port', 'edge': 'bridge_port', 'bridge': 'port'}[file]
    launched = launch(file, **{argument: value, port: free_ports[0]})
    assert launched.ended() == 1
    assert launched.started == []
    nobody_holds(free_ports[0])
    assert 'Traceback' not in launched.output
    assert f'launch argument {argument}:={value}: expected' in launched.output


@pytest.mark.parametrize(('file', 'arguments'), [('demo', {'rate': 'fast'}), ('edge', {'bridge_port': 'http'})])
def test_what_a_users_file_started_before_a_refused_file_is_not_left_behind(launch, launch_folder, tmp_path, file, arguments):
    (tmp_path / 'mine.launch.py').write_text(USERS_FILE.format(folder=launch_folder, file=file, arguments=list(arguments.items())))
    launched = launch(tmp_path / 'mine.launch.py')
    assert launched.ended() == 1
    assert len(launched.started) == 1, 'a node of the refused file was started'
    assert ': expected' in launched.output


def test_a_node_that_refuses_its_params_file_ends_the_whole_demo(launch, tmp_path, free_ports, image_folder, parameter_file):
    parameter_file.write_text(parameter_file.read_text() + '/**/link_simulator: {ros__parameters: {uplink.loss: 2.0}}\n')
    launched = launch('demo', params_file=parameter_file, source=image_folder, bridge_port=free_ports[0], link_port=free_ports[1])
    assert launched.ended() == 1
    assert 'link_simulator ended with exit code 2: link_simulator: uplink.loss: expected a number from 0 to 1' in launched.output


def test_a_model_that_is_not_there_ends_the_launch_and_is_not_tried_again(launch):
    launched = launch('edge', model='no/such', unsealed='true', use_respawn='True')
    assert launched.ended() == 1
    assert len(launched.started) == 1
    assert "edge_node ended with exit code 1: cannot configure: model folder 'no/such' does not exist" in launched.output


def test_a_port_that_another_holds_is_tried_again_with_respawn(launch, parameter_file, free_ports):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(('127.0.0.1', free_ports[0]))
        launched = launch('bridge', params_file=parameter_file, bind_host='127.0.0.1', port=free_ports[0], use_respawn='true')
        launched.wait_until(lambda: len(launched.started) >= 2)
        assert 'in use' in launched.output


def test_a_crashed_node_is_started_again_where_that_was_asked_for_and_else_the_exit_code_tells(launch):
    again = launch('bridge', autostart='false', use_respawn='true')
    alone = launch('bridge', autostart='false', namespace='other')
    for launched in (again, alone):
        launched.wait_until(lambda launched=launched: launched.started)
        os.kill(launched.started[0], signal.SIGKILL)
    again.wait_until(lambda: len(again.started) == 2)
    again.interrupt()
    assert again.ended() == 0
    assert alone.ended() == 1
    assert 'bridge_node was ended by SIGKILL' in alone.output


def test_an_argument_that_no_file_has_is_said_to_be_ignored(launch):
    launched = launch('bridge', recover='omission', port='http')
    assert launched.ended() == 1
    assert 'launch argument recover:=omission is not known to bridge.launch.py and ignored; is recovery meant?' in launched.output
