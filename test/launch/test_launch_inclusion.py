"""A user's own launch file that includes edge and bridge as they come: nothing of theirs reaches it, or the other."""

import os

import pytest

launch_pytest = pytest.importorskip(
    'launch_pytest', reason='launch_pytest is not installed (a ROS 2 distribution has it); launch files are not run')

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters

try:
    get_package_prefix('evitif')
except PackageNotFoundError:
    pytest.skip('the package evitif is not built: colcon build, and source install/setup.sh', allow_module_level=True)

START_S = 120.0
USERS_OWN = {'log_level': 'error', 'use_respawn': 'False', 'device': '', 'my_own': 'mine'}     # some have the names of ours


@pytest.fixture
def seen():
    """The user's launch configurations and environment, before and after what is included."""
    return []


@launch_pytest.fixture
def users_file(ros_domain, launch_folder, tmp_path, seen):
    """Includes both, each with a params_file of its own, which leaves the node unconfigured and on simulated time."""
    def look(context):
        seen.append((dict(context.launch_configurations), dict(os.environ)))

    def including(name, parameters):
        file = tmp_path / f'{name}.yaml'
        file.write_text(f'/**/{name}_node:\n  ros__parameters: {{use_sim_time: true, autostart: false, {parameters}}}\n')
        source = PythonLaunchDescriptionSource(str(launch_folder / f'{name}.launch.py'))
        return IncludeLaunchDescription(source, launch_arguments=[('params_file', str(file))])
    return LaunchDescription([
        *(DeclareLaunchArgument(name, default_value=value) for name, value in USERS_OWN.items()),
        OpaqueFunction(function=look),
        including('bridge', 'bridge_name: anna'), including('edge', 'robot_name: hare'),
        OpaqueFunction(function=look),
        launch_pytest.actions.ReadyToTest(),
    ])


@pytest.mark.launch(fixture=users_file)
def test_a_users_file_that_includes_both_keeps_what_is_its_own_and_each_node_has_its_params_file(users_file, listener, seen):
    (before, environment), (after, environment_after) = seen
    assert after.pop('params_file').endswith('edge.yaml')       # which the user's file set itself, to include the edge
    assert before == after and environment == environment_after
    for node, name, value in (('bridge_node', 'bridge_name', 'anna'), ('edge_node', 'robot_name', 'hare')):
        state = listener.ask(GetState, f'/{node}/get_state', START_S)
        assert state.current_state.id == State.PRIMARY_STATE_UNCONFIGURED
        answer = listener.ask(GetParameters, f'/{node}/get_parameters', START_S, names=[name, 'use_sim_time'])
        assert (answer.values[0].string_value, answer.values[1].bool_value) == (value, True)
