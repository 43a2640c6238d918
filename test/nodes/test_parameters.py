"""The tables of parameters: consistent with themselves, with the runtimes' configurations, and clear in refusal."""

from __future__ import annotations

import math

import pytest

from evitif.settings import Changeable, Setting
from evitif_cloud_bridge import parameters as bridge
from evitif_edge_node import parameters as edge
from evitif_ros.parameters import descriptor, first_refusal, misspelled

TABLES = {'edge': edge.EDGE_PARAMETERS, 'camera': edge.CAMERA_PARAMETERS, 'bridge': bridge.BRIDGE_PARAMETERS,
          'link simulator': bridge.LINK_SIMULATOR_PARAMETERS}
EVERY = [pytest.param(parameter, id=f'{table} {parameter.name}')
         for table, parameters in TABLES.items() for parameter in parameters]


def defaults(table):
    return {parameter.name: parameter.default for parameter in table}


@pytest.mark.parametrize('table', TABLES.values(), ids=TABLES)
def test_names_are_unique(table):
    assert len(defaults(table)) == len(table)


@pytest.mark.parametrize('parameter', EVERY)
def test_default_fits_its_own_range(parameter):
    assert parameter.description and parameter.refusal(parameter.default) is None
    if parameter.type in (int, float):
        assert parameter.minimum is not None, 'a number without a range'


@pytest.mark.parametrize('parameter', EVERY)
def test_descriptor(parameter):
    pytest.importorskip('rcl_interfaces')
    found = descriptor(parameter)
    assert found.description.startswith(parameter.description) and parameter.unit in found.description
    assert found.read_only == (parameter.changeable is Changeable.NEVER)
    assert len(found.integer_range) == (parameter.type is int)
    assert len(found.floating_point_range) == (parameter.type is float)
    assert all(choice in found.additional_constraints for choice in parameter.choices)


@pytest.mark.parametrize('parameter, value, words', [
    (Setting('port', 7600, 'd', minimum=1, maximum=65535), 0, ['port', 'an integer from 1 to 65535', 'got 0']),
    (Setting('port', 7600, 'd', minimum=1, maximum=65535), 7600.0, ['an integer', 'got 7600.0']),
    (Setting('port', 7600, 'd', minimum=1), True, ['an integer of at least 1', 'got True']),
    (Setting('rate', 1.0, 'd', 'Hz', 0.0, 10.0), 11, ['a number from 0 to 10 (Hz)', 'got 11']),
    (Setting('rate', 1.0, 'd', 'Hz', 0.0, 10.0), 'fast', ["got 'fast'"]),
    (Setting('rate', 1.0, 'd', 'Hz', 0.0, 10.0), math.nan, ['got nan']),
    (Setting('rate', 1.0, 'd', 'Hz', 0.0), math.inf, ['got inf']),
    (Setting('on', True, 'd'), 1, ['true or false', 'got 1']),
    (Setting('kind', 'a', 'd', choices=('a', 'b')), 'c', ["one of 'a', 'b'", "got 'c'"]),
    (Setting('name', 'a', 'd', required=True), '', ['a string that is not empty', "got ''"]),
    (Setting('name', 'a', 'd'), None, ['a string', 'got None']),
    (Setting('kind', 'a', 'd', choices=('a', 'b')), 7, ["one of 'a', 'b'", 'got 7']),
    (Setting('kind', 'a', 'd', choices=('a', 'b')), True, ["one of 'a', 'b'", 'got True']),
])
def test_refusal_names_value_and_expectation(parameter, value, words):
    reason = parameter.refusal(value)
    assert all(word in reason for word in [parameter.name, *words]), reason


def test_an_integer_is_a_number():
    assert Setting('rate', 1.0, 'd', 'Hz', 0.0, 10.0).refusal(10) is None


def test_change_while_configured_is_refused_unless_allowed():
    table = (Setting('fixed', 1, 'd', minimum=0),
             Setting('free', 1, 'd', minimum=0, changeable=Changeable.ALWAYS))
    assert 'unconfigured' in first_refusal(table, {'free': 2, 'fixed': 2}, configured=True)
    assert first_refusal(table, {'fixed': 2}, configured=False) is None
    assert first_refusal(table, {'free': 2, 'use_sim_time': True}, configured=True) is None
    assert 'free: expected' in first_refusal(table, {'free': -1}, configured=True)


