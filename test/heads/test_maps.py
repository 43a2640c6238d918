import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evitif.heads import level_code, mask_code
from evitif.heads.maps import MOST_BYTES, UNLABELLED, DepthMap, Mask
from evitif.model.errors import CodeError


def scene(seed: int, height: int = 88, width: int = 120, classes: int = 11) -> np.ndarray:
    """Regions with smooth borders, as a segmenter draws them."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.uint8)
    for class_id in random.permutation(classes):
        centre, size = random.uniform(0, (height, width)), random.uniform(3, 40, 2)
        mask[((y - centre[0]) / size[0])**2 + ((x - centre[1]) / size[1])**2 < 1] = class_id
    return mask


any_size = st.integers(1, 70)


@given(any_size, any_size, st.integers(1, 255), st.integers(0, 2**32 - 1), st.booleans())
def test_any_mask_is_read_as_it_was_written(height, width, classes, seed, noise):
    mask = np.random.default_rng(seed).integers(0, classes, (height, width)).astype(np.uint8) if noise else \
        scene(seed, height, width, min(classes, 20))
    assert (mask_code.decode(mask_code.encode(mask), height, width) == mask).all()


@given(any_size, any_size, st.integers(0, 2**32 - 1), st.integers(1, 255))
def test_any_numbers_are_read_as_they_were_written(height, width, seed, most):
    random = np.random.default_rng(seed)
    values = (np.cumsum(np.cumsum(random.normal(0, 1, (height, width)), 0), 1) * most / 30 + 128).clip(0, 255).astype(np.uint8)
    assert (level_code.decode(level_code.encode(values), height, width) == values).all()


@given(st.binary(max_size=300), any_size, any_size)
def test_no_bytes_make_a_code_raise_anything_else(noise, height, width):
    for code in (mask_code, level_code):
        try:
            assert code.decode(noise, height, width).shape == (height, width)
        except CodeError:
            pass


def test_a_mask_takes_less_than_a_general_coder():
    import zlib
    masks = [scene(seed) for seed in range(5)]
    ours, general = (sum(len(encode(mask)) for mask in masks) for encode in (mask_code.encode, lambda m: zlib.compress(m.tobytes(), 9)))
    assert ours < 0.6 * general


def a_mask(seed: int = 1) -> Mask:
    confidence = np.tile(np.linspace(255, 0, 22).astype(np.uint8)[:, None], (1, 30))
    return Mask(scene(seed), confidence)


def test_a_map_that_fits_is_one_part():
    mask = a_mask()
    (content,) = mask.parts(1150)
    again = Mask.join([content])
    assert (again.values == mask.values).all()
    assert np.abs(again.confidence.astype(int) - mask.confidence).max() <= 32


def test_parts_decode_alone_and_the_uncertain_ones_come_last():
    mask = a_mask()
    parts = mask.parts(90)
    assert len(parts) > 2 and max(map(len, parts)) <= 90
    assert (Mask.join(parts[::-1]).values == mask.values).all()
    first = Mask.join(parts[:1])
    known = first.confidence[:, 0] > 0
    assert known[0] and not known[-1]           # the upper rows are the certain ones
    rows = np.repeat(known, 4)
    assert (first.values[rows] == mask.values[rows]).all()
    lost = ~np.isin(np.arange(88) // 4, np.flatnonzero(first.confidence.any(1)))
    assert (first.values[lost] == UNLABELLED).all() and not first.confidence[~known].any()


def test_a_map_of_many_bytes_is_made_coarser():
    noise = Mask(np.random.default_rng(0).integers(0, 11, (88, 120)).astype(np.uint8), np.full((22, 30), 200, np.uint8))
    parts = noise.parts(1150)
    assert sum(map(len, parts)) <= MOST_BYTES
    assert Mask.join(parts).values.shape < noise.values.shape


def test_depth_is_exact_to_two_percent():
    y, x = np.mgrid[:44, :60]
    metres = (0.5 + 0.05 * x + 0.02 * y).astype(np.float32)
    metres[3, 4], metres[5, 6] = np.nan, 400.0
    again = DepthMap.join(DepthMap.of(metres, np.full((22, 30), 255, np.uint8)).parts(1150)).metres()
    assert np.isnan(again[3, 4]) and 50 < again[5, 6] < 60
    known = np.isfinite(again) & (metres < 50)
    assert np.abs(again[known] / metres[known] - 1).max() < 0.013


@pytest.mark.parametrize('content', [b'', b'\0' * 7, bytes((22, 30, 4, 20, 9, 0, 1)) + b'xx', bytes((255, 255, 255, 0, 1, 0, 1)) + b'xx'])
def test_a_part_that_cannot_be_is_refused(content):
    with pytest.raises(ValueError):
        Mask.join([content])


def test_parts_of_different_maps_are_refused():
    small = Mask(scene(0, 44, 60), np.full((22, 30), 9, np.uint8))
    with pytest.raises(ValueError, match='different sizes'):
        Mask.join([small.parts(2000)[0], a_mask().parts(2000)[0]])
