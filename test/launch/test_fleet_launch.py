"""`fleet.launch.py`: a directory, and bridges with a number and a port each."""

import importlib.util
from pathlib import Path

import pytest

launch = pytest.importorskip('launch')
pytest.importorskip('launch_ros')
LAUNCH = Path(__file__).resolve().parents[2] / 'launch' / 'fleet.launch.py'


@pytest.fixture
def fleet():
    spec = importlib.util.spec_from_file_location('fleet_launch', LAUNCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def context_of(fleet, **arguments):
    context = launch.LaunchContext()
    context.launch_configurations.update({argument.name: '' for argument in fleet.ARGUMENTS})
    context.launch_configurations.update({'params_file': str(LAUNCH.parents[1] / 'config' / 'bridge.yaml'), **arguments})
    return context


def test_each_bridge_has_a_port_and_a_number_and_reports_to_the_directory(fleet):
    actions = fleet.fleet(context_of(fleet, bridges='3', directory_port='9000', fleet_key='fleet.key', key_file='rover.key'))
    texts = [''.join(getattr(part, 'text', '') for part in word) for word in actions[0].cmd]
    assert texts[-6:] == ['--fleet-key', 'fleet.key', '--key-file', 'rover.key', '--port', '9000']
    nodes = [action for action in actions if type(action).__name__ == 'Node']
    assert [node._Node__node_name for node in nodes] == ['bridge_node_1', 'bridge_node_2', 'bridge_node_3']


def test_without_the_fleet_s_key_one_sentence_says_so(fleet):
    with pytest.raises(ValueError, match='fleet_key is not given: expected a file that `evitif key new` made'):
        fleet.fleet(context_of(fleet, key_file='rover.key'))
    with pytest.raises(ValueError, match='expected 1 to 64'):
        fleet.fleet(context_of(fleet, bridges='0', fleet_key='f'))
