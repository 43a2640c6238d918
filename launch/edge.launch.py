"""
Start the edge node, on the robot.

    ros2 launch evitif edge.launch.py bridge_host:=192.168.1.2 image:=/camera/image_raw key_file:=rover.key

What is not given here is taken from `params_file`. `ros2 launch evitif edge.launch.py --show-args` lists the arguments.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

# Arguments that are parameters of the node too: type, description, choices. Empty leaves `params_file` to say.
PARAMETERS = {
    'robot_name': (str, "the robot's name; the bridge publishes below it", None),
    'bridge_host': (str, 'host name or IP address of the bridge', None),
    'bridge_port': (int, 'UDP port of the bridge', None),
    'key_file': (str, 'file with the key that seals the link, the same as on the bridge', None),
    'unsealed': (bool, 'run the link without a key', ['', 'true', 'false']),
    'strategy': (str, 'how edge and bridge share the work; the same on both', ['', 'split', 'selection', 'partition', 'auto']),
    'model': (str, 'model folder or name of a timm Vision Transformer; the same on edge and bridge', None),
    'light_model': (str, "strategy selection: folder of the robot's light model; the same on edge and bridge", None),
    'partition': (str, 'strategy partition: folder of the partition; the same on edge and bridge', None),
    'auto_frame_bytes': (float, 'strategy auto: bytes for an image that the link can be expected to carry; the same on both', None),
    'auto_loss': (float, 'strategy auto: share of the datagrams that is expected to be lost; the same on both', None),
    'auto_multiply_adds': (float, 'strategy auto: millions for an image that the robot can afford; the same on both', None),
    'checkpoint': (str, "file with the timm model's weights", None),
    'pretrained': (bool, "take the timm model's weights from its hub", ['', 'true', 'false']),
    'random_seed': (int, 'random weights from this seed, for trials', None),
    'cut': (int, 'the head ends after this block; the same on edge and bridge', None),
    'quantisation': (str, 'how tokens travel; the same on edge and bridge',
                     ['', 'auto', 'fp16', 'int8', 'int4', 'klt2', 'klt1.5', 'klt1', 'klt0.5', 'klt0.25', 'klt0.125']),
    'device': (str, 'where the head runs: cpu, cuda, cuda:1, ...', None),
    'max_rate': (float, 'most frames taken a second (Hz), 0 for no limit', None),
    'answer_deadline': (float, 'time after which a frame without an answer counts as expired (s)', None),
    'local_fallback': (bool, 'answer alone when the bridge does not', ['', 'true', 'false']),
    'delta': (float, 'strategy selection: share of the attention that the sent patches have', None),
    'eta': (float, 'strategy selection: below this uncertainty the robot answers alone', None),
    'partition_device': (str, 'strategy partition: which of its devices this is, by name or number', None),
    'image_transport': (str, 'subscribe image or image/compressed', ['', 'raw', 'compressed']),
}


def edge_node(context):
    """Make the node, with those of the arguments over the parameter file that were given."""
    given = {}
    for name, (value_type, _, _) in PARAMETERS.items():
        text = LaunchConfiguration(name).perform(context)
        if text:
            try:
                value = text == 'true' if value_type is bool else value_type(text)
            except ValueError:
                raise ValueError(f'{name}:={text}: expected a value of type {value_type.__name__}') from None
            given[name] = ParameterValue(value, value_type=value_type)
    log_level = LaunchConfiguration('log_level')
    return [
        Node(
            package='evitif', executable='edge_node', name='edge_node', namespace=LaunchConfiguration('namespace'),
            output='screen',
            parameters=[
                LaunchConfiguration('params_file'),
                {
                    'use_sim_time': ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool),
                    'autostart': ParameterValue(LaunchConfiguration('autostart'), value_type=bool),
                },
                given,
            ],
            remappings=[('image', LaunchConfiguration('image'))],
            arguments=['--ros-args', '--log-level', log_level],
            respawn=LaunchConfiguration('use_respawn'), respawn_delay=2.0,
        ),
        Node(
            package='rviz2', executable='rviz2', name='rviz2', namespace=LaunchConfiguration('namespace'),
            output='screen', condition=IfCondition(LaunchConfiguration('rviz')),
            arguments=['-d', LaunchConfiguration('rviz_config'), '--ros-args', '--log-level', log_level],
            parameters=[{'use_sim_time': ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool)}],
        ),
    ]


def generate_launch_description():
    share = FindPackageShare('evitif')
    yes_or_no = ['true', 'false']
    return LaunchDescription([
        DeclareLaunchArgument('namespace', default_value='', description='namespace of the node and its topics'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='false', choices=yes_or_no, description='take the time from /clock'),
        DeclareLaunchArgument(
            'params_file', default_value=PathJoinSubstitution([share, 'config', 'edge.yaml']),
            description='YAML file with the parameters of the node'),
        DeclareLaunchArgument(
            'autostart', default_value='true', choices=yes_or_no,
            description='activate the node; false leaves it unconfigured for a lifecycle manager'),
        DeclareLaunchArgument(
            'use_respawn', default_value='false', choices=yes_or_no, description='start the node again when it ends'),
        DeclareLaunchArgument(
            'log_level', default_value='info', choices=['debug', 'info', 'warn', 'error', 'fatal'],
            description='least severity that is logged'),
        DeclareLaunchArgument(
            'image', default_value='image',
            description='topic of the images; with image_transport:=compressed, /compressed is added'),
        DeclareLaunchArgument('rviz', default_value='false', choices=yes_or_no, description='show the annotated image'),
        DeclareLaunchArgument(
            'rviz_config', default_value=PathJoinSubstitution([share, 'rviz', 'evitif.rviz']),
            description='what rviz shows'),
        *(
            DeclareLaunchArgument(
                name, default_value='', choices=choices, description=f'{text}; empty: as params_file says')
            for name, (_, text, choices) in PARAMETERS.items()
        ),
        OpaqueFunction(function=edge_node),
    ])
