"""Start the edge node, on the robot.

    ros2 launch evitif edge.launch.py bridge_host:=192.168.1.2 image:=/camera/image_raw key_file:=rover.key

`params_file` sets whatever is not given here. `ros2 launch evitif edge.launch.py --show-args` lists the arguments.
"""

from launch import Action, LaunchContext, LaunchDescription
from launch.substitutions import PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from evitif_edge_node.parameters import EDGE_PARAMETERS
from evitif_ros.launch_arguments import (
    Argument,
    existing_file,
    navigation2_arguments,
    parameter_arguments,
    parameter_values,
    show_rviz,
    topic,
)
from evitif_ros.launch_nodes import asked, description, full_name, given, node

SHARE = FindPackageShare('evitif')
PARAMETERS = parameter_arguments(EDGE_PARAMETERS)
ARGUMENTS = (
    *navigation2_arguments(PathJoinSubstitution([SHARE, 'config', 'edge.yaml'])),
    Argument('image', 'topic of the images; image_transport:=compressed adds /compressed', topic, 'image'),
    Argument('rviz', 'show the annotated image in RViz (true or false)', show_rviz, 'false'),
    Argument('rviz_config', 'what RViz shows', existing_file, PathJoinSubstitution([SHARE, 'rviz', 'evitif.rviz'])),
    *PARAMETERS,
)


def edge(context: LaunchContext) -> list[Action]:
    """The edge node, and RViz if it is wanted."""
    values, file = asked(context, ARGUMENTS)
    edge_node = full_name(context, values.get('namespace', ''), 'edge_node')
    file.warn_unless_for(edge_node)
    actions = node('edge_node', 'edge_node', values, file, given(values, PARAMETERS), remappings=[('image', values['image'])])
    if values['rviz']:
        use_sim_time = values.get('use_sim_time', file.says(edge_node, 'use_sim_time') is True)
        actions.append(Node(
            package='rviz2', executable='rviz2', name='rviz2', namespace=values.get('namespace', ''), output='screen',
            arguments=['-d', values['rviz_config'], '--ros-args', '--log-level', values['log_level']],
            parameters=[parameter_values({'use_sim_time': use_sim_time})],
        ))
    return actions


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    return description(ARGUMENTS, edge)
