from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evitif.protocol.frames.interleaving import interleave
from evitif.protocol.frames.packetiser import Packetiser, TokenFrame, groups_needed
from evitif.protocol.wire import datagram
from evitif.protocol.wire.parameters import StreamParameters

from .simulated_link import PARAMETERS, SMALL, frame_of, rows_of


def parameters_of(grid, prefix, groups, row_bytes) -> StreamParameters:
    return replace(SMALL, grid=grid, prefix_tokens=prefix, tokens=prefix + grid[0] * grid[1], channels=groups * 4,
                   groups=groups, row_bytes=row_bytes)


@settings(max_examples=60, deadline=None)
@given(grid=st.tuples(st.integers(1, 9), st.integers(1, 9)), prefix=st.integers(0, 5), groups=st.integers(1, 3),
       row_bytes=st.integers(1, 300), size=st.integers(440, 1500), min_packets=st.integers(1, 40),
       name=st.text(max_size=15))
def test_each_datagram_fits_and_can_be_decoded_alone(grid, prefix, groups, row_bytes, size, min_packets, name):
    parameters = parameters_of(grid, prefix, groups, row_bytes)
    frame = TokenFrame(2**32 - 1, -5, name, rows_of(parameters, 3))
    packetiser = Packetiser(parameters, max_datagram_bytes=size, min_packets=min_packets)
    sent = packetiser.packetise(frame, 2**64 - 1, 2**32 - 1)
    seen = np.zeros(parameters.units, bool)
    for index, data in enumerate(sent):
        assert len(data) <= size
        header = datagram.parse(data)
        assert (header.type, header.session_id) == (datagram.TOKENS, 2**64 - 1)
        assert header.sequence == (2**32 - 1 + index) % 2**32
        body = datagram.parse_tokens(header.body)
        assert (body.packet_index, body.packet_count) == (index, len(sent))
        assert (body.frame_id, body.capture_stamp_ns, body.source_frame.decode()) == (2**32 - 1, -5, name)
        assert (body.rows == frame.rows[body.units]).all()
        seen[body.units] = True
    assert seen.all()


def test_frames_do_not_leak_into_one_another():
    packetiser = Packetiser(SMALL)
    first, second = frame_of(SMALL, 1), frame_of(SMALL, 2)
    sent = packetiser.packetise(first)
    copy = list(sent)
    packetiser.packetise(second)
    packetiser.packetise(replace(second, source_frame='another'))
    assert sent == copy == packetiser.packetise(first)


def test_a_frame_that_is_not_contiguous_is_read_right():
    rows = np.repeat(rows_of(SMALL, 1), 2, axis=0)[::2]
    frame = frame_of(SMALL, 1)
    assert Packetiser(SMALL).packetise(replace(frame, rows=rows)) == Packetiser(SMALL).packetise(frame)


