"""The keys of a long session change, and nobody notices but whoever has recorded it."""

from random import Random

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from evitif.protocol.events import AnswerArrived, FrameExpired, LinkLost, RobotConnected
from evitif.protocol.sealing import ratchet
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.sealing.seal import BRIDGE_TO_EDGE, EDGE_TO_BRIDGE, Sealer
from evitif.protocol.wire import datagram
from evitif.protocol.wire.datagram import WINDOW, DatagramError

from .simulated_link import SMALL, Impairment, Simulation

KEY_A, KEY_B, SESSION = bytes(range(32)), bytes(range(32, 64)), 77
KEY = Key(bytes(range(32)))


def pair() -> tuple[Sealer, Sealer]:
    return Sealer(KEY_A, KEY_B, EDGE_TO_BRIDGE), Sealer(KEY_B, KEY_A, BRIDGE_TO_EDGE)


def ping(sealer, sequence) -> bytes:
    return datagram.build(datagram.PING, SESSION, sequence, b'said', sealer.finish)


def kind_of(sealer, data) -> str | None:
    try:
        assert bytes(sealer.open(datagram.parse(data)).body) == b'said'
    except DatagramError as error:
        return error.kind
    return None


def forged(sequence) -> bytes:
    return datagram.HEADER.pack(b'EV', 2, datagram.PING, SESSION, sequence & 0xFFFFFFFF, sequence >> 32) + bytes(20)


@pytest.fixture
def derived(monkeypatch) -> list[bytes]:
    """Every key that was made of another one."""
    made, make = [], ratchet.next_key
    monkeypatch.setattr(ratchet, 'next_key', lambda key: made.append(make(key)) or made[-1])
    return made


def test_each_epoch_s_key_is_the_hkdf_of_the_one_before():
    edge, _ = pair()
    key = KEY_A
    for epoch in range(4):
        for sequence in (65536 * epoch, 65536 * epoch + 65535):
            data = ping(edge, sequence)
            assert ChaCha20Poly1305(key).decrypt(bytes(4) + sequence.to_bytes(8, 'big'), data[20:], data[:20]) == b'said'
        key = HKDFExpand(SHA256(), 32, b'evitif 2 next').derive(key)


def test_a_run_across_epochs_is_what_its_datagrams_would_be(monkeypatch):
    monkeypatch.setattr(ratchet, 'EPOCH_BITS', 4)
    rows = np.full((50, 60), datagram.TOKENS, np.uint8)
    (whole, opener), (alone, _) = pair(), pair()
    run = whole.finish_run(rows, SESSION, 7)
    assert [row.tobytes() for row in run] == [alone.finish(row, SESSION, 7 + k) for k, row in enumerate(rows)]
    assert opener.open_run(run)[0] == [*range(7, 57)]


@pytest.mark.parametrize('bits', [4, 9, 10, 13])
@pytest.mark.parametrize('lost', [0.0, 0.4])
def test_whatever_the_window_would_take_is_opened_and_nothing_twice(monkeypatch, bits, lost, seed=5):
    """Datagrams come late by up to the window, across any number of epochs."""
    monkeypatch.setattr(ratchet, 'EPOCH_BITS', bits)
    monkeypatch.setattr(ratchet, 'EPOCHS_AHEAD', max(2 * WINDOW >> bits, 2))
    edge, bridge = pair()
    random, count = Random(seed), 12 * WINDOW
    sent = [ping(edge, sequence) for sequence in range(count)]
    order = sorted((k + random.random() * random.choice((1, 900)), k) for k in range(count) if random.random() >= lost)
    assert {kind_of(bridge, sent[k]) for _, k in order} == {None}
    assert {kind_of(bridge, data) for data in random.sample(sent, 500)} <= {'duplicate', None}


def test_former_keys_are_forgotten_as_soon_as_the_window_has_left_their_epoch():
    edge, bridge = pair()
    first, late = ping(edge, 5), ping(edge, 65535 - 10)
    assert kind_of(bridge, first) is None
    assert kind_of(bridge, ping(edge, 65536)) is None
    assert kind_of(bridge, ping(edge, 65536 + WINDOW - 12)) is None
    assert kind_of(bridge, late) is None                       # the window still reaches it
    assert kind_of(bridge, ping(edge, 65536 + WINDOW - 1)) is None
    assert bridge._receiving.at(65535) is None and bridge._receiving.at(65536) is not None
    assert KEY_A not in (edge._sending._key, bridge._receiving._key)      # what would open the recording is no longer there


