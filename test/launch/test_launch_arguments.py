"""The launch files' arguments: described, checked, and in step with the nodes' parameters. Nothing is started."""

import importlib.util
import logging

import pytest

pytest.importorskip(
    'launch_ros', reason='launch_ros is not installed (a ROS 2 distribution has it); launch arguments are not tested')

import launch_ros.actions
import yaml
from launch import LaunchContext
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, SetEnvironmentVariable
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import TextSubstitution

from evitif_cloud_bridge.parameters import BRIDGE_PARAMETERS, LINK_SIMULATOR_PARAMETERS
from evitif_edge_node.parameters import CAMERA_PARAMETERS, EDGE_PARAMETERS
from evitif_ros.launch_parameter_file import CheckedParameterFile

FILES = ('edge', 'bridge', 'demo')
NAVIGATION2 = {'namespace', 'use_sim_time', 'params_file', 'autostart', 'use_respawn', 'log_level'}


@pytest.fixture
def loaded(launch_folder):
    """Load a launch file as a module."""
    def load(name):
        spec = importlib.util.spec_from_file_location(f'{name}_launch', launch_folder / f'{name}.launch.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    return load


@pytest.fixture
def started(launch_folder, monkeypatch, tmp_path):
    """The nodes that an included launch file would start, by name, and the context afterwards: `started('edge', cut='1')`."""
    monkeypatch.setenv('ROS_HOME', str(tmp_path / 'ros'))       # for the demo's key

    def visit(entity, context, nodes):
        if isinstance(entity, launch_ros.actions.Node):
            entity._perform_substitutions(context)
            nodes[entity.node_name.rpartition('/')[2]] = entity
            return
        for below in entity.visit(context) or ():
            visit(below, context, nodes)

    def start(name, **arguments):
        context, nodes = LaunchContext(), {}
        context.launch_configurations.update(arguments)
        visit(IncludeLaunchDescription(PythonLaunchDescriptionSource(str(launch_folder / f'{name}.launch.py'))), context, nodes)
        return nodes, context
    return start


def declared(description):
    return {entity.name: entity for entity in description.entities if isinstance(entity, DeclareLaunchArgument)}


def parameters_of(node):
    """As the node reads them: those of its parameter files, the later over the earlier."""
    words = [''.join(part.text for part in word if isinstance(part, TextSubstitution)) for word in node.cmd]
    files = [CheckedParameterFile(LaunchContext(), words[index + 1]) for index, word in enumerate(words) if word == '--params-file']

    class Parameters:
        def __getitem__(self, name):
            values = [value for file in files if (value := file.says(node.node_name, name)) is not None]
            return values[-1] if values else None
    return Parameters()


@pytest.mark.parametrize('name', FILES)
def test_every_argument_is_described_and_navigation2s_are_there(loaded, name):
    arguments = declared(loaded(name).generate_launch_description())
    assert arguments.keys() >= NAVIGATION2
    for argument in arguments.values():
        assert argument.description and argument.description != 'no description given', argument.name
    for argument in ('use_sim_time', 'autostart', 'use_respawn', 'rviz'):
        assert argument not in arguments or '(true or false)' in arguments[argument].description


@pytest.mark.parametrize(('name', 'table'), [('edge', EDGE_PARAMETERS), ('bridge', BRIDGE_PARAMETERS)])
def test_arguments_that_are_parameters_have_the_nodes_descriptions_and_choices(loaded, name, table):
    parameters = {parameter.name: parameter for parameter in table}
    arguments = declared(loaded(name).generate_launch_description())
    for argument in loaded(name).PARAMETERS:
        description, parameter = arguments[argument.name].description, parameters[argument.name]
        assert description.startswith(parameter.description.partition('; empty: ')[0])
        assert all(choice in description for choice in parameter.choices)


def test_the_demos_arguments_are_parameters_of_its_nodes(loaded):
    def names(arguments):
        return {argument.name for argument in arguments}
    demo = loaded('demo')
    assert names(demo.CAMERA) <= {parameter.name for parameter in CAMERA_PARAMETERS}
    link = {parameter.name for parameter in LINK_SIMULATOR_PARAMETERS}
    assert {f'{way}.{name.removeprefix("link_")}' for name in names(demo.LINK) for way in ('uplink', 'downlink')} <= link
    assert names(loaded('edge').PARAMETERS) >= names(demo.EDGE)
    assert names(loaded('bridge').PARAMETERS) >= names(demo.BRIDGE)


@pytest.mark.parametrize('name', FILES)
def test_nothing_is_set_in_the_users_environment(loaded, name):
    assert not [entity for entity in loaded(name).generate_launch_description().entities if isinstance(entity, SetEnvironmentVariable)]


@pytest.mark.parametrize(('name', 'argument', 'value'), [
    ('edge', 'quantisation', 'int7'), ('bridge', 'recovery', 'guess'), ('demo', 'log_level', 'loud'),
    ('edge', 'autostart', 'maybe'), ('edge', 'bridge_port', 'http'), ('bridge', 'reassembly_deadline', 'soon'),
    ('demo', 'loss', 'much'), ('demo', 'loss', '0,3'), ('demo', 'loss', '1.5'), ('demo', 'loss', 'nan'), ('demo', 'rate', 'fast'),
    ('demo', 'link_port', '70000'), ('demo', 'strategy', 'spilt'), ('demo', 'unsealed', 'perhaps'), ('demo', 'recovery', 'guess'),
    ('demo', 'delta', '2'), ('demo', 'partition_devices', 'left,left'), ('demo', 'namespace', 'a b'), ('demo', 'image', 'a b'),
    ('demo', 'params_file', '/no/such.yaml'), ('edge', 'params_file', '/no/such.yaml'), ('bridge', 'namespace', '7'),
    ('bridge', 'use_sim_time', '2'), ('edge', 'rviz_config', '/no/such.rviz'), ('demo', 'count', '1.5'),
])
def test_a_wrong_value_is_refused_before_anything_starts(name, argument, value, loaded, monkeypatch, tmp_path):
    monkeypatch.setenv('ROS_HOME', str(tmp_path / 'ros'))       # for the demo's key
    context = LaunchContext()
    context.launch_configurations[argument] = value
    with pytest.raises((RuntimeError, ValueError)) as error:
        for entity in loaded(name).generate_launch_description().entities:
            entity.visit(context)
    assert f'{argument}:={value}: expected' in str(error.value) and '\n' not in str(error.value)
    assert not (tmp_path / 'ros').exists(), 'a key was made for nothing'


@pytest.mark.parametrize(('text', 'reason'), [
    ('a: [', 'not valid YAML, line 1'), ('- edge_node', 'expected node names'), ('', 'found nothing'),
    ('model: x', "found 'x' below /model"),
    ('/**: {ros__parameters: {model: $(find-pkg-share nosuch)}}', "package 'nosuch' not found"), ('a: \x00', 'not valid YAML'),
])
@pytest.mark.parametrize('name', FILES)
def test_a_params_file_that_is_none_is_refused_with_the_reason(started, tmp_path, name, text, reason):
    (tmp_path / 'wrong.yaml').write_text(text)
    with pytest.raises(ValueError) as error:
        started(name, params_file=str(tmp_path / 'wrong.yaml'))
    assert reason in str(error.value) and f'params_file:={tmp_path / "wrong.yaml"}' in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize(('given', 'expected'), [('true', True), ('True', True), ('TRUE', True), ('1', True), ('on', True),
                                                  ('False', False), ('0', False), ('No', False)])
def test_yes_and_no_and_log_levels_as_navigation2_takes_them(started, given, expected):
    nodes, _ = started('edge', use_sim_time=given, autostart=given, unsealed=given, log_level='WARN')
    parameters = parameters_of(nodes['edge_node'])
    assert [parameters[name] for name in ('use_sim_time', 'autostart', 'unsealed')] == [expected] * 3
    started('bridge', log_level='evitif:=DEBUG')


@pytest.mark.parametrize(('name', 'node'), [
    ('edge', 'edge_node'), ('bridge', 'bridge_node'), ('demo', 'camera'), ('demo', 'link_simulator')])
def test_what_is_not_given_is_as_the_params_file_says(started, tmp_path, name, node):
    (tmp_path / 'mine.yaml').write_text(
        '/**: {ros__parameters: {use_sim_time: true, autostart: false, bind_host: 0.0.0.0, port: 9000, bridge_port: 9001}}')
    mine = str(tmp_path / 'mine.yaml')
    nodes, _ = started(name, params_file=mine)
    assert (parameters_of(nodes[node])['use_sim_time'], parameters_of(nodes[node])['autostart']) == (True, False)
    nodes, _ = started(name, params_file=mine, use_sim_time='false', autostart='true')
    assert (parameters_of(nodes[node])['use_sim_time'], parameters_of(nodes[node])['autostart']) == (False, True)


def demo_ports(started, **arguments):
    """(host, port) of the bridge, where the link simulator sends to, where it listens, and where the edge node sends to."""
    nodes, context = started('demo', **arguments)
    bridge, link, edge = (parameters_of(nodes[name]) for name in ('bridge_node', 'link_simulator', 'edge_node'))
    return [(bridge['bind_host'], bridge['port']), (link['forward_host'], link['forward_port']),
            (link['listen_host'], link['listen_port']), (edge['bridge_host'], edge['bridge_port'])]


def test_the_task_segmentation_brings_the_model_its_head_and_the_video(started):
    nodes, _ = started('demo', task='segmentation')
    bridge, edge, camera = (parameters_of(nodes[name]) for name in ('bridge_node', 'edge_node', 'camera'))
    assert bridge['heads'] == edge['heads'] == 'artifacts/moving_fashion/segmentation'
    assert bridge['model'] == edge['model'] == 'artifacts/moving_fashion' and camera['source'] == 'moving-fashion'
    nodes, _ = started('demo', task='segmentation', heads='mine')
    assert parameters_of(nodes['edge_node'])['heads'] == 'mine'


@pytest.mark.parametrize(('task', 'name'), [('classification', 'evitif'), ('segmentation', 'segmentation')])
def test_rviz_shows_topics_that_the_demo_publishes(started, launch_folder, monkeypatch, task, name):
    from evitif_edge_node.edge_node import EdgeNode
    monkeypatch.setattr('evitif_ros.launch_arguments.get_package_prefix', lambda package: '')       # as if RViz were installed
    nodes, _ = started('demo', task=task, rviz='true')
    (config,) = [word for word in nodes['rviz2'].cmd if any(getattr(part, 'text', '').endswith('.rviz') for part in word)] or [None]
    assert config is not None and config[-1].text.endswith(f'/rviz/{name}.rviz')
    displays = yaml.safe_load((launch_folder.parent / 'rviz' / f'{name}.rviz').read_text())['Visualization Manager']['Displays']
    published = {topic.replace('~', 'edge_node') for topic in EdgeNode.publishes(None)}
    assert len(displays) == (3 if task == 'segmentation' else 1) and {display['Topic']['Value'] for display in displays} <= published


def test_the_demos_nodes_meet_whatever_the_params_file_says_of_their_ports(started, tmp_path):
    def places(bridge, link, host='127.0.0.1'):
        return [(host, bridge), ('127.0.0.1', bridge), ('127.0.0.1', link), ('127.0.0.1', link)]
    (tmp_path / 'none.yaml').write_text('/**/edge_node: {ros__parameters: {unsealed: true}}')
    (tmp_path / 'some.yaml').write_text(
        '/bridge/*:\n  ros__parameters: {bind_host: 0.0.0.0, port: 9000}\n/**/link_simulator:\n  ros__parameters: {listen_port: 9001}\n')
    assert demo_ports(started) == places(7600, 7601)
    none, some = str(tmp_path / 'none.yaml'), str(tmp_path / 'some.yaml')
    assert demo_ports(started, params_file=none) == places(7600, 7601)
    assert demo_ports(started, params_file=some) == places(9000, 9001, '0.0.0.0')
    assert demo_ports(started, params_file=some, bridge_port='9002', link_port='9003') == places(9002, 9003, '0.0.0.0')
    assert demo_ports(started, bridge_port='9002', link_port='9003') == places(9002, 9003)


@pytest.mark.parametrize(('arguments', 'reason'), [
    ({'bridge_port': '7601'}, 'bridge_port and link_port: expected different ports, got 7601 for both'),
    ({'loss': '0.9', 'burst_length': '3'}, 'loss and burst_length: burst_length = 3 with loss = 0.9')])
def test_arguments_that_do_not_go_together_are_refused(started, arguments, reason):
    with pytest.raises(ValueError, match=reason):
        started('demo', **arguments)


def test_substitutions_in_a_params_file_are_made_and_other_text_is_left_alone(started, tmp_path, monkeypatch):
    monkeypatch.setenv('ROVER', 'hare')
    (tmp_path / 'with.yaml').write_text('/**/edge_node: {ros__parameters: {robot_name: $(env ROVER), model: $(find-pkg-share evitif)/x}}')
    (tmp_path / 'without.yaml').write_text("edge_node: {ros__parameters: {robot_name: 'a\\b$c'}}")
    nodes, _ = started('edge', params_file=str(tmp_path / 'with.yaml'))
    parameters = parameters_of(nodes['edge_node'])
    assert parameters['robot_name'] == 'hare' and parameters['model'].endswith('/share/evitif/x')
    nodes, _ = started('edge', params_file=str(tmp_path / 'without.yaml'))
    assert parameters_of(nodes['edge_node'])['robot_name'] == 'a\\b$c'


def test_a_params_file_of_other_nodes_is_said_to_be_one(started, tmp_path, caplog, monkeypatch):
    launchs_own = logging.getLogger('launch')      # which hands nothing on
    monkeypatch.setattr(launchs_own, 'handlers', [*launchs_own.handlers, caplog.handler])
    (tmp_path / 'bridge.yaml').write_text('/server/bridge_node: {ros__parameters: {port: 9000}}')
    (tmp_path / 'all.yaml').write_text('hare: {edge_node: {ros__parameters: {port: 9000}}}')
    started('edge', params_file=str(tmp_path / 'bridge.yaml'))
    assert 'has no parameters for /edge_node: it is about /server/bridge_node' in caplog.text
    caplog.clear()
    started('edge', params_file=str(tmp_path / 'all.yaml'), namespace='hare')
    assert caplog.text == ''


@pytest.mark.parametrize('name', FILES)
def test_an_empty_configuration_of_an_including_file_is_as_none(started, name):
    nodes, _ = started(name, **dict.fromkeys(NAVIGATION2, ''), image='', rviz='')
    assert nodes


@pytest.mark.parametrize('name', FILES)
def test_nothing_that_a_launch_file_sets_is_left_behind(started, name):
    before = {'params_file_of_mine': 'x', 'namespace': 'mine'}
    _, context = started(name, **before)
    assert context.launch_configurations == before


def test_text_that_looks_like_a_number_stays_text_and_a_whole_number_may_be_given_for_a_number(started):
    nodes, _ = started('demo', source='0', rate='10', partition_devices='0, left-hand')
    assert parameters_of(nodes['camera'])['source'] == '0' and type(parameters_of(nodes['camera'])['rate']) is float
    edges, _ = started('edge', partition_device='1')
    assert parameters_of(edges['edge_node'])['partition_device'] == '1'


def test_each_device_of_a_partition_has_a_namespace_that_ros_takes(loaded):
    assert loaded('demo').device_names('0, left-hand,b') == {'0': 'device_0', 'left-hand': 'left_hand', 'b': 'b'}


@pytest.mark.parametrize(('chosen', 'made'), [
    ({}, True), ({'key_file': 'mine.key'}, False), ({'unsealed': 'true'}, False), ({'params_file': 'mine.yaml'}, False),
])
def test_the_demos_key_is_made_once_where_nobody_says_another(loaded, monkeypatch, tmp_path, chosen, made):
    monkeypatch.setenv('ROS_HOME', str(tmp_path / 'ros'))
    demo, context = loaded('demo'), LaunchContext()
    monkeypatch.setattr(demo, 'PARAMS_FILE', TextSubstitution(text='shipped.yaml'))
    context.launch_configurations.update({'key_file': '', 'unsealed': '', 'params_file': 'shipped.yaml', **chosen})
    contents = []
    for _ in range(2):
        for action in demo.key_of_the_demo(context):
            action.execute(context)
        contents += [path.read_bytes() for path in tmp_path.glob('ros/*.key')]
        if made:
            context.launch_configurations['key_file'] = ''      # another start
    assert len(set(contents)) == made and len(contents) == 2 * made


def test_a_key_that_cannot_be_made_is_a_sentence(started, monkeypatch, tmp_path):
    (tmp_path / 'ros').write_text('a file')
    with pytest.raises(ValueError, match='the key of the demo cannot be made, .*: give key_file, or set ROS_HOME'):
        started('demo')
