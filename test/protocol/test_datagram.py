import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evitif.protocol.frames.packetiser import Packetiser
from evitif.protocol.wire import datagram
from evitif.protocol.wire.datagram import DatagramError, ReceiverReport

from .simulated_link import SMALL, frame_of


def kind_of(function, *arguments) -> str | None:
    try:
        function(*arguments)
    except DatagramError as error:
        return error.kind
    return None


def test_the_header_lies_where_the_specification_puts_it():
    data = datagram.build(datagram.PING, 0x0102030405060708, 0x11121314, b'body')
    assert data[:16] == b'EV\x01\x06\x01\x02\x03\x04\x05\x06\x07\x08\x11\x12\x13\x14'
    assert len(data) == 20 + len(b'body')


@pytest.mark.parametrize('wrap', [bytes, bytearray, memoryview])
def test_what_was_built_is_parsed_from_any_buffer(wrap):
    parsed = datagram.parse(wrap(datagram.build(datagram.BYE, 7, 2**32 + 5, b'xyz')))
    assert (parsed.type, parsed.session_id, parsed.sequence, bytes(parsed.body)) == (datagram.BYE, 7, 5, b'xyz')


@given(st.data())
def test_any_flipped_bit_is_noticed(data):
    whole = bytearray(datagram.build(datagram.PING, 99, 3, bytes(range(40))))
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << bit % 8
    assert kind_of(datagram.parse, whole) == ('foreign' if bit < 16 else 'version' if bit < 24 else 'corrupt')


def test_kinds_of_bad_headers():
    good = datagram.build(datagram.PING, 1, 1)
    assert kind_of(datagram.parse, b'') == 'truncated'
    assert kind_of(datagram.parse, good[:19]) == 'truncated'
    assert kind_of(datagram.parse, b'GET / HTTP/1.1') == 'foreign'
    assert kind_of(datagram.parse, b'GET / HTTP/1.1, and more than a header') == 'foreign'
    assert kind_of(datagram.parse, datagram.build(77, 1, 1)) == 'malformed'
    assert kind_of(datagram.parse, good + b'x') == 'corrupt'


@given(st.binary(max_size=300))
def test_no_bytes_make_a_parser_raise_anything_else(body):
    for parser in (datagram.parse, datagram.parse_tokens, datagram.parse_ping, datagram.parse_pong):
        kind_of(parser, body)
        kind_of(parser, memoryview(body))


def test_a_tokens_body_that_contradicts_itself_is_refused():
    datagrams = Packetiser(SMALL).packetise(frame_of(SMALL, 1))
    body = bytearray(datagram.parse(datagrams[0]).body)
    assert kind_of(datagram.parse_tokens, bytes(body)) is None
    assert kind_of(datagram.parse_tokens, bytes(body[:-1])) == 'truncated'
    assert kind_of(datagram.parse_tokens, bytes(body) + b'x') == 'malformed'

    def changed(offset, format, value):
        copy = bytearray(body)
        struct.pack_into(format, copy, offset, value)
        return kind_of(datagram.parse_tokens, copy)

    assert changed(4, '>H', len(datagrams)) == 'malformed'          # packet index = packet count
    assert changed(18, '>B', 3) == 'malformed'          # unknown quantisation
    assert changed(23, '>H', 1) == 'malformed'          # fewer units in the frame than in the packet


def test_ping_and_pong_carry_times_and_report():
    report = ReceiverReport(100, 60, 0.4, 1.5)
    t1, seen, unread = datagram.parse_ping(datagram.ping_body(1.25, report))
    assert (t1, unread) == (1.25, 0)
    assert datagram.parse_ping(datagram.ping_body(1.25, report, 5))[2] == 5
    assert len(datagram.ping_body(1.25, report)) == 24          # not a byte more where all heads are read
    assert (seen.expected, seen.received, seen.mean_burst) == (100, 60, 1.5)
    assert seen.packet_error_rate == pytest.approx(0.4)
    assert datagram.parse_pong(datagram.pong_body(1.25, 7.0, 7.5, report))[:3] == (1.25, 7.0, 7.5)


@pytest.mark.parametrize('rate', [-0.1, 1.1, float('inf')])
def test_an_impossible_report_is_refused(rate):
    assert kind_of(datagram.parse_ping, datagram.ping_body(1.0, ReceiverReport(1, 1, rate, 0.0))) == 'malformed'


def test_impossible_times_are_refused():
    report = ReceiverReport(1, 1, 0.0, 0.0)
    assert kind_of(datagram.parse_ping, datagram.ping_body(float('nan'), report)) == 'malformed'
    assert kind_of(datagram.parse_pong, datagram.pong_body(1.0, 3.0, 2.0, report)) == 'malformed'
