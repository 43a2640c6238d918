from random import Random

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st

from evitif.protocol.frames.packetiser import Packetiser
from evitif.protocol.sealing import ratchet
from evitif.protocol.sealing.keys import Key
from evitif.protocol.sealing.seal import (
    BRIDGE_TO_EDGE,
    EDGE_TO_BRIDGE,
    REPLAY_WINDOW,
    ReplayWindow,
    Sealer,
    is_signed,
    sign,
    signed_body,
)
from evitif.protocol.wire import datagram
from evitif.protocol.wire.datagram import DatagramError

from .simulated_link import SMALL, frame_of

SESSION = 0x0102030405060708
KEY_A, KEY_B = bytes(range(32)), bytes(range(32, 64))


def pair() -> tuple[Sealer, Sealer]:
    """The edge's seal and the bridge's."""
    return Sealer(KEY_A, KEY_B, EDGE_TO_BRIDGE), Sealer(KEY_B, KEY_A, BRIDGE_TO_EDGE)


def kind_of(sealer, data) -> str | None:
    try:
        sealer.open(datagram.parse(data))
    except DatagramError as error:
        return error.kind
    return None


@pytest.fixture
def one_epoch(monkeypatch):
    """All sequence numbers have one key."""
    monkeypatch.setattr(ratchet, 'EPOCH_BITS', 64)


def test_what_was_sealed_is_opened_and_lies_where_the_specification_puts_it(one_epoch):
    edge, bridge = pair()
    data = datagram.build(datagram.PING, SESSION, 0x1_1112_1314, b'the body', edge.finish)
    assert data[:20] == b'EV\x02\x06\x01\x02\x03\x04\x05\x06\x07\x08\x11\x12\x13\x14\x00\x00\x00\x01'
    assert len(data) == 20 + len(b'the body') + 16
    assert b'the body' not in data
    parsed = datagram.parse(data)
    assert (parsed.sealed, parsed.sequence) == (True, 0x1_1112_1314)
    opened = bridge.open(parsed)
    assert (opened.type, opened.session_id, opened.sequence) == (datagram.PING, SESSION, 0x11121314)
    assert bytes(opened.body) == b'the body'


def test_the_cipher_is_chacha20_poly1305_with_direction_and_sequence_number_as_nonce(one_epoch):
    edge, bridge = pair()
    for sealer, key, direction in ((edge, KEY_A, '00000000'), (bridge, KEY_B, '00000001')):
        data = datagram.build(datagram.PING, SESSION, 0x1_1112_1314, b'the body', sealer.finish)
        nonce = bytes.fromhex(direction + '0000000111121314')
        assert data[20:] == ChaCha20Poly1305(key).encrypt(nonce, b'the body', data[:20])


@given(st.data())
def test_any_flipped_bit_is_noticed(data):
    edge, bridge = pair()
    whole = bytearray(datagram.build(datagram.PING, SESSION, 3, bytes(range(40)), edge.finish))
    bit = data.draw(st.integers(24, 8 * len(whole) - 1))      # those before are magic and version
    whole[bit // 8] ^= 1 << bit % 8
    try:
        kind = kind_of(bridge, whole)
    except DatagramError as error:
        kind = error.kind
    assert kind in ('corrupt', 'malformed')       # the latter: no such type
    whole[bit // 8] ^= 1 << bit % 8
    assert kind_of(bridge, whole) is None         # and it has not moved the replay window


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1))
def test_no_bytes_are_taken_for_sealed_ones(noise, sequence):
    _, bridge = pair()
    header = datagram.HEADER.pack(b'EV', 2, datagram.PING, SESSION, sequence & 0xFFFFFFFF, sequence >> 32)
    assert kind_of(bridge, header + noise) in ('corrupt', 'truncated')


@pytest.mark.parametrize('other', [Sealer(KEY_A, KEY_B, EDGE_TO_BRIDGE), Sealer(KEY_B, bytes(32), BRIDGE_TO_EDGE),
                                   Sealer(KEY_B, KEY_A, EDGE_TO_BRIDGE)], ids=['its own', 'another key', 'its direction'])
