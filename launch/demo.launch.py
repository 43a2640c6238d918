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

from launch.actions import GroupAction, IncludeLaunchDescription, SetLaunchConfiguration
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.substitutions import FindPackageShare

from evitif_cloud_bridge.parameters import BRIDGE_PARAMETERS, LINK_SIMULATOR_PARAMETERS
from evitif_edge_node.parameters import CAMERA_PARAMETERS, EDGE_PARAMETERS
from evitif_ros.launch_arguments import (
    Argument,
    namespace,
    navigation2_arguments,
    parameter_argument,
    parameter_arguments,
    read_arguments,
    show_rviz,
    topic,
    warn_of_unknown_arguments,
)
from evitif_ros.launch_nodes import description, full_name, node
from evitif_ros.launch_parameter_file import CheckedParameterFile

LOCALHOST, BRIDGE_PORT, LINK_PORT = '127.0.0.1', 7600, 7601     # where neither an argument nor the params_file says another
PARAMS_FILE = PathJoinSubstitution([FindPackageShare('evitif'), 'config', 'demo.yaml'])
BY_NAME = {parameter.name: parameter for parameter in (*EDGE_PARAMETERS, *BRIDGE_PARAMETERS, *LINK_SIMULATOR_PARAMETERS)}


def device_names(text):
    """The devices of a partition, each with the namespace of its edge node."""
    names = [name.strip() for name in text.split(',')]
    spaces = [re.sub(r'^(?=\d)', 'device_', re.sub(r'[^A-Za-z0-9_]+', '_', name)) for name in names]
    if not all(names) or len(set(spaces)) < len(names):
        raise ValueError('expected different names with commas between them')
    return dict(zip(names, spaces, strict=True))


CAMERA = parameter_arguments(CAMERA_PARAMETERS, 'source', 'rate', 'count')
# Of the link simulator, in both directions.
LINK = tuple(parameter_argument(BY_NAME[f'uplink.{name.removeprefix("link_")}'], name, f'{text}, in each direction') for name, text in {
    'loss': 'share of the datagrams that is lost', 'delay': 'delay of every datagram', 'jitter': 'added delay, uniform from 0 to this',
    'burst_length': 'mean number of datagrams lost in a row, 1: independent loss', 'link_rate': 'rate of the link, 0: unlimited'}.items())
# Arguments that are handed on to edge.launch.py and bridge.launch.py.
BOTH = parameter_arguments(
    EDGE_PARAMETERS, 'key_file', 'unsealed', 'strategy', 'light_model', 'partition', 'auto_frame_bytes', 'auto_loss', 'auto_multiply_adds',
    'model', 'checkpoint', 'pretrained', 'random_seed', 'cut', 'quantisation')
EDGE = parameter_arguments(EDGE_PARAMETERS, 'robot_name', 'delta', 'eta')
BRIDGE = parameter_arguments(BRIDGE_PARAMETERS, 'recovery', 'recovery_artifact')
NAVIGATION2 = navigation2_arguments(PARAMS_FILE, 'the nodes')
ARGUMENTS = (
    *NAVIGATION2,
    Argument('bridge_namespace', "namespace of the bridge's nodes and topics; another than the robot's", namespace, 'bridge'),
    Argument('image', 'topic of the images', topic, 'image'),
    parameter_argument(BY_NAME['port'], 'bridge_port', 'UDP port of the bridge node'),
    parameter_argument(BY_NAME['listen_port'], 'link_port', 'UDP port of the link simulator, which the edge node sends to'),
    parameter_argument(BY_NAME['device'], 'edge_device', 'where the head runs, as PyTorch names it'),
    parameter_argument(BY_NAME['device'], 'bridge_device', 'where recovery and tail run, as PyTorch names it'),
    Argument('partition_devices', 'strategy partition: names of the devices to start, with commas, each in a namespace of its own',
             device_names),
    Argument('rviz', 'show the annotated image in RViz (true or false)', show_rviz, 'false'),
    *CAMERA, *LINK, *BOTH, *EDGE, *BRIDGE,
)


