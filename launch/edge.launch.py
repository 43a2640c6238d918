"""
Start the edge node, on the robot.

    ros2 launch evitif edge.launch.py bridge_host:=192.168.1.2 image:=/camera/image_raw key_file:=rover.key

What is not given here is taken from `params_file`. `ros2 launch evitif edge.launch.py --show-args` lists the arguments.
"""

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
    read_arguments,
    show_rviz,
    topic,
    warn_of_unknown_arguments,
)
from evitif_ros.launch_nodes import description, full_name, node
from evitif_ros.launch_parameter_file import CheckedParameterFile

SHARE = FindPackageShare('evitif')
# Arguments that are parameters of the node.
PARAMETERS = parameter_arguments(
    EDGE_PARAMETERS, 'robot_name', 'bridge_host', 'bridge_port', 'key_file', 'unsealed', 'strategy', 'model', 'light_model', 'partition',
    'auto_frame_bytes', 'auto_loss', 'auto_multiply_adds', 'checkpoint', 'pretrained', 'random_seed', 'cut', 'quantisation', 'device',
    'max_rate', 'answer_deadline', 'local_fallback', 'delta', 'eta', 'partition_device', 'image_transport')
ARGUMENTS = (
    *navigation2_arguments(PathJoinSubstitution([SHARE, 'config', 'edge.yaml'])),
    Argument('image', 'topic of the images; with image_transport:=compressed, /compressed is added', topic, 'image'),
    Argument('rviz', 'show the annotated image in RViz (true or false)', show_rviz, 'false'),
    Argument('rviz_config', 'what RViz shows', existing_file, PathJoinSubstitution([SHARE, 'rviz', 'evitif.rviz'])),
    *PARAMETERS,
)


def edge(context):
    warn_of_unknown_arguments(context, ARGUMENTS)
    values = read_arguments(context, ARGUMENTS)
    file = CheckedParameterFile(context, values['params_file'])
    edge_node = full_name(context, values.get('namespace', ''), 'edge_node')
    file.warn_unless_for(edge_node)
    given = {argument.name: values[argument.name] for argument in PARAMETERS if argument.name in values}
    actions = node('edge_node', 'edge_node', values, file, given, remappings=[('image', values['image'])])
    if values['rviz']:
        use_sim_time = values.get('use_sim_time', file.says(edge_node, 'use_sim_time') is True)
        actions.append(Node(
            package='rviz2', executable='rviz2', name='rviz2', namespace=values.get('namespace', ''), output='screen',
            arguments=['-d', values['rviz_config'], '--ros-args', '--log-level', values['log_level']],
            parameters=[parameter_values({'use_sim_time': use_sim_time})],
        ))
    return actions


def generate_launch_description():
    return description(ARGUMENTS, edge)
