"""The ideal erasure code that codecs are given: as many datagrams as the true loss asks for, and no more."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))      # it is run from the repository and not installed
from benchmarks.link import erasure
from evitif_lab.rivals import parity


@given(st.integers(1, 60), st.floats(0.005, 0.7))
def test_one_datagram_fewer_would_fail_too_often(k, loss):
    n = parity.datagrams_needed(k, loss)
    assert parity.failure_of(k, n, loss) <= parity.FAILURE or n == parity.MAX_DATAGRAMS
    assert n == k or parity.failure_of(k, n - 1, loss) > parity.FAILURE


def test_no_parity_without_loss():
    assert parity.datagrams_needed(9, 0.0) == 9
    assert parity.protected_bytes(2500, 0.0) == (3, 3 * (parity.HEADER.size + 834))


def test_bursts_ask_for_more_than_independent_losses_of_that_rate():
    assert parity.datagrams_needed(8, 0.2, burst=8.0) > 1.5 * parity.datagrams_needed(8, 0.2)


def test_the_simulated_channel_loses_as_the_formula_says_where_both_are_known():
    # For bursts of 1 / (1 - p) Gilbert's channel loses independently.
    assert parity._simulated(8, 0.2, 1.25, parity.FAILURE) == pytest.approx(parity.datagrams_needed(8, 0.2), abs=1)


@settings(deadline=None, max_examples=30)
@given(st.binary(min_size=1, max_size=9000), st.sampled_from([0.0, 0.1, 0.6]), st.randoms(use_true_random=False))
def test_any_k_datagrams_give_the_data_back_once(data, loss, random):
    pytest.importorskip('zfec')
    datagrams = erasure.Encoder(loss).datagrams(7, data)
    k = parity.data_datagrams(len(data))
    assert len(datagrams) == parity.datagrams_needed(k, loss) and max(map(len, datagrams)) <= parity.DATAGRAM_BYTES
    arrived = random.sample(datagrams, k)
    decoder = erasure.Decoder()
    given_back = [decoder.take(datagram) for datagram in arrived]
    assert given_back == [None] * (k - 1) + [(7, data)]
    assert all(decoder.take(datagram) is None for datagram in datagrams)      # what comes late says nothing again


def test_frames_that_never_become_whole_are_forgotten():
    decoder = erasure.Decoder()
    for frame in range(100):
        decoder.take(parity.HEADER.pack(frame, 20, 2, 0) + bytes(10))
    assert len(decoder._frames) <= erasure.Decoder.FRAMES


def test_bytes_on_the_wire_are_those_of_the_datagrams():
    pytest.importorskip('zfec')
    for size in (1, 700, 1190, 1191, 12_345):
        datagrams = erasure.Encoder(0.3).datagrams(0, bytes(size))
        assert (len(datagrams), sum(map(len, datagrams))) == parity.protected_bytes(size, 0.3)
        assert np.ptp([len(datagram) for datagram in datagrams]) == 0