@pytest.mark.parametrize('row_bytes', [100, 148, 196, 772])
def test_a_frame_takes_no_more_packets_than_its_bytes_need(row_bytes):
    units = 196 + 12                                          # patches, and copies of the class token
    slots = (1200 - 20 - 24 - len('camera')) // (2 + row_bytes)      # what is left after the headers
    packetiser = Packetiser(replace(PARAMETERS, row_bytes=row_bytes), min_packets=1, prefix_copies=12)
    assert packetiser.packets('camera') == -(-units // slots)


def test_half_of_a_frame_has_everything_where_each_patch_travels_twice():
    packetiser = Packetiser(PARAMETERS, patch_copies=2)
    sent = packetiser.packetise(frame_of(PARAMETERS, 1))
    half = len(sent) // 2 + 1
    for part in (sent[:half], sent[-half:]):
        seen = np.zeros(PARAMETERS.units, bool)
        for data in part:
            seen[datagram.parse_tokens(datagram.parse(data).body).units] = True
        assert seen.all()
    with pytest.raises(ValueError, match='patch_copies is 17; expected a whole number from 0 to 16'):
        Packetiser(PARAMETERS, patch_copies=17)


def test_a_row_that_does_not_fit_says_how_many_groups_would():
    large = replace(SMALL, channels=1024, row_bytes=2052, quantisation='fp16')
    with pytest.raises(ValueError, match='row_bytes is 2052; expected at most 1090 .* at least 2 groups, not 1'):
        Packetiser(large)
    Packetiser(replace(large, groups=2, row_bytes=1028))


def test_groups_needed_is_the_least_divisor_that_fits():
    def fp16(channels):
        return 4 + 2 * channels

    assert groups_needed(192, fp16) == 1
    assert groups_needed(768, fp16) == 2
    assert groups_needed(1024, fp16) == 2
    assert groups_needed(1280, fp16, 600) == 8      # 6 or 7 would do, but do not divide 1280
    for channels in (768, 1024, 1280):
        groups = groups_needed(channels, fp16)
        Packetiser(replace(SMALL, channels=channels, groups=groups, row_bytes=fp16(channels // groups)))
    with pytest.raises(ValueError, match='at least 2000 bytes, which do not fit into datagrams of 1200'):
        groups_needed(4, lambda channels: 2000)


def test_groups_needed_skips_slices_that_the_quantisation_cannot_write():
    def pairs(channels):
        return None if channels % 2 else 4 + channels // 2

    assert groups_needed(8, pairs) == 1
    assert groups_needed(30, pairs, 129) == 1
    assert groups_needed(30, pairs, 128) == 3       # two slices of 15 would fit, but cannot be written
    with pytest.raises(ValueError, match='15 channels cannot be cut into slices'):
        groups_needed(15, pairs)


@pytest.mark.parametrize(('change', 'text'), [
    ({'rows': np.zeros((50, 21), np.uint8)}, r'expected uint8 \[50, 20\]'),
    ({'rows': np.zeros((50, 20), np.int8)}, r'rows are int8'),
    ({'rows': [[0]]}, r'rows are list'),
    ({'frame_id': 2**32}, 'frame_id is 4294967296'),
    ({'capture_stamp_ns': 2**63}, 'capture_stamp_ns'),
    ({'source_frame': 'x' * 256}, 'source_frame takes 256 bytes'),
])
def test_a_frame_that_cannot_be_sent_is_a_value_error(change, text):
    with pytest.raises(ValueError, match=text):
        Packetiser(SMALL).packetise(replace(frame_of(SMALL, 1), **change))


@pytest.mark.parametrize(('kind', 'row_bytes'), [('klt2', 48), ('klt1.5', 36), ('klt1', 24), ('klt0.5', 12)])
def test_a_coded_frame_is_one_run_of_equal_datagrams_for_a_percent_of_its_bytes(kind, row_bytes):
    packetiser = Packetiser(replace(PARAMETERS, channels=192, quantisation=kind, row_bytes=row_bytes, code='b' * 64))
    sent = packetiser.packetise(TokenFrame(1, 2, 'camera', np.zeros((197, row_bytes), np.uint8)))
    assert len({len(data) for data in sent}) == 1
    units = [datagram.parse_tokens(datagram.parse(data).body).units for data in sent]
    assert all(len(set(packet)) == len(packet) for packet in units)
    p = packetiser.parameters
    needed = sum(map(len, interleave(p.grid, 1, 1, slots=(1200 - 44 - 6) // (2 + row_bytes), min_packets=24, prefix_copies=0,
                                     patch_copies=packetiser.patch_copies)))
    assert sum(map(len, units)) <= 1.011 * needed


def test_frames_are_not_filled_where_that_costs_much():
    packetiser = Packetiser(replace(PARAMETERS, channels=192, quantisation='int4', row_bytes=100))
    sizes = {len(data) for data in packetiser.packetise(TokenFrame(1, 2, 'camera', np.zeros((197, 100), np.uint8)))}
    assert len(sizes) == 2
