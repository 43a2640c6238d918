"""Names on /diagnostics as diagnostic_updater gives them, and the aggregator's file that sorts them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

rclpy = pytest.importorskip('rclpy', reason='ROS 2 is not installed')
yaml = pytest.importorskip('yaml')

from rclpy.parameter import Parameter

from evitif_cloud_bridge.bridge_node import BridgeNode
from evitif_cloud_bridge.link_simulator_node import LinkSimulatorNode
from evitif_edge_node.edge_node import EdgeNode

ANALYZERS = Path(__file__).parents[2] / 'config' / 'analyzers.yaml'
NODES = {EdgeNode: ('robot_name', {'images', 'link', 'frames', 'model'}), BridgeNode: ('bridge_name', {'robots', 'frames', 'model'}),
         LinkSimulatorNode: (None, {'uplink', 'downlink'})}


@pytest.fixture
def statuses():
    """What a node publishes on /diagnostics, by its class, with these parameters."""
    context = rclpy.Context()
    rclpy.init(context=context)
    nodes = []

    def of(kind, **parameters):
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        node = kind(context=context, namespace='/fleet/one', parameter_overrides=overrides)
        nodes.append(node)
        published = []
        node._diagnostics._publisher = type('Recorder', (), {'publish': staticmethod(published.append)})
        node._diagnostics.publish()
        return published[0].status
    yield of
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.parametrize('kind', NODES)
@pytest.mark.parametrize('in_full', [True, False])
def test_a_status_is_named_by_node_and_task(statuses, kind, in_full):
    hardware, tasks = NODES[kind]
    given = {} if hardware is None else {hardware: 'rover 7'}
    found = statuses(kind, **given, **({} if in_full else {'diagnostic_updater.use_fqn': False}))
    node = f'/fleet/one/{kind.default_name}' if in_full else kind.default_name
    assert {status.name for status in found} == {f'{node}: {task}' for task in tasks}
    assert {status.hardware_id for status in found} == {'rover 7' if hardware else 'simulated link'}


def test_the_aggregator_sorts_every_status_into_one_branch(statuses):
    analyzers = yaml.safe_load(ANALYZERS.read_text())['analyzers']['ros__parameters']      # the aggregator's node is called so
    assert isinstance(analyzers.pop('path'), str)
    for analyzer in analyzers.values():
        assert analyzer['type'] == 'diagnostic_aggregator/GenericAnalyzer' and isinstance(analyzer['timeout'], float)
        assert set(analyzer) == {'type', 'path', 'contains', 'timeout'}
    for kind in NODES:
        for given in ({}, {'diagnostic_updater.use_fqn': False}):
            for status in statuses(kind, **given):
                branches = [name for name, analyzer in analyzers.items() if any(part in status.name for part in analyzer['contains'])]
                assert len(branches) == 1, status.name
    assert len(analyzers) == len(NODES)


def test_the_file_tells_how_it_is_used():
    assert re.search(r'^#.*ros2 run diagnostic_aggregator aggregator_node', ANALYZERS.read_text(), re.MULTILINE)
