"""What cannot be authenticated costs one check, and is counted."""

from random import Random

import pytest

from evitif.protocol.edge.connection import EdgeConfig, EdgeConnection
from evitif.protocol.events import Refused
from evitif.protocol.sealing import sealed_handshake
from evitif.protocol.sealing.keys import Key, RobotKeys
from evitif.protocol.sealing.seal import sign, sign_twice
from evitif.protocol.wire import datagram, handshake
from evitif.protocol.wire.handshake import Refuse, Welcome

from .simulated_link import SMALL, Simulation

KEY, OTHER = Key(bytes(range(32))), Key(bytes(range(1, 33)))


@pytest.fixture
def agreements(monkeypatch) -> list[bytes]:
    """The public keys that somebody has computed a key agreement with."""
    done, real = [], sealed_handshake.X25519PublicKey

    class Counted:
        @staticmethod
        def from_public_bytes(data):
            done.append(bytes(data))
            return real.from_public_bytes(data)
    monkeypatch.setattr(sealed_handshake, 'X25519PublicKey', Counted)
    return done


def asking(seed=1, **options) -> tuple[Simulation, EdgeConnection, list[bytes]]:
    """An edge whose WELCOMEs are kept from it, and these."""
    run = Simulation(seed=seed)
    run.add_bridge(SMALL, keys=RobotKeys(default=KEY))
    edge, kept = run.add_edge(SMALL, EdgeConfig(**options), key=KEY), []
    receive = edge.receive_datagram

    def filtered(data, now):
        kept.append(bytes(data)) if data[3] == datagram.WELCOME else receive(data, now)
    edge.receive_datagram = filtered
    run.run(0.5)
    edge.receive_datagram = receive
    assert kept and not edge.connected
    return run, edge, kept


def forgeries(edge, genuine: bytes) -> dict[str, bytes]:
    """WELCOMEs that echo the instance, and nobody with the key has said."""
    instance = edge._hellos.instance
    body = bytes(range(32)) + Welcome(instance, 'bridge').to_bytes()
    return {'invented': sign(bytes(32), datagram.WELCOME, 7, 0, body),
            'two tags': sign_twice(bytes(32), bytes(32), datagram.WELCOME, 7, 0, body),
            'without a tag': datagram.build(datagram.WELCOME, 7, 0, body),
            'of another pre-shared key': sign_twice(OTHER.reply, bytes(32), datagram.WELCOME, 7, 0, body),
            'another session': genuine[:4] + bytes(7) + b'\1' + genuine[12:],
            'another number': genuine[:12] + bytes(7) + b'\1' + genuine[20:],
            'another key': genuine[:20] + body[:32] + genuine[52:], 'short': sign(KEY.reply, datagram.WELCOME, 7, 0, bytes(16)),
            'a point of small order': genuine[:20] + bytes(32) + genuine[52:]}


@pytest.mark.parametrize('state', ['connecting', 'connected'])
def test_a_stranger_s_welcome_costs_the_edge_no_key_agreement(agreements, state):
    run, edge, kept = asking()
    if state == 'connected':
        edge.receive_datagram(kept[0], run.now)
        assert edge.connected
    before, dropped = len(agreements), sum(edge.statistics.dropped.values())
    forged = forgeries(edge, kept[0])
    for _ in range(20):
        for data in forged.values():
            edge.receive_datagram(data, run.now)
    assert len(agreements) == before
    assert sum(edge.statistics.dropped.values()) - dropped == 20 * len(forged)
    edge.receive_datagram(kept[0], run.now)
    assert edge.connected


def test_a_true_welcome_whose_end_is_changed_again_and_again_costs_one(agreements):
    run, edge, kept = asking(seed=2)
    before, random = len(agreements), Random(1)
    for _ in range(200):
        edge.receive_datagram(kept[0][:-16] + random.randbytes(16), run.now)
    assert len(agreements) - before == 1 and edge.statistics.dropped['corrupt'] == 200 and not edge.connected
    edge.receive_datagram(kept[0], run.now)
    assert edge.connected
    run.run(1.0)
    assert edge.connected and run.bridge.sessions[edge.session_id].remote is not None


def test_a_refusal_without_a_seal_is_read_now_and_then(monkeypatch):
    run, edge, _ = asking(seed=3)
    run.bridge = None
    read, parse = [], handshake.Refuse.parse
    monkeypatch.setattr(Refuse, 'parse', lambda body: read.append(1) or parse(body))
    for k in range(3000):
        run.at(run.now + 0.01 * k, lambda k=k: edge.receive_datagram(
            datagram.build(datagram.REFUSE, 0, 0, Refuse(edge._hellos.instance, 'bridge', (f'reason {k}',)).to_bytes()), run.now))
    run.run(31.0)
    assert len(run.of(Refused)) == len(read) == 3
    assert edge.statistics.dropped['unexpected'] >= 3000 - 3
