"""
Start the bridge node, off-board.

    ros2 launch evitif bridge.launch.py device:=cuda key_file:=rover.key

What is not given here is taken from `params_file`. `ros2 launch evitif bridge.launch.py --show-args` lists the
arguments.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

# Arguments that are parameters of the node too: type, description, choices. Empty leaves `params_file` to say.
PARAMETERS = {
    'bridge_name': (str, "the bridge's name, which robots log", None),
    'bind_host': (str, 'address to listen on; 0.0.0.0 or :: for every interface', None),
    'port': (int, 'UDP port to listen on', None),
    'key_file': (str, 'file with the key that seals the links, or folder with <robot_name>.key for each robot', None),
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
    'device': (str, 'where recovery and tail run: cpu, cuda, cuda:1, ...', None),
    'recovery': (str, 'what is done about missing tokens', ['', 'auto', 'zero', 'mean', 'omission', 'interpolation', 'surrogate', 'linear',
                                                            'srcnn', 'edsr', 'paldn', 'tuned-tail']),
    'recovery_artifact': (str, 'description (JSON) of a trained recovery', None),
    'reassembly_deadline': (float, 'time from the first packet to the answer, whatever has arrived by then (s)', None),
    'join_deadline': (float, "strategy partition: time from the first device's first packet to the answer (s)", None),
}


def bridge_node(context):
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
    return [
        Node(
            package='evitif', executable='bridge_node', name='bridge_node', namespace=LaunchConfiguration('namespace'),
            output='screen',
            parameters=[
                LaunchConfiguration('params_file'),
                {
                    'use_sim_time': ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool),
                    'autostart': ParameterValue(LaunchConfiguration('autostart'), value_type=bool),
                },
                given,
            ],
            arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
            respawn=LaunchConfiguration('use_respawn'), respawn_delay=0.5,
        ),
    ]


def generate_launch_description():
    yes_or_no = ['true', 'false']
    return LaunchDescription([
        DeclareLaunchArgument('namespace', default_value='', description='namespace of the node and its topics'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='false', choices=yes_or_no, description='take the time from /clock'),
        DeclareLaunchArgument(
            'params_file', default_value=PathJoinSubstitution([FindPackageShare('evitif'), 'config', 'bridge.yaml']),
            description='YAML file with the parameters of the node'),
        DeclareLaunchArgument(
            'autostart', default_value='true', choices=yes_or_no,
            description='activate the node; false leaves it unconfigured for a lifecycle manager'),
        DeclareLaunchArgument(
            'use_respawn', default_value='false', choices=yes_or_no, description='start the node again when it ends'),
        DeclareLaunchArgument(
            'log_level', default_value='info', choices=['debug', 'info', 'warn', 'error', 'fatal'],
            description='least severity that is logged'),
        *(
            DeclareLaunchArgument(
                name, default_value='', choices=choices, description=f'{text}; empty: as params_file says')
            for name, (_, text, choices) in PARAMETERS.items()
        ),
        OpaqueFunction(function=bridge_node),
    ])
