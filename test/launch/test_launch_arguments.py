"""The launch files' arguments: described, checked, and in step with the nodes' parameters. Nothing is started."""

import importlib.util

import pytest

pytest.importorskip(
    'launch_ros', reason='launch_ros is not installed (a ROS 2 distribution has it); launch arguments are not tested')

from launch import LaunchContext
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import TextSubstitution

from evitif_cloud_bridge.parameters import BRIDGE_PARAMETERS, LINK_SIMULATOR_PARAMETERS
from evitif_edge_node.parameters import CAMERA_PARAMETERS, EDGE_PARAMETERS

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


def declared(description):
    return {entity.name: entity for entity in description.entities if isinstance(entity, DeclareLaunchArgument)}


@pytest.mark.parametrize('name', FILES)
def test_every_argument_is_described_and_navigation2s_are_there(loaded, name):
    arguments = declared(loaded(name).generate_launch_description())
    assert arguments.keys() >= NAVIGATION2
    for argument in arguments.values():
        assert argument.description and argument.description != 'no description given', argument.name
    for argument in ('use_sim_time', 'autostart', 'use_respawn'):
        assert set(arguments[argument].choices) == {'true', 'false'}


@pytest.mark.parametrize(('name', 'table'), [('edge', EDGE_PARAMETERS), ('bridge', BRIDGE_PARAMETERS)])
def test_arguments_that_are_parameters_have_the_nodes_types_and_choices(loaded, name, table):
    parameters = {parameter.name: parameter for parameter in table}
    for argument, (value_type, _, choices) in loaded(name).PARAMETERS.items():
        parameter = parameters[argument]
        assert parameter.type is value_type, argument
        expected = ('true', 'false') if value_type is bool else parameter.choices
        assert tuple(choices or ['']) == ('', *expected), argument


def test_the_demos_arguments_are_parameters_of_its_nodes(loaded):
    demo = loaded('demo')
    camera = {parameter.name: parameter.type for parameter in CAMERA_PARAMETERS}
    assert {name: camera.get(name) for name in demo.CAMERA} == {name: kind for name, (kind, _) in demo.CAMERA.items()}
    link = {parameter.name: parameter.type for parameter in LINK_SIMULATOR_PARAMETERS}
    for argument, (value_type, _) in demo.LINK.items():
        for direction in ('uplink', 'downlink'):
            assert link[f'{direction}.{argument.removeprefix("link_")}'] is value_type
    edge, bridge = loaded('edge').PARAMETERS, loaded('bridge').PARAMETERS
    assert edge.keys() >= demo.BOTH.keys() | demo.EDGE.keys()
    assert bridge.keys() >= demo.BOTH.keys() | demo.BRIDGE.keys()


@pytest.mark.parametrize('name', FILES)
def test_nothing_is_set_in_the_users_environment(loaded, name):
    assert not [entity for entity in loaded(name).generate_launch_description().entities if isinstance(entity, SetEnvironmentVariable)]


@pytest.mark.parametrize(('name', 'argument', 'value'), [
    ('edge', 'quantisation', 'int7'), ('bridge', 'recovery', 'guess'), ('demo', 'log_level', 'loud'),
    ('edge', 'autostart', 'maybe'), ('edge', 'bridge_port', 'http'), ('bridge', 'reassembly_deadline', 'soon'),
    ('demo', 'loss', 'much'),
])
def test_a_wrong_value_is_refused_before_anything_starts(name, argument, value, loaded, monkeypatch, tmp_path):
    monkeypatch.setenv('ROS_HOME', str(tmp_path))       # for the demo's key
    context = LaunchContext()
    context.launch_configurations[argument] = value
    with pytest.raises((RuntimeError, ValueError)) as error:
        for entity in loaded(name).generate_launch_description().entities:
            entity.visit(context)
    assert argument in str(error.value) and value in str(error.value)


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