def demo(context):
    warn_of_unknown_arguments(context, ARGUMENTS)
    values = read_arguments(context, ARGUMENTS)
    file = CheckedParameterFile(context, values['params_file'])
    bridge_space, space = values.get('bridge_namespace', ''), values.get('namespace', '')
    bridge, link = full_name(context, bridge_space, 'bridge_node'), full_name(context, bridge_space, 'link_simulator')
    bridge_port = values.get('bridge_port', file.says(bridge, 'port') or BRIDGE_PORT)
    link_port = values.get('link_port', file.says(link, 'listen_port') or LINK_PORT)
    check_ports(bridge_port, link_port)
    given_to_link = {
        **or_file(file, link, listen_host=LOCALHOST, forward_host=LOCALHOST, forward_port=bridge_port), 'listen_port': link_port,
        **({'forward_port': bridge_port} if 'bridge_port' in values else {}),
        **{f'{direction}.{argument.name.removeprefix("link_")}': values[argument.name]
           for argument in LINK if argument.name in values for direction in ('uplink', 'downlink')},
    }
    check_bursts(values)
    given_to_camera = {argument.name: values[argument.name] for argument in CAMERA if argument.name in values}
    return [
        *key_of_the_demo(context),
        include('bridge.launch.py', BRIDGE, {
            'namespace': bridge_space, 'port': bridge_port, 'device': values.get('bridge_device', ''),
            **or_file(file, bridge, bind_host=LOCALHOST),
        }),
        *edges(context, values, file, link_port),
        *node('link_simulator_node', 'link_simulator', values, file, given_to_link, namespace=bridge_space),
        *node('camera_node', 'camera', values, file, given_to_camera, namespace=space, remappings=[('image', values['image'])]),
    ]


def edges(context, values, file, link_port):
    """Include the edge node once, or for each of the devices of a partition, in a namespace of its own."""
    space, image = values.get('namespace', ''), values['image']
    devices = values.get('partition_devices', {'': ''})
    if any(devices) and not image.startswith('/'):
        image = full_name(context, space, image)
    for device, own in devices.items():
        below = '/'.join(filter(None, [space, own]))
        yield include('edge.launch.py', EDGE, {
            'namespace': below, 'image': image, 'partition_device': device, 'rviz': values['rviz'],
            'device': values.get('edge_device', ''),
            **or_file(file, full_name(context, below, 'edge_node'), bridge_host=LOCALHOST, bridge_port=link_port),
            **({'bridge_port': link_port} if 'link_port' in values else {}),
        })


def include(file, own, extra):
    """Include a launch file in a scope of its own, where what is set for one does not reach the other."""
    names = [argument.name for argument in (*NAVIGATION2, *BOTH, *own)]
    arguments = {**{name: LaunchConfiguration(name) for name in names}, **{name: str(value) for name, value in extra.items()}}
    source = PythonLaunchDescriptionSource([ThisLaunchFileDir(), '/', file])
    return GroupAction([IncludeLaunchDescription(source, launch_arguments=arguments.items())])


def or_file(file, node_name, **defaults):
    """Those of a node's parameters of which the params_file says nothing."""
    return {name: value for name, value in defaults.items() if file.says(node_name, name) is None}


def check_ports(bridge_port, link_port):
    if bridge_port == link_port:
        raise ValueError(f'launch arguments bridge_port and link_port: expected different ports, got {bridge_port} for both')


def check_bursts(values):
    """Not every mean burst can be had at every loss. What only one argument says is checked by the link simulator."""
    from evitif.transport import Impairment
    given = {name: values[name] for name in ('loss', 'burst_length') if name in values}
    if len(given) == 2:
        try:
            Impairment(**given)
        except ValueError as error:
            raise ValueError(f'launch arguments loss and burst_length: {error}') from None


def key_of_the_demo(context):
    """Seal the link with a key that is made at first use, where neither an argument nor another parameter file says how."""
    from evitif.protocol.sealing.keys import write_key_file
    named = any(LaunchConfiguration(name).perform(context) for name in ('key_file', 'unsealed'))
    if named or LaunchConfiguration('params_file').perform(context) != PARAMS_FILE.perform(context):
        return []
    path = Path(os.environ.get('ROS_HOME') or '~/.ros').expanduser() / 'evitif_demo.key'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_key_file(path)
    except OSError as error:
        raise ValueError(f'the key of the demo cannot be made, {error}: give key_file, or set ROS_HOME to a folder that can be written') \
            from None
    return [SetLaunchConfiguration('key_file', str(path))]


def generate_launch_description():
    return description(ARGUMENTS, demo)