def test_only_the_other_side_opens_it(other):
    edge, _ = pair()
    assert kind_of(other, datagram.build(datagram.PING, SESSION, 0, b'x', edge.finish)) == 'corrupt'


def test_an_unsealed_datagram_is_not_taken_in_a_sealed_session():
    _, bridge = pair()
    assert kind_of(bridge, datagram.build(datagram.PING, SESSION, 0, b'x')) == 'unexpected'


def test_a_sequence_number_is_sealed_once():
    edge, _ = pair()
    datagram.build(datagram.PING, SESSION, 5, b'', edge.finish)
    for sequence in (5, 4):
        with pytest.raises(ValueError, match=f'sequence is {sequence}; expected at least 6'):
            datagram.build(datagram.PING, SESSION, sequence, b'', edge.finish)


def test_the_sequence_number_does_not_wrap(one_epoch):
    edge, bridge = pair()
    for sequence in (2**32 - 1, 2**32, 2**32 + 1):
        data = datagram.build(datagram.PING, SESSION, sequence, b'x', edge.finish)
        assert bridge.open(datagram.parse(data)).sequence == sequence % 2**32


def test_a_datagram_is_taken_once_and_reordering_within_the_window_is_no_matter():
    edge, bridge = pair()
    sent = [datagram.build(datagram.PING, SESSION, k, b'x', edge.finish) for k in range(REPLAY_WINDOW + 1)]
    order = sent[1:]
    Random(1).shuffle(order)
    assert {kind_of(bridge, data) for data in order} == {None}
    assert {kind_of(bridge, data) for data in sent} == {'duplicate'}      # the first is too old to tell


@settings(max_examples=300)
@given(st.lists(st.integers(0, 40) | st.integers(1000, 1060) | st.integers(2000, 2100) | st.just(2**64 - 1), max_size=80))
def test_the_replay_window_takes_no_number_twice_and_refuses_no_new_one_that_is_recent(numbers):
    window, taken = ReplayWindow(), set()
    for number in numbers:
        new = window.is_new(number)
        assert not (new and number in taken)
        if number not in taken and number > max(taken, default=-1) - REPLAY_WINDOW:
            assert new
        if new:
            window.take(number)
            taken.add(number)
        assert len(window._taken) <= REPLAY_WINDOW


def test_a_frame_s_sealed_datagrams_stay_within_their_size():
    edge, bridge = pair()
    packetiser = Packetiser(SMALL, max_datagram_bytes=400 - datagram.SEAL_BYTES)
    plain = packetiser.packetise(frame_of(SMALL, 1), SESSION)
    sealed = packetiser.packetise(frame_of(SMALL, 1), SESSION, 0, edge.finish)
    assert max(map(len, sealed)) <= 400
    for a, b in zip(plain, sealed, strict=True):
        assert bytes(bridge.open(datagram.parse(b)).body) == bytes(datagram.parse(a).body)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=100), st.integers(0, 1000))
def test_a_signed_datagram_has_a_right_tag_and_any_other_byte_has_not(key, body, at):
    data = bytearray(sign(key, datagram.CHALLENGE, 0, 7, body))
    assert is_signed(key, datagram.parse(data))
    assert bytes(signed_body(datagram.parse(data))) == body
    data[4 + at % (len(data) - 4)] ^= 1
    assert not is_signed(key, datagram.parse(data))


def test_keys_are_told_apart_by_use_and_shown_by_nothing():
    secret = bytes(range(100, 132))
    key = Key(secret)
    derived = [key.hello, key.reply, *key.session(bytes(32), b'a'), *key.session(bytes(32), b'b'), *key.session(bytes(31) + b'1', b'a')]
    assert len(set(derived)) == len(derived)
    assert secret not in derived
    assert repr(key) == str(key) == f'{key}' == 'Key(not shown)'
