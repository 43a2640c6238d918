"""The error of the quantisation is what its table says, for any values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evitif.model.quantise import TokenQuantiser, rotation, row_bytes

KINDS = ('fp16', 'int8', 'int4')        # those that need no fit; the others are in test_transform_code

finite = st.floats(-60000, 60000, width=32)


@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.just(8)), elements=finite), st.sampled_from(['int8', 'int4']),
       st.sampled_from([1, 2]))
@settings(deadline=None)
def test_integer_rows_are_within_half_a_step(tokens, kind, groups):
    quantiser = TokenQuantiser(kind, 8, groups)
    rows = quantiser.quantise(tokens)
    assert rows.shape == (len(tokens) * groups, quantiser.row_bytes)
    restored = quantiser.dequantise(rows)
    slices, turned = tokens.reshape(-1, 8 // groups).astype(np.float64), restored.reshape(-1, 8 // groups)
    if kind == 'int4':      # its rows are of turned slices
        slices, turned = slices @ rotation(8 // groups), turned @ rotation(8 // groups)
    low = slices.min(1, keepdims=True)
    step = 1.002 * (np.ptp(slices, axis=1, keepdims=True) + np.abs(low) * 2**-9) / {'int8': 255, 'int4': 15}[kind]
    allowed = 0.51 * np.maximum(step, 6.2e-5)
    assert (np.abs(turned - slices) <= allowed + 1e-6 * np.abs(slices).max()).all()


@pytest.mark.parametrize('channels', [2, 24, 192, 768])
def test_the_rotation_is_one_and_spreads_a_large_channel(channels):
    turn = rotation(channels).astype(np.float64)
    np.testing.assert_allclose(turn @ turn.T * channels, np.eye(channels), atol=1e-5)
    assert np.abs(turn).max() <= 1.5 / channels         # of one large channel no turned one gets more


def test_a_large_channel_does_not_drown_the_others_as_int4():
    random = np.random.default_rng(0)
    tokens = random.normal(size=(50, 192)).astype(np.float32)
    tokens[:, 7] += 40
    error = TokenQuantiser('int4', 192).dequantise(TokenQuantiser('int4', 192).quantise(tokens)) - tokens
    step = np.ptp(tokens, axis=1).mean() / 15           # without the rotation
    assert error.std() < 0.5 * step / 12**0.5


@given(arrays(np.float32, (3, 6), elements=finite))
@settings(deadline=None)
def test_half_precision_rows_are_binary16(tokens):
    quantiser = TokenQuantiser('fp16', 6)
    assert np.array_equal(quantiser.dequantise(quantiser.quantise(tokens)), tokens.astype(np.float16).astype(np.float32))


@given(st.binary(min_size=12, max_size=12), st.sampled_from(KINDS))
@settings(deadline=None)
def test_any_bytes_decode_to_finite_values(content, kind):
    channels = {'fp16': 6, 'int8': 8, 'int4': 16}[kind]
    restored = TokenQuantiser(kind, channels).dequantise(np.frombuffer(content, np.uint8)[None])
    assert restored.shape == (1, channels)
    assert np.isfinite(restored).all()


@pytest.mark.parametrize('value', [np.nan, np.inf, 1e5])
def test_values_that_cannot_be_represented_are_refused(value):
    tokens = np.zeros((2, 4), np.float32)
    tokens[1, 2] = value
    with pytest.raises(ValueError, match='not finite or beyond'):
        TokenQuantiser('int8', 4).quantise(tokens)


@pytest.mark.parametrize('arguments, expected', [
    (('int7', 8), "'int7' is unknown"), (('int8', 8, 3), '8 channels cannot be cut into 3'),
    (('int4', 6, 2), '3 channels a group is odd')])
def test_impossible_layouts_are_refused(arguments, expected):
    with pytest.raises(ValueError, match=expected):
        TokenQuantiser(*arguments)


@pytest.mark.parametrize('kind', KINDS)
def test_the_row_s_size_is_known_beforehand(kind):
    for channels in range(1, 20):
        if kind == 'int4' and channels % 2:
            assert row_bytes(kind, channels) is None
        else:
            rows = TokenQuantiser(kind, channels).quantise(np.zeros((1, channels)))
            assert rows.shape == (1, row_bytes(kind, channels))
    with pytest.raises(ValueError, match="'int7' is unknown"):
        row_bytes('int7', 8)