def test_forged_numbers_make_few_keys_and_move_nothing(derived):
    edge, bridge = pair()
    assert kind_of(bridge, ping(edge, 0)) is None
    random, count = Random(1), 0
    derived.clear()
    for sequence in [*(random.getrandbits(random.choice((16, 20, 24, 33, 63))) for _ in range(3000)), 2**64 - 1, 2**20, 2**21 - 1]:
        assert kind_of(bridge, forged(sequence)) in ('corrupt', 'duplicate')
        count += 1
    assert len(derived) <= ratchet.EPOCHS_AHEAD
    assert 0 < bridge.forgeries <= count
    assert kind_of(bridge, ping(edge, 1)) is None and kind_of(bridge, ping(edge, 65536)) is None
    assert len(derived) <= ratchet.EPOCHS_AHEAD + 1            # the edge's own


def test_a_receiver_may_miss_as_many_epochs_as_it_says_and_no_more():
    for missed, kind in ((ratchet.EPOCHS_AHEAD, None), (ratchet.EPOCHS_AHEAD + 1, 'corrupt')):
        edge, bridge = pair()
        assert kind_of(bridge, ping(edge, 65535)) is None
        assert kind_of(bridge, ping(edge, 65536 * missed)) == kind
        assert kind_of(bridge, ping(edge, 65536 * missed + 1)) == kind


def connected(**options):
    run = Simulation(**options)
    run.add_bridge(SMALL, keys=RobotKeys(default=KEY))
    edge = run.add_edge(SMALL, key=KEY)
    run.run(1.0)
    assert edge.connected
    return run, edge


@pytest.mark.parametrize(('bits', 'loss', 'jitter'), [(5, 0.0, 0.0), (6, 0.3, 0.02), (8, 0.5, 0.1)])
def test_no_frame_notices_that_the_keys_change(monkeypatch, derived, bits, loss, jitter):
    monkeypatch.setattr(ratchet, 'EPOCH_BITS', bits)
    run, edge = connected(uplink=Impairment(loss, jitter=jitter), downlink=Impairment(loss, jitter=jitter), seed=bits)
    sent = run.stream(edge, SMALL, 100)
    run.run(11.0)
    assert len(derived) >= 2 * (edge._session._sequence >> bits) >= 12      # of the uplink alone, at both sides
    assert len(run.of(AnswerArrived)) >= (1.0 if loss == 0.0 else 0.98) * len(sent)
    assert not run.of(LinkLost) and len(run.of(RobotConnected)) == 1
    assert not edge.statistics.dropped.get('corrupt') and not run.bridge.statistics.dropped.get('corrupt')


@pytest.mark.parametrize('direction', ['uplink', 'downlink', 'both'])
@pytest.mark.parametrize('seconds', [0.8, 3.0, 30.0])
def test_it_comes_back_after_an_outage_in_which_the_numbers_ran_ahead(monkeypatch, direction, seconds):
    """Even if that is farther than the receiver follows: then there is another session."""
    monkeypatch.setattr(ratchet, 'EPOCH_BITS', 4)
    monkeypatch.setattr(ratchet, 'EPOCHS_AHEAD', 2)
    run, edge = connected(seed=3)
    run.stream(edge, SMALL, int(15 * (seconds + 8)), 15.0)
    run.run(1.0)
    links = [run.uplink, run.downlink] if direction == 'both' else [getattr(run, direction)]
    for link in links:
        link.loss = 1.0
    run.run(seconds)
    for link in links:
        link.loss = 0.0
    back = run.now
    run.run(6.0)
    assert edge.connected
    answered = [when for when in run.when(AnswerArrived) if when > back + 5.0]
    assert len(answered) >= 14
    assert len(run.of(AnswerArrived)) + len(run.of(FrameExpired)) >= 15


def test_the_silence_that_a_session_may_survive_is_shorter_than_what_the_receiver_follows():
    longest_s, rate = 600.0, 1700.0                             # the settings' largest link_timeout
    assert longest_s * rate < ratchet.EPOCHS_AHEAD << ratchet.EPOCH_BITS
