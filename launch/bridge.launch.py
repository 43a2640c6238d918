"""
Start the bridge node, off-board.

    ros2 launch evitif bridge.launch.py device:=cuda key_file:=rover.key

What is not given here is taken from `params_file`. `ros2 launch evitif bridge.launch.py --show-args` lists the
arguments.
"""

from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from evitif_cloud_bridge.parameters import BRIDGE_PARAMETERS
from evitif_ros.launch_arguments import navigation2_arguments, parameter_arguments, read_arguments, warn_of_unknown_arguments
from evitif_ros.launch_nodes import description, full_name, node
from evitif_ros.launch_parameter_file import CheckedParameterFile

# Arguments that are parameters of the node.
PARAMETERS = parameter_arguments(
    BRIDGE_PARAMETERS, 'bridge_name', 'bind_host', 'port', 'key_file', 'unsealed', 'strategy', 'model', 'light_model', 'partition',
    'auto_frame_bytes', 'auto_loss', 'auto_multiply_adds', 'checkpoint', 'pretrained', 'random_seed', 'cut', 'quantisation', 'device',
    'recovery', 'recovery_artifact', 'reassembly_deadline', 'join_deadline')
ARGUMENTS = (
    *navigation2_arguments(PathJoinSubstitution([FindPackageShare('evitif'), 'config', 'bridge.yaml'])),
    *PARAMETERS,
)


def bridge(context):
    warn_of_unknown_arguments(context, ARGUMENTS)
    values = read_arguments(context, ARGUMENTS)
    file = CheckedParameterFile(context, values['params_file'])
    file.warn_unless_for(full_name(context, values.get('namespace', ''), 'bridge_node'))
    given = {argument.name: values[argument.name] for argument in PARAMETERS if argument.name in values}
    return node('bridge_node', 'bridge_node', values, file, given, respawn_delay=0.5)    # robots wait for it


def generate_launch_description():
    return description(ARGUMENTS, bridge)
