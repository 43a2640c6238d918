"""Both sides keep no more after tens of thousands of datagrams than after some thousands, whoever sends them."""

import random

import pytest

from evitif.protocol import datagram
from evitif.protocol.bridge import BridgeConfig, BridgeEndpoint
from evitif.protocol.edge import EdgeConnection
from evitif.protocol.handshake import Hello
from evitif.protocol.keys import RobotKeys
from evitif.protocol.sealing import signed
from fuzz.footprint import footprint
from fuzz.parsers import KEY, PARAMETERS
from fuzz.seeds import genuine

DATAGRAMS = 6000


def strangers(draw: random.Random, key):
    """Datagrams of all kinds, of ever new robots, sessions and addresses."""
    genuine_ones = genuine('datagram')
    for number in range(DATAGRAMS):
        address = (f'10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}', draw.randrange(1024, 65536))
        hello = Hello(f'robot {number}', number, PARAMETERS).to_bytes()
        yield draw.choice((
            draw.randbytes(draw.randrange(100)),
            datagram.build(draw.randrange(12), draw.getrandbits(64), draw.getrandbits(32), draw.randbytes(40)),
            draw.choice(genuine_ones), datagram.build(datagram.HELLO, 0, 0, hello),
            signed(key.hello, datagram.HELLO, 0, 0, bytes(48) + hello),
            signed(bytes(32), datagram.HELLO, 0, 0, bytes(48) + hello))), address


@pytest.mark.parametrize('sealed', [False, True])
def test_a_bridge_s_memory_is_bounded_whoever_writes_to_it(sealed):
    bridge = BridgeEndpoint(PARAMETERS, 'bridge', BridgeConfig(max_sessions=8), keys=RobotKeys(default=KEY) if sealed else None)
    now, sizes = 0.0, []
    for number, (data, address) in enumerate(strangers(random.Random(1), KEY)):
        now += 1e-4
        bridge.receive_datagram(data, address, now)
        if number % 64 == 0:
            bridge.handle_timer(now)
            bridge.datagrams_to_send(now)
            while bridge.next_event() is not None:
                pass
        if number in (DATAGRAMS // 2, DATAGRAMS - 1):
            sizes.append(footprint(bridge))
    assert sizes[1] < 1.1 * sizes[0] < 2_000_000


@pytest.mark.parametrize('key', [None, KEY], ids=['unsealed', 'sealed'])
def test_an_edge_s_memory_is_bounded_whoever_writes_to_it(key):
    edge = EdgeConnection(PARAMETERS, 'robot', key=key)
    edge.connect(0.0)
    now, sizes = 0.0, []
    for number, (data, _) in enumerate(strangers(random.Random(2), KEY)):
        now += 1e-4
        edge.receive_datagram(data, now)
        if number % 64 == 0:
            edge.handle_timer(now)
            edge.datagrams_to_send(now)
            while edge.next_event() is not None:
                pass
        if number in (DATAGRAMS // 2, DATAGRAMS - 1):
            sizes.append(footprint(edge))
    assert sizes[1] < 1.1 * sizes[0] < 2_000_000
