"""The symbol coder: what went in comes out, in the same bytes with and without constriction, and any bytes are read alike by both."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evitif.model import symbol_coder
from evitif.model.errors import CodeError
from evitif.model.symbol_coder import PRECISION, SymbolDecoder, SymbolEncoder, SymbolModel

pytest.importorskip('constriction')


@st.composite
def model_and_symbols(draw):
    weights = np.array(draw(st.lists(st.integers(0, 1 << 20), min_size=2, max_size=40)))
    counts = 1 + weights * ((1 << PRECISION) - len(weights)) // max(1, int(weights.sum()))
    counts[0] += (1 << PRECISION) - counts.sum()
    return counts, draw(st.lists(st.integers(0, len(weights) - 1), max_size=50))


def both(act):
    native = act()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(symbol_coder, 'constriction', None)
        return native, act()


@settings(max_examples=60, deadline=None)
@given(st.lists(model_and_symbols(), max_size=4))
def test_symbols_come_back_and_both_coders_write_the_same_bytes(parts):
    def encode():
        encoder = SymbolEncoder()
        for counts, symbols in reversed(parts):
            encoder.push(np.array(symbols, np.int32), SymbolModel(counts))
        return encoder.bytes()

    def decode():
        decoder = SymbolDecoder(written)
        found = [decoder.take(len(symbols), SymbolModel(counts)).tolist() for counts, symbols in parts]
        decoder.finish()
        return found

    written, in_python = both(encode)
    assert written == in_python
    assert both(decode) == ([symbols for _, symbols in parts],) * 2


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40), st.lists(model_and_symbols(), min_size=1, max_size=3))
def test_both_coders_read_the_same_from_any_bytes(data, parts):
    def decode():
        try:
            decoder = SymbolDecoder(data)
            found = [decoder.take(len(symbols), SymbolModel(counts)).tolist() for counts, symbols in parts]
            decoder.finish()
        except CodeError as error:
            return str(error)
        return found

    native, in_python = both(decode)
    assert native == in_python


def test_a_symbol_takes_the_bits_that_its_frequency_says():
    counts = np.array([1 << 23, 1 << 22, 1 << 21, 1 << 21])
    symbols = np.random.default_rng(0).choice(4, 8000, p=counts / 2**PRECISION)
    encoder = SymbolEncoder()
    encoder.push(symbols.astype(np.int32), SymbolModel(counts))
    assert len(encoder.bytes()) == pytest.approx(1.75 * 8000 / 8, rel=0.02)


@pytest.mark.parametrize('counts', [[1 << PRECISION], [0, 1 << PRECISION], [1 << 23, 1 << 22], []])
def test_frequencies_that_are_none_are_refused(counts):
    with pytest.raises(ValueError, match='each at least 1'):
        SymbolModel(np.array(counts))
