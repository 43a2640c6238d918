"""Automatic copies: as many as the bytes of int8 rows sent once allow, and only where a transform code makes rows small."""

from dataclasses import replace

import numpy as np
import pytest

from evitif.protocol.frames.packetiser import Packetiser, TokenFrame, patch_copies_of
from evitif.protocol.wire.parameters import StreamParameters

INT8 = StreamParameters(model='m', fingerprint='a' * 64, cut=4, quantisation='int8', image_size=(32, 32), tokens=65,
                        prefix_tokens=1, grid=(8, 8), channels=192, groups=1, row_bytes=196, classes=10)


def coded(kind, row_bytes, base=INT8):
    return replace(base, quantisation=kind, row_bytes=row_bytes, code='b' * 64)


def bytes_of(parameters, **options):
    rows = np.zeros((parameters.units, parameters.row_bytes), np.uint8)
    return sum(len(packet) for packet in Packetiser(parameters, **options).packetise(TokenFrame(0, 0, '', rows)))


@pytest.mark.parametrize('grid', [(8, 8), (14, 14), (4, 4)])
@pytest.mark.parametrize('kind, row_bytes', [('klt2', 48), ('klt1', 24), ('klt0.5', 12)])
def test_copies_fill_the_bytes_of_int8_and_no_more(kind, row_bytes, grid):
    base = replace(INT8, grid=grid, tokens=1 + grid[0] * grid[1])
    parameters = coded(kind, row_bytes, base)
    copies = patch_copies_of(parameters, 0)
    assert copies == Packetiser(parameters).patch_copies
    limit = bytes_of(base, patch_copies=1)
    overhead = 44 * Packetiser(parameters).packets()         # headers, of which there may be a few more
    assert bytes_of(parameters) <= limit + overhead
    assert copies == 16 or bytes_of(parameters, patch_copies=copies + 1) > limit - overhead


def test_finer_rows_are_sent_less_often():
    copies = [patch_copies_of(coded(kind, size), 0) for kind, size in (('klt2', 48), ('klt1.5', 36), ('klt1', 24))]
    assert copies == sorted(copies) and 2 <= copies[0] < copies[-1]


def test_what_is_asked_for_is_done_and_rows_without_a_code_travel_once():
    assert patch_copies_of(coded('klt1', 24), 3) == 3
    assert patch_copies_of(INT8, 0) == 1 and patch_copies_of(INT8, 2) == 2
    assert patch_copies_of(replace(INT8, quantisation='int4', row_bytes=100), 0) == 1
