"""Start everything on this machine: camera node, edge node, link simulator and bridge node.

    ros2 launch evitif demo.launch.py loss:=0.3 rviz:=true
    ros2 launch evitif demo.launch.py task:=segmentation rviz:=true

The camera node sends images to the edge node, which sends tokens through the link simulator to the bridge node; answers take
the same way back. The robot's topics are at the top (/prediction), the bridge's below /bridge (/bridge/robot/prediction).
`partition_devices` starts an edge node for each device, its topics below its name. The link is sealed with a key that is made
at first use, $ROS_HOME/evitif_demo.key (~/.ros without ROS_HOME). `ros2 launch evitif demo.launch.py --show-args` lists the
arguments.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import GroupAction, IncludeLaunchDescription, SetLaunchConfiguration
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, ThisLaunchFileDir
from launch_ros.substitutions import FindPackageShare

from evitif.transport import Impairment
from evitif_cloud_bridge.parameters import BRIDGE_PARAMETERS, DIRECTION, LINK_SIMULATOR_PARAMETERS
from evitif_edge_node.parameters import CAMERA_PARAMETERS, EDGE_PARAMETERS
from evitif_ros.launch_arguments import (
    Argument,
    namespace,
    navigation2_arguments,
    parameter_argument,
    parameter_arguments,
    show_rviz,
    topic,
)
from evitif_ros.launch_nodes import asked, description, full_name, given, node
from evitif_ros.launch_parameter_file import CheckedParameterFile
from evitif_ros.parameters import prefixed

LOCALHOST, BRIDGE_PORT, LINK_PORT = '127.0.0.1', 7600, 7601     # unless an argument or the params_file sets another
PARAMS_FILE = PathJoinSubstitution([FindPackageShare('evitif'), 'config', 'demo.yaml'])


def device_names(text: str) -> dict[str, str]:
    """The devices of a partition, each with the namespace of its edge node."""
    names = [name.strip() for name in text.split(',')]
    spaces = [re.sub(r'^(?=\d)', 'device_', re.sub(r'[^A-Za-z0-9_]+', '_', name)) for name in names]
    if not all(names) or len(set(spaces)) < len(names):
        raise ValueError('expected different names with commas between them')
    return dict(zip(names, spaces, strict=True))


def known_task(text: str) -> str:
    """What the demo shows."""
    if text not in ('classification', 'segmentation'):
        raise ValueError('expected classification or segmentation')
    return text


# Of `task:=segmentation`, unless arguments say otherwise: the model that ships for moving-fashion, and its head for masks.
SEGMENTATION = {'source': 'moving-fashion', 'model': 'artifacts/moving_fashion', 'heads': 'artifacts/moving_fashion/segmentation'}
CAMERA = parameter_arguments(CAMERA_PARAMETERS)
# Of the link simulator, in both directions; the camera has a `rate` too.
LINK = tuple(parameter_argument(parameter, 'link_rate' if parameter.name == 'rate' else parameter.name)
             for parameter in prefixed('', DIRECTION.values(), 'in each direction') if parameter.launch)
# What edge.launch.py and bridge.launch.py take, but for what is set below.
SET_HERE = ('bridge_host', 'bridge_port', 'bind_host', 'port', 'device', 'partition_device', 'image_transport')
EDGE, BRIDGE = parameter_arguments(EDGE_PARAMETERS, SET_HERE), parameter_arguments(BRIDGE_PARAMETERS, SET_HERE)
BY_NAME = {parameter.name: parameter for parameter in (*BRIDGE_PARAMETERS, *LINK_SIMULATOR_PARAMETERS)}
NAVIGATION2 = navigation2_arguments(PARAMS_FILE, 'the nodes')
ARGUMENTS = (
    *NAVIGATION2,
    Argument('bridge_namespace', "namespace of the bridge's nodes and topics; another than the robot's", namespace, 'bridge'),
    Argument('image', 'topic of the images', topic, 'image'),
    parameter_argument(BY_NAME['port'], 'bridge_port', 'UDP port of the bridge node'),
    parameter_argument(BY_NAME['listen_port'], 'link_port', 'UDP port of the link simulator, which the edge node sends to'),
    parameter_argument(BY_NAME['device'], 'edge_device', 'where the edge node computes, as PyTorch names it'),
    parameter_argument(BY_NAME['device'], 'bridge_device', 'where the bridge node computes, as PyTorch names it'),
    Argument('partition_devices', 'strategy partition: names of the devices to start, with commas, each in a namespace of its own',
             device_names),
    Argument('task', 'classification, or segmentation: masks of moving-fashion, over the annotated image', known_task, 'classification'),
    Argument('rviz', 'show the annotated image, and masks, in RViz (true or false)', show_rviz, 'false'),
    *CAMERA, *LINK, *{argument.name: argument for argument in (*EDGE, *BRIDGE)}.values(),
)


def demo(context: LaunchContext) -> list[Action]:
    """All nodes, each told where to find the next."""
    values, file = asked(context, ARGUMENTS)
    preset = {} if values['task'] == 'classification' else {name: value for name, value in SEGMENTATION.items() if name not in values}
    values.update(preset)
    bridge_space, space = values.get('bridge_namespace', ''), values.get('namespace', '')
    bridge, link = full_name(context, bridge_space, 'bridge_node'), full_name(context, bridge_space, 'link_simulator')
    bridge_port = values.get('bridge_port', file.says(bridge, 'port') or BRIDGE_PORT)
    link_port = values.get('link_port', file.says(link, 'listen_port') or LINK_PORT)
    check_ports(bridge_port, link_port)
    check_bursts(values)
    to_link = {
        **or_file(file, link, listen_host=LOCALHOST, forward_host=LOCALHOST, forward_port=bridge_port), 'listen_port': link_port,
        **({'forward_port': bridge_port} if 'bridge_port' in values else {}),
        **{f'{direction}.{name.removeprefix("link_")}': value
           for name, value in given(values, LINK).items() for direction in ('uplink', 'downlink')},
    }
    return [
        *key_of_the_demo(context),
        *(SetLaunchConfiguration(name, value) for name, value in preset.items()),
        include('bridge.launch.py', BRIDGE, {
            'namespace': bridge_space, 'port': bridge_port, 'device': values.get('bridge_device', ''),
            **or_file(file, bridge, bind_host=LOCALHOST),
        }),
        *edges(context, values, file, link_port),
        *node('link_simulator_node', 'link_simulator', values, file, to_link, namespace=bridge_space),
        *node('camera_node', 'camera', values, file, given(values, CAMERA), namespace=space, remappings=[('image', values['image'])]),
    ]


def edges(context: LaunchContext, values: Mapping, file: CheckedParameterFile, link_port: int) -> Iterable[Action]:
    """The edge node, or one for each device of a partition, in a namespace of its own."""
    space, image = values.get('namespace', ''), values['image']
    devices = values.get('partition_devices', {'': ''})
    if any(devices) and not image.startswith('/'):
        image = full_name(context, space, image)
    for device, own in devices.items():
        below = '/'.join(filter(None, [space, own]))
        yield include('edge.launch.py', EDGE, {
            'namespace': below, 'image': image, 'partition_device': device, 'rviz': values['rviz'], **rviz_config(values),
            'device': values.get('edge_device', ''),
            **or_file(file, full_name(context, below, 'edge_node'), bridge_host=LOCALHOST, bridge_port=link_port),
            **({'bridge_port': link_port} if 'link_port' in values else {}),
        })


def include(file: str, arguments: Iterable[Argument], extra: Mapping[str, object]) -> Action:
    """A launch file in a scope of its own, so that it leaves nothing behind for the next."""
    values = {**{argument.name: LaunchConfiguration(argument.name) for argument in (*NAVIGATION2, *arguments)},
              **{name: str(value) for name, value in extra.items()}}
    source = PythonLaunchDescriptionSource([ThisLaunchFileDir(), '/', file])
    return GroupAction([IncludeLaunchDescription(source, launch_arguments=values.items())])


def rviz_config(values: Mapping) -> dict[str, object]:
    """What RViz shows, where it is not the edge's own choice."""
    return {} if values['task'] == 'classification' else {'rviz_config': Path(__file__).parents[1] / 'rviz' / 'segmentation.rviz'}


def or_file(file: CheckedParameterFile, node_name: str, **defaults: object) -> dict[str, object]:
    """Those parameters of a node that the params_file does not set."""
    return {name: value for name, value in defaults.items() if file.says(node_name, name) is None}


def check_ports(bridge_port: int, link_port: int) -> None:
    """Raise ValueError if both nodes would listen on one port."""
    if bridge_port == link_port:
        raise ValueError(f'launch arguments bridge_port and link_port: expected different ports, got {bridge_port} for both')


def check_bursts(values: Mapping) -> None:
    """Raise ValueError if no channel has this loss with bursts this short. The link simulator checks one without the other."""
    found = {name: values[name] for name in ('loss', 'burst_length') if name in values}
    if len(found) == 2:
        try:
            Impairment(**found)
        except ValueError as error:
            raise ValueError(f'launch arguments loss and burst_length: {error}') from None


def key_of_the_demo(context: LaunchContext) -> list[Action]:
    """Seal the link with a key that is made at first use, unless an argument or another parameter file says otherwise."""
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


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    return description(ARGUMENTS, demo)
