"""Start the bridge node, off-board.

    ros2 launch evitif bridge.launch.py device:=cuda key_file:=rover.key

`params_file` sets whatever is not given here. `ros2 launch evitif bridge.launch.py --show-args` lists the arguments.
"""

from launch import Action, LaunchContext, LaunchDescription
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from evitif_cloud_bridge.parameters import BRIDGE_PARAMETERS
from evitif_ros.launch_arguments import navigation2_arguments, parameter_arguments
from evitif_ros.launch_nodes import asked, description, full_name, given, node

PARAMETERS = parameter_arguments(BRIDGE_PARAMETERS)
ARGUMENTS = (
    *navigation2_arguments(PathJoinSubstitution([FindPackageShare('evitif'), 'config', 'bridge.yaml'])),
    *PARAMETERS,
)


def bridge(context: LaunchContext) -> list[Action]:
    """The bridge node; robots wait for it, so it starts again sooner than others."""
    values, file = asked(context, ARGUMENTS)
    file.warn_unless_for(full_name(context, values.get('namespace', ''), 'bridge_node'))
    return node('bridge_node', 'bridge_node', values, file, given(values, PARAMETERS), respawn_delay=0.5)


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    return description(ARGUMENTS, bridge)
