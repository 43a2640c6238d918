"""Frames of one stream in several quantisations: what was agreed on arrives as it is, and nothing else is taken."""

from dataclasses import replace

import numpy as np
import pytest

from evitif.protocol.edge.config import EdgeConfig
from evitif.protocol.edge.connection import EdgeConnection
from evitif.protocol.edge.session import EdgeSession
from evitif.protocol.frames.packetiser import Packetiser, TokenFrame
from evitif.protocol.frames.reassembly import Reassembler
from evitif.protocol.wire import datagram
from evitif.protocol.wire.parameters import StreamParameters
from evitif.vocabulary import Quantisation

PARAMETERS = StreamParameters(
    model='m', fingerprint='a' * 64, cut=4, quantisation='klt1', image_size=(32, 32), tokens=17, prefix_tokens=1, grid=(4, 4),
    channels=64, groups=1, row_bytes=8, classes=10, code='b' * 64, formats=(('int8', 68), ('klt2', 16)))


def frame_in(kind, frame_id):
    rows = np.random.default_rng(frame_id).integers(0, 256, (17, PARAMETERS.row_formats[kind]), np.uint8)
    return TokenFrame(frame_id, frame_id, 'camera', rows, kind)


def bodies(frame):
    packetiser = Packetiser(PARAMETERS.in_format(frame.quantisation))
    return [(datagram.parse_tokens(datagram.parse(data).body), len(data)) for data in packetiser.packetise(frame)]


@pytest.mark.parametrize('kinds', [('klt1', 'int8', 'klt2', 'klt1'), ('int8', 'klt1')])
def test_each_frame_arrives_in_the_quantisation_that_it_was_sent_in(kinds):
    reassembler = Reassembler(PARAMETERS)
    for number, kind in enumerate(kinds, 1):
        frame = frame_in(kind, number)
        for body, size in bodies(frame):
            reassembler.receive(body, size, float(number))
        received = reassembler.next_frame()
        assert received.quantisation == kind and received.complete
        assert np.array_equal(received.rows, frame.rows)


def test_what_was_not_agreed_on_or_changes_within_a_frame_is_dropped():
    reassembler = Reassembler(PARAMETERS)
    first, second = bodies(frame_in('klt1', 1)), bodies(frame_in('klt2', 1))
    assert reassembler.receive(*first[0], 0.0) is None
    assert reassembler.receive(*second[1], 0.0) == 'inconsistent'
    for changes in ({'quantisation': Quantisation.INT4.number}, {'rows': first[1][0].rows[:, :-1]}):
        assert reassembler.receive(first[1][0]._replace(**changes), 100, 0.0) == 'inconsistent'


def test_formats_survive_the_handshake_and_are_compared():
    assert StreamParameters.from_json(PARAMETERS.to_json()) == PARAMETERS
    assert any('formats' in text for text in PARAMETERS.differences(replace(PARAMETERS, formats=())))
    assert PARAMETERS.in_format('int8').row_bytes == 68


@pytest.mark.parametrize('formats, expected', [
    ((('int9', 3),), 'int9'), ((('klt1', 8),), 'klt1'), ((('int8', 0),), 'row_bytes of int8 is 0'), ('int8', "formats is 'int8'"),
    ((('int8',),), 'formats has')])
def test_impossible_formats_are_refused(formats, expected):
    with pytest.raises(ValueError, match=expected):
        replace(PARAMETERS, formats=formats)


def test_an_edge_refuses_a_frame_in_another_quantisation():
    edge = EdgeConnection(PARAMETERS, 'robot', EdgeConfig())
    edge._state, edge._session = 'connected', EdgeSession(1)
    with pytest.raises(ValueError, match="frame 1 is in 'int4'; expected one of klt1, int8, klt2"):
        edge.send_frame(TokenFrame(1, 0, '', np.zeros((17, 36), np.uint8), 'int4'), 0.0)