def test_misspelled_names_get_a_suggestion():
    sentences = misspelled(edge.EDGE_PARAMETERS, ['bridge_hots', 'model', 'use_sim_time', 'qos_overrides./image.depth'])
    assert len(sentences) == 1 and "'bridge_hots'" in sentences[0] and "'bridge_host'" in sentences[0]


@pytest.mark.parametrize('table, convert', [
    (edge.EDGE_PARAMETERS, edge.edge_runtime_settings), (bridge.BRIDGE_PARAMETERS, bridge.bridge_runtime_settings)])
def test_defaults_are_those_of_the_runtime(table, convert):
    config = convert(defaults(table))
    assert config == type(config)()


def test_runtime_configuration_takes_values_over():
    config = edge.edge_runtime_settings({**defaults(edge.EDGE_PARAMETERS), 'random_seed': 0, 'cut': 0, 'labels_file': 'x',
                                       'robot_name': 'r2', 'max_rate': 5.0})
    assert (config.random_seed, config.cut, config.labels_file) == (0, 0, 'x')
    assert (config.robot_name, config.max_rate, config.checkpoint) == ('r2', 5.0, None)


def test_impairments():
    values = {**defaults(bridge.LINK_SIMULATOR_PARAMETERS), 'uplink.loss': 0.6, 'uplink.burst_length': 4.0,
              'downlink.delay': 0.02, 'downlink.rate': 1e6}
    assert bridge.impairment('uplink', values).burst_length == 4.0
    assert bridge.impairment('downlink', values).delay_s == 0.02
    assert bridge.impairment('downlink', values).rate_bit_s == 1e6
    with pytest.raises(ValueError, match='burst_length'):
        bridge.impairment('uplink', {**values, 'uplink.loss': 0.99})


@pytest.mark.parametrize('parameter, given, kept', [
    (Setting('robot_name', 'robot', 'd', required=True), 7, '7'), (Setting('source', '', 'd'), 0, '0'),
    (Setting('batching', 'auto', 'd', choices=('auto', 'on', 'off')), True, 'on'),      # YAML's `on`
    (Setting('batching', 'auto', 'd', choices=('auto', 'on', 'off')), False, 'off')])
def test_what_yaml_made_of_a_text_is_a_text_again(parameter, given, kept):
    assert parameter.refusal(given) is None and parameter.converted(given) == kept


@pytest.mark.parametrize('value, words', [
    (True, ['got True', 'YAML reads yes, no', 'name:="\'…\'"']), (1.5, ['got 1.5', 'name:="\'1.5\'"'])])
def test_what_yaml_made_of_a_text_and_cannot_be_undone_gets_a_hint(value, words):
    reason = Setting('name', 'a', 'd').refusal(value)
    assert all(word in reason for word in ['a string', *words]), reason


@pytest.mark.parametrize('given, kept', [(10, 10.0), (2.5, 2.5)])
def test_a_number_is_kept_as_one_whatever_it_is_given_as(given, kept):
    converted = Setting('rate', 1.0, 'd', 'Hz', 0.0, 10.0).converted(given)
    assert type(converted) is float and converted == kept


@pytest.mark.parametrize('parameter', EVERY)
def test_the_type_of_a_parameter_does_not_change(parameter):
    pytest.importorskip('rcl_interfaces')
    assert not descriptor(parameter).dynamic_typing


def test_an_integer_given_at_the_start_is_kept_as_a_number():
    rclpy = pytest.importorskip('rclpy', reason='ROS 2 is not installed')
    from rclpy.parameter import Parameter

    from evitif_cloud_bridge.link_simulator_node import LinkSimulatorNode
    context = rclpy.Context()
    rclpy.init(context=context)
    node = LinkSimulatorNode(context=context, parameter_overrides=[Parameter('uplink.delay', value=1), Parameter('seed', value=3)])
    try:
        assert node.get_parameter('uplink.delay').type_ is Parameter.Type.DOUBLE and node.values()['uplink.delay'] == 1.0
        assert node.set_parameters_atomically([Parameter('uplink.delay', value=2), Parameter('seed', value=4)]).successful
        assert node.get_parameter('uplink.delay').type_ is Parameter.Type.DOUBLE and node.get_parameter('seed').value == 4
        read_only = node.get_parameter('autostart')
        assert node.set_parameters_atomically([read_only, node.get_parameter('use_sim_time')]).successful
        assert not node.set_parameters_atomically([Parameter('autostart', value=not read_only.value)]).successful
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
