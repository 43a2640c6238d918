"""
Start everything on this machine: camera node, edge node, link simulator and bridge node.

    ros2 launch evitif demo.launch.py loss:=0.3 rviz:=true

Images go from the camera node to the edge node, tokens from there through the link simulator to the bridge node,
answers back through the link simulator. The robot's topics are at the top (/prediction), the bridge's below /bridge
(/bridge/robot/prediction). With `partition_devices` there is an edge node for each, its topics below its name.
The link is sealed with a key that is made at first use, $ROS_HOME/evitif_demo.key (~/.ros without ROS_HOME).
`ros2 launch evitif demo.launch.py --show-args` lists the arguments.
"""

import os
import re
from pathlib import Path

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetLaunchConfiguration,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import (
    LaunchConfiguration,
    PathJoinSubstitution,
    ThisLaunchFileDir,
)
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

# Arguments of this file: type, description. Empty, the default, leaves `params_file` to say.
CAMERA = {
    'source': (str, 'what the camera shows: fashion-mnist, an image folder, a video file, or a camera device'),
    'rate': (float, 'images a second (Hz)'),
    'count': (int, 'stop after as many images, 0 for no limit'),
}
LINK = {
    'loss': (float, 'share of the datagrams lost, 0 to 1, in each direction'),
    'burst_length': (float, 'mean number of datagrams lost in a row, in each direction; 1 for independent loss'),
    'delay': (float, 'delay of every datagram (s), in each direction'),
    'jitter': (float, 'added delay, uniform from 0 to this (s), in each direction'),
    'link_rate': (float, 'rate of the link (bit/s) in each direction, 0 for unlimited'),
}
# Arguments that are handed on to edge.launch.py and bridge.launch.py.
BOTH = {
    'key_file': 'file with the key that seals the link; with the parameter file of this package one is made at first use',
    'unsealed': 'run the link without a key: true or false',
    'strategy': 'how edge and bridge share the work: split, selection, partition or auto',
    'light_model': "strategy selection: folder of the robot's light model",
    'partition': 'strategy partition: folder of the partition',
    'auto_frame_bytes': 'strategy auto: bytes for an image that the link can be expected to carry',
    'auto_loss': 'strategy auto: share of the datagrams that is expected to be lost',
    'auto_multiply_adds': 'strategy auto: millions for an image that the robot can afford',
    'model': 'model folder or name of a timm Vision Transformer',
    'checkpoint': "file with the timm model's weights",
    'pretrained': "take the timm model's weights from its hub: true or false",
    'random_seed': 'random weights from this seed, for trials',
    'cut': 'the head ends after this block',
    'quantisation': 'how tokens travel: auto, fp16, int8, int4, klt2, klt1.5, klt1, klt0.5, klt0.25 or klt0.125',
}
EDGE = {
    'robot_name': "the robot's name",
    'delta': 'strategy selection: share of the attention that the sent patches have',
    'eta': 'strategy selection: below this uncertainty the robot answers alone',
}
BRIDGE = {
    'recovery': 'what is done about missing tokens: auto, zero, mean, omission, interpolation, surrogate, linear, srcnn, edsr, paldn '
                'or tuned-tail',
    'recovery_artifact': 'description (JSON) of a trained recovery',
}
PARAMS_FILE = PathJoinSubstitution([FindPackageShare('evitif'), 'config', 'demo.yaml'])
COMMON = ('use_sim_time', 'params_file', 'autostart', 'use_respawn', 'log_level')


def include(file, names, extra):
    """Include a launch file in a scope of its own, where what is set for one does not reach the other."""
    arguments = {name: LaunchConfiguration(name) for name in (*COMMON, *BOTH, *names)}
    source = PythonLaunchDescriptionSource([ThisLaunchFileDir(), '/', file])
    return GroupAction([IncludeLaunchDescription(source, launch_arguments={**arguments, **extra}.items())])


def key_of_the_demo(context):
    """Seal the link with a key that is made at first use, where neither an argument nor another parameter file says how."""
    from evitif.protocol.keys import write_key_file
    named = any(LaunchConfiguration(name).perform(context) for name in ('key_file', 'unsealed'))
    if named or LaunchConfiguration('params_file').perform(context) != PARAMS_FILE.perform(context):
        return []
    path = Path(os.environ.get('ROS_HOME') or '~/.ros').expanduser() / 'evitif_demo.key'
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_key_file(path)
    return [SetLaunchConfiguration('key_file', str(path))]


def edges(context):
    """Include the edge node once, or for each of the devices of a partition, in a namespace of its own."""
    namespace, image = (LaunchConfiguration(name).perform(context) for name in ('namespace', 'image'))
    devices = [device for device in LaunchConfiguration('partition_devices').perform(context).split(',') if device]
    extra = {
        'rviz': LaunchConfiguration('rviz'), 'device': LaunchConfiguration('edge_device'),
        'bridge_host': '127.0.0.1', 'bridge_port': LaunchConfiguration('link_port'),
    }
    if not devices:
        return [include('edge.launch.py', EDGE, {**extra, 'namespace': namespace, 'image': image})]
    topic = image if image.startswith('/') else '/'.join(['', *filter(None, [namespace]), image])
    return [
        include('edge.launch.py', EDGE, {
            **extra, 'namespace': '/'.join([*filter(None, [namespace]), re.sub(r'\W', '_', device)]), 'image': topic,
            'partition_device': device,
        })
        for device in devices
    ]


