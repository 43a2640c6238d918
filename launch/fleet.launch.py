"""Start a directory and bridges of a fleet on this machine, off-board.

    ros2 launch evitif fleet.launch.py bridges:=2 fleet_key:=fleet.key key_file:=rover.key

Robots' `bridge_host` is this machine, their `bridge_port` the `directory_port`; the bridges listen on the ports behind it. `params_file` is
that of each bridge. `ros2 launch evitif fleet.launch.py --show-args` lists the arguments.
"""

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import ExecuteProcess
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackagePrefix, FindPackageShare

from evitif_cloud_bridge.parameters import BRIDGE_PARAMETERS
from evitif_ros.launch_arguments import Argument, navigation2_arguments, parameter_arguments
from evitif_ros.launch_nodes import asked, description, given, node

SET_HERE = ('port', 'bridge_name', 'bridge_number', 'directories', 'metrics_port')
PARAMETERS = parameter_arguments(BRIDGE_PARAMETERS, without=SET_HERE)
MOST = 64


def _count(text: str) -> int:
    """How many bridges."""
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise ValueError(f'expected 1 to {MOST}')
    return int(text)


def _port(text: str) -> int:
    """A port that has room behind it."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535 - MOST:
        raise ValueError(f'expected 1 to {65535 - MOST}')
    return int(text)


ARGUMENTS = (
    *navigation2_arguments(PathJoinSubstitution([FindPackageShare('evitif'), 'config', 'bridge.yaml']), 'each bridge'),
    Argument('bridges', f'how many bridges, 1 to {MOST}', _count, '2'),
    Argument('directory_port', 'UDP port of the directory; the bridges have the next ones', _port, '7600'),
    *PARAMETERS,
)


def fleet(context: LaunchContext) -> list[Action]:
    """The directory, and a bridge on each port behind it."""
    values, file = asked(context, ARGUMENTS)
    if 'fleet_key' not in values:
        raise ValueError('fleet_key is not given: expected a file that `evitif key new` made, which robots never have')
    port = values['directory_port']
    seal = ['--key-file', str(values['key_file'])] if 'key_file' in values else ['--unsealed'] if values.get('unsealed') else []
    actions: list[Action] = [ExecuteProcess(
        cmd=[PathJoinSubstitution([FindPackagePrefix('evitif'), 'lib', 'evitif', 'evitif']), 'fleet', 'directory', '--fleet-key',
             str(values['fleet_key']), *seal, '--port', str(port)], name='directory', output='screen', respawn=True, respawn_delay=0.5)]
    for number in range(1, values['bridges'] + 1):
        own = {'port': port + number, 'bridge_number': number, 'bridge_name': f'bridge-{number}', 'directories': f'127.0.0.1:{port}'}
        actions += node('bridge_node', f'bridge_node_{number}', values, file, {**given(values, PARAMETERS), **own}, respawn_delay=0.5)
    return actions


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    return description(ARGUMENTS, fleet)
