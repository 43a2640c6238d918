"""What is not measured yet is NaN in messages and `unknown` where a person reads it."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='ROS 2 is not installed')
pytest.importorskip('evitif_msgs.msg', reason='the message package is not built: make build')

from evitif.pipeline.sending_choice import Setting
from evitif.pipeline.split_edge import SplitEdge
from evitif.protocol.edge.frame_sender import UplinkState
from evitif_edge_node.camera_node import SETTLE_S
from evitif_edge_node.parameters import EDGE_PARAMETERS
from evitif_ros.diagnostics import OK, DiagnosticsPublisher, Status


def test_diagnostics_say_unknown():
    publisher = DiagnosticsPublisher.__new__(DiagnosticsPublisher)
    publisher.hardware_id = ''
    status = publisher._message('link', Status(OK, '', {'loss': math.nan, 'rate': 0.25, 'sent': 3}))
    assert [value.value for value in status.values] == ['unknown', '0.25', '3']


def test_the_demos_line_says_unknown():
    from scripts.demo.report import live_line
    monitor = SimpleNamespace(predictions={1: None}, delays={1: 0.1}, truth={}, link=SimpleNamespace(uplink_packet_error_rate=math.nan))
    assert live_line(monitor) == '100 ms, loss unknown'
    monitor.link.uplink_packet_error_rate = 0.3
    assert live_line(monitor) == '100 ms, loss 30 %'


@pytest.mark.parametrize(('rate', 'said'), [
    (math.nan, 'an unknown share of the datagrams is lost'), (0.3, '30 % of the datagrams are lost')])
def test_a_change_of_the_quantisation_says_the_loss_as_far_as_it_is_known(rate, said):
    edge, settings = SplitEdge.__new__(SplitEdge), iter([Setting('int8', 1, 1.0, 1, 1), Setting('int4', 2, 1.0, 1, 1)])
    quantiser = SimpleNamespace(quantise=lambda values: values)
    edge._choice, edge._setting = SimpleNamespace(choose=lambda *arguments: next(settings)), None
    edge._coded = None
    edge.model, edge.parameters = SimpleNamespace(quantisers={'int8': quantiser, 'int4': quantiser}), None
    observation = SimpleNamespace(content=[SimpleNamespace(numpy=lambda: np.zeros((2, 3), np.float32))])
    edge.encode(observation, UplinkState(packet_error_rate=rate))
    remark = edge.encode(observation, UplinkState(packet_error_rate=rate)).remark
    assert said in remark and 'any rate allowed' in remark and 'nan' not in remark


def test_a_camera_that_waits_for_the_edge_node_shows_an_image_before_that_one_warns():
    image_timeout = next(parameter.default for parameter in EDGE_PARAMETERS if parameter.name == 'image_timeout')
    assert image_timeout / 2 >= SETTLE_S