def camera_and_link(context):
    """Make the camera node and the link simulator, with those of the arguments that were given."""
    def given(table):
        values = {}
        for name, (value_type, _) in table.items():
            text = LaunchConfiguration(name).perform(context)
            if text:
                try:
                    value = text == 'true' if value_type is bool else value_type(text)
                except ValueError:
                    raise ValueError(f'{name}:={text}: expected a value of type {value_type.__name__}') from None
                values[name] = ParameterValue(value, value_type=value_type)
        return values

    common = {
        name: ParameterValue(LaunchConfiguration(name), value_type=bool) for name in ('use_sim_time', 'autostart')
    }
    options = {
        'package': 'evitif', 'output': 'screen',
        'arguments': ['--ros-args', '--log-level', LaunchConfiguration('log_level')],
        'respawn': LaunchConfiguration('use_respawn'), 'respawn_delay': 2.0,
    }
    ports = {
        'listen_port': ParameterValue(LaunchConfiguration('link_port'), value_type=int),
        'forward_port': ParameterValue(LaunchConfiguration('bridge_port'), value_type=int),
    }
    params_file = LaunchConfiguration('params_file')
    return [
        Node(
            executable='link_simulator_node', name='link_simulator',
            namespace=LaunchConfiguration('bridge_namespace'),
            parameters=[
                params_file, common, {'listen_host': '127.0.0.1', 'forward_host': '127.0.0.1', **ports},
                {
                    f'{direction}.{name.removeprefix("link_")}': value
                    for name, value in given(LINK).items() for direction in ('uplink', 'downlink')
                },
            ],
            **options,
        ),
        Node(
            executable='camera_node', name='camera', namespace=LaunchConfiguration('namespace'),
            parameters=[params_file, common, given(CAMERA)],
            remappings=[('image', LaunchConfiguration('image'))],
            **options,
        ),
    ]


def generate_launch_description():
    yes_or_no = ['true', 'false']
    handed_on = {**BOTH, **EDGE, **BRIDGE}
    own = {name: text for name, (_, text) in (CAMERA | LINK).items()}
    return LaunchDescription([
        DeclareLaunchArgument('namespace', default_value='', description="namespace of the robot's nodes and topics"),
        DeclareLaunchArgument(
            'bridge_namespace', default_value='bridge',
            description="namespace of the bridge's nodes and topics; another than the robot's"),
        DeclareLaunchArgument(
            'use_sim_time', default_value='false', choices=yes_or_no, description='take the time from /clock'),
        DeclareLaunchArgument(
            'params_file', default_value=PARAMS_FILE, description='YAML file with the parameters of all nodes'),
        DeclareLaunchArgument(
            'autostart', default_value='true', choices=yes_or_no,
            description='activate the nodes; false leaves them unconfigured for a lifecycle manager'),
        DeclareLaunchArgument(
            'use_respawn', default_value='false', choices=yes_or_no, description='start a node again when it ends'),
        DeclareLaunchArgument(
            'log_level', default_value='info', choices=['debug', 'info', 'warn', 'error', 'fatal'],
            description='least severity that is logged'),
        DeclareLaunchArgument('image', default_value='image', description='topic of the images'),
        DeclareLaunchArgument('bridge_port', default_value='7600', description='UDP port of the bridge node'),
        DeclareLaunchArgument(
            'link_port', default_value='7601',
            description='UDP port of the link simulator, which the edge node sends to'),
        DeclareLaunchArgument(
            'edge_device', default_value='', description='where the head runs; empty: as params_file says'),
        DeclareLaunchArgument(
            'bridge_device', default_value='', description='where recovery and tail run; empty: as params_file says'),
        DeclareLaunchArgument(
            'partition_devices', default_value='',
            description='strategy partition: names of the devices to start, with commas, each in a namespace of its own'),
        DeclareLaunchArgument('rviz', default_value='false', choices=yes_or_no, description='show the annotated image'),
        *(
            DeclareLaunchArgument(name, default_value='', description=f'{text}; empty: as params_file says')
            for name, text in (own | handed_on).items()
        ),
        OpaqueFunction(function=key_of_the_demo),
        include('bridge.launch.py', BRIDGE, {
            'namespace': LaunchConfiguration('bridge_namespace'), 'bind_host': '127.0.0.1',
            'port': LaunchConfiguration('bridge_port'), 'device': LaunchConfiguration('bridge_device'),
        }),
        OpaqueFunction(function=edges),
        OpaqueFunction(function=camera_and_link),
    ])
