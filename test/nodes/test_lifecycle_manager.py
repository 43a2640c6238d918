"""The nodes under nav2's lifecycle manager with `bond_timeout: 0.0`: its service calls, in its order (nav2_lifecycle_manager)."""

from __future__ import annotations

import signal

import pytest
from node_process import free_udp_port

pytest.importorskip('rclpy', reason='ROS 2 is not installed')

from lifecycle_msgs.msg import State, Transition

MODEL = {'model': 'vit_tiny_patch16_224', 'random_seed': 1, 'image_size': 32, 'num_classes': 10, 'unsealed': True, 'threads': 1,
         'autostart': False}
REACHED = {Transition.TRANSITION_CONFIGURE: State.PRIMARY_STATE_INACTIVE, Transition.TRANSITION_ACTIVATE: State.PRIMARY_STATE_ACTIVE,
           Transition.TRANSITION_DEACTIVATE: State.PRIMARY_STATE_INACTIVE, Transition.TRANSITION_CLEANUP: State.PRIMARY_STATE_UNCONFIGURED,
           Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: State.PRIMARY_STATE_FINALIZED}


class LifecycleManager:
    """Nodes are brought up in their order, each followed by a look at its state, and brought down in the reverse one."""

    def __init__(self, probe, nodes):
        self._probe, self._nodes = probe, nodes

    def startup(self):
        self._change(self._nodes, Transition.TRANSITION_CONFIGURE)
        self._change(self._nodes, Transition.TRANSITION_ACTIVATE)

    def pause(self):
        self._change(self._nodes[::-1], Transition.TRANSITION_DEACTIVATE)

    def resume(self):
        self._change(self._nodes, Transition.TRANSITION_ACTIVATE)

    def reset(self):
        self.pause()
        self._change(self._nodes[::-1], Transition.TRANSITION_CLEANUP)

    def shutdown(self):
        self.reset()
        self._change(self._nodes[::-1], Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)

    def _change(self, nodes, transition):
        for node in nodes:
            assert self._probe.trigger(node, transition), (node, transition)
            assert self._probe.state(node) == REACHED[transition], (node, transition)


@pytest.fixture
def processes(launch_node, tmp_path):
    from PIL import Image
    Image.new('RGB', (32, 32)).save(tmp_path / '1.png')
    port, link_port = free_udp_port(), free_udp_port()
    return {
        '/managed/camera': launch_node('evitif_edge_node.camera_node', {'source': tmp_path, 'autostart': False}, namespace='/managed'),
        '/managed/link_simulator': launch_node('evitif_cloud_bridge.link_simulator_node', {
            'listen_host': '127.0.0.1', 'listen_port': link_port, 'forward_port': port, 'autostart': False}, namespace='/managed'),
        '/managed/bridge_node': launch_node('evitif_cloud_bridge.bridge_node', {**MODEL, 'port': port}, namespace='/managed'),
        '/managed/edge_node': launch_node('evitif_edge_node.edge_node', {**MODEL, 'bridge_port': link_port}, namespace='/managed')}


def test_a_lifecycle_manager_brings_the_nodes_up_and_down_and_up_again(processes, probe):
    from evitif_msgs.msg import Prediction
    manager = LifecycleManager(probe, list(processes))
    answers = probe.collect(Prediction, '/managed/prediction')
    manager.startup()
    probe.wait(lambda: answers, 'no answer', 60.0)
    manager.pause()
    manager.resume()
    manager.reset()
    del answers[:]
    manager.startup()
    probe.wait(lambda: answers, 'no answer after the reset', 60.0)
    manager.shutdown()
    for node, process in processes.items():
        exit_code, _ = process.end(signal.SIGTERM)
        assert exit_code == 0 and 'Traceback' not in process.output, (node, process.output)
