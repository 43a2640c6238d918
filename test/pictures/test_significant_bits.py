"""Found from the images, never down again, said, and given up to nobody who set them."""

from __future__ import annotations

import numpy as np
import pytest

from evitif.pictures import SignificantBits, to_rgb


def ramp(highest: int, dtype=np.uint16) -> np.ndarray:
    return np.linspace(0, highest, 64 * 64).astype(dtype).reshape(64, 64)


@pytest.mark.parametrize('highest, bits', [
    (200, 8), (1023, 10), (900, 10), (4095, 12), (2100, 12), (16383, 14), (65535, 16), (1 << 19, 20)])
def test_found_from_the_largest_value(highest, bits):
    said = []
    significant = SignificantBits(say=said.append)
    scaled = significant.to_8_bits(ramp(highest, np.uint32))
    assert significant.bits == bits and scaled.max() == highest >> (bits - 8)
    assert len(said) == 1 and f'{bits} significant bits' in said[0] and str(highest) in said[0]


def test_a_stream_goes_up_and_stays():
    said = []
    significant = SignificantBits(say=said.append)
    bits = []
    for highest in (0, 900, 100, 4000, 900, 4095, 10):
        significant.to_8_bits(ramp(highest))
        bits.append(significant.bits)
    assert bits == [0, 10, 10, 12, 12, 12, 12] and len(said) == 2
    assert significant.to_8_bits(ramp(900)).max() == 900 >> 4


@pytest.mark.parametrize('bits', [1, 4, 8, 9, 10, 11, 12, 14, 15, 16])
def test_given_bits_are_used_and_larger_values_become_white(bits):
    said = []
    significant = SignificantBits(bits, said.append)
    full = (1 << bits) - 1
    assert significant.to_8_bits(np.array([[full]], np.uint16))[0, 0] >= 128 and not said
    if bits < 16:
        scaled = significant.to_8_bits(np.array([[0, 65535]], np.uint16))
        assert scaled[0, 0] == 0 and scaled[0, 1] >= 128 and '65535' in said[0] and significant.bits == bits
        significant.to_8_bits(np.array([[0, 65535]], np.uint16))
        assert len(said) == 1


def test_nearly_black_images_are_said_and_no_longer_when_they_are_not():
    significant = SignificantBits(16)
    for _ in range(9):
        significant.to_8_bits(ramp(1023))
        assert not significant.darkness
    significant.to_8_bits(ramp(1023))
    assert 'nearly black' in significant.darkness and 'set significant_bits to 10' in significant.darkness
    significant.to_8_bits(ramp(60000))
    assert not significant.darkness


def test_one_hot_pixel_does_not_hide_that_all_else_is_black():
    significant = SignificantBits()
    image = ramp(4095)
    image[0, 0] = 65535
    for _ in range(10):
        significant.to_8_bits(image)
    assert significant.bits == 16 and 'significant_bits to 12' in significant.darkness


def test_grey_is_repeated():
    assert to_rgb(ramp(4095), SignificantBits()).shape == (64, 64, 3)
