"""Transform codes: what is fitted keeps what the tail notices, rows have their size, and nothing else is accepted."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evitif.model.code_artifact import choose_code, half_precision, load_code, save_code
from evitif.model.errors import ArtifactError
from evitif.model.quantise import TokenQuantiser
from evitif.model.transform_code import RATES, TransformCode, code_row_bytes
from evitif_lab.training.transform_code import default_rate, fit_code

CHANNELS, PREFIX, PLACES = 16, 2, 11


def tokens_of(seed, images=400):
    """Tokens [n, N, D] whose channels hang together, so that there is something to win."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(CHANNELS, CHANNELS, generator=torch.Generator().manual_seed(99)) * torch.linspace(2, 0.05, CHANNELS)[:, None]
    places = torch.linspace(-1, 1, PLACES)[:, None] * torch.linspace(1, 3, CHANNELS)
    return torch.randn(images, PLACES, CHANNELS, generator=generator) @ mixing + places


def identity():
    return torch.eye(CHANNELS, dtype=torch.float64).repeat(PREFIX + 1, 1, 1)


@pytest.fixture(scope='module')
def code():
    return half_precision(fit_code(tokens_of(0), PREFIX, identity()))


def through(code, kind, tokens):
    quantiser = TokenQuantiser(kind, CHANNELS, code=code)
    rows = quantiser.quantise(tokens.flatten(0, 1).numpy())
    assert rows.shape == (len(tokens) * PLACES, code_row_bytes(kind, CHANNELS)) and rows.dtype == np.uint8
    return torch.from_numpy(quantiser.dequantise(rows)).view(tokens.shape)


def test_more_bits_leave_less_error_on_tokens_that_were_not_fitted(code):
    tokens = tokens_of(1)
    variance = float((tokens - tokens.mean(0)).square().mean())
    errors = [float((through(code, kind, tokens) - tokens).square().mean()) / variance for kind in ('klt0.5', 'klt1', 'klt2')]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.03             # a scalar quantiser without the transform has 0.12 at 2 bits (Max 1960)
    assert errors[0] < 0.5


def test_the_metric_says_which_directions_keep_their_bits():
    """A tail that looks at the smallest direction alone gets that one, which the plain transform drops."""
    tokens, fisher = tokens_of(0), identity()
    weak = torch.linalg.svd(tokens.flatten(0, 1) - tokens.flatten(0, 1).mean(0), full_matrices=False)[2][-1].double()
    fisher[:] = torch.outer(weak, weak)
    judged = tokens_of(1)
    errors = {}
    for name, information in (('plain', identity()), ('metric', fisher)):
        code = fit_code(tokens, PREFIX, information, ridge=1e-4)
        error = (through(code, 'klt0.5', judged) - judged).double() @ weak
        errors[name] = float(error.square().mean() / ((judged - judged.mean(0)).double() @ weak).square().mean())
    assert errors['metric'] < 0.1 < 0.5 < errors['plain']


def test_each_token_decodes_by_itself(code):
    tokens = tokens_of(2, images=3)
    quantiser = TokenQuantiser('klt1', CHANNELS, code=code)
    rows = quantiser.quantise(tokens.flatten(0, 1).numpy())
    damaged = rows.copy()
    damaged[5] ^= 0xFF
    same = np.delete(np.arange(len(rows)), 5)
    whole, other = quantiser.dequantise(rows), quantiser.dequantise(damaged)
    np.testing.assert_allclose(whole[same], other[same], atol=1e-5)
    assert np.abs(whole[5] - other[5]).max() > 0.1


@given(st.binary(min_size=PLACES * 2, max_size=PLACES * 2))
@settings(deadline=None, max_examples=30)
def test_any_bytes_decode_to_finite_values(content):
    code = fit_code(tokens_of(0, images=50), PREFIX, identity())
    assert np.isfinite(code.decode(np.frombuffer(content, np.uint8).reshape(PLACES, 2))).all()


def test_what_does_not_fit_is_refused(code):
    with pytest.raises(ValueError, match='frames'):
        code.encode(np.zeros((PLACES + 1, CHANNELS), np.float32), 2)
    with pytest.raises(ValueError, match='not finite'):
        code.encode(np.full((PLACES, CHANNELS), np.nan, np.float32), 2)
    with pytest.raises(ValueError, match='needs a transform code for 8 channels'):
        TokenQuantiser('klt1', 8, code=code)
    with pytest.raises(ValueError, match='needs a transform code'):
        TokenQuantiser('klt1', CHANNELS)
    arrays = code.arrays()
    with pytest.raises(ValueError, match="no array 'mean'"):
        TransformCode.from_arrays({name: array for name, array in arrays.items() if name != 'mean'})
    with pytest.raises(ValueError, match='coefficients'):
        TransformCode.from_arrays({**arrays, 'order.0': arrays['order.0'] + 100})


def test_an_artifact_holds_the_code_exactly(code, tmp_path):
    path = tmp_path / 'klt-cut3.json'
    save_code(path, code, {'model': 'm', 'fingerprint': 'a' * 64, 'cut': 3, 'default': 'klt1'})
    loaded, description = load_code(path, 'a' * 64)
    assert loaded.digest == code.digest == description['digest']
    tokens = tokens_of(3, images=2).flatten(0, 1).numpy()
    assert np.array_equal(loaded.encode(tokens, 4), code.encode(tokens, 4))
    with pytest.raises(ArtifactError, match='fingerprint aaaa.*this model has bbbb'):
        load_code(path, 'b' * 64)
    path.write_text(json.dumps({**description, 'digest': 'c' * 64}))
    with pytest.raises(ArtifactError, match='is not the one that klt-cut3.json describes'):
        load_code(path, 'a' * 64)
    path.with_suffix('.safetensors').write_bytes(b'no tensors')
    with pytest.raises(ArtifactError, match='cannot be read'):
        load_code(path, 'a' * 64)
    path.write_text('{}')
    with pytest.raises(ArtifactError, match='expected a description'):
        load_code(path, 'a' * 64)


def test_auto_takes_the_code_beside_the_model(code, tmp_path):
    folder = tmp_path / 'models' / 'm'
    folder.mkdir(parents=True)
    (folder / 'model.json').write_text('{}')
    assert choose_code(str(folder), 3, 'a' * 64, 'auto') == ('int8', None, None)
    assert choose_code(str(folder), 3, 'a' * 64, 'int4') == ('int4', None, None)
    with pytest.raises(ArtifactError, match='klt2 needs a transform code.*klt-cut3.json'):
        choose_code(str(folder), 3, 'a' * 64, 'klt2')
    save_code(folder / 'klt-cut3.json', code, {'model': 'm', 'fingerprint': 'a' * 64, 'cut': 3, 'default': 'klt0.5'})
    kind, found, _ = choose_code(str(folder), 3, 'a' * 64, 'auto')
    assert (kind, found.digest) == ('klt0.5', code.digest)
    assert choose_code(str(folder), 3, 'a' * 64, 'klt2')[0] == 'klt2'
    with pytest.raises(ArtifactError, match='fingerprint'):
        choose_code(str(folder), 3, 'b' * 64, 'auto')


@pytest.mark.parametrize('divergences, expected', [((0.001, 0.002, 0.004, 0.01), 'klt0.5'),
                                                   ((0.001, 0.002, 0.004, 0.1), 'klt1'), ((0.02, 0.05, 0.1, 0.4), 'klt2')])
def test_the_default_is_the_coarsest_that_costs_little(divergences, expected):
    assert default_rate({kind: {'training_divergence': value} for kind, value in zip(RATES, divergences, strict=False)}) == expected
