"""Both sides keep no more after tens of thousands of datagrams than after some thousands, whoever sends them."""

import random

import pytest

from evitif.protocol.bridge.endpoint import BridgeConfig, BridgeEndpoint
from evitif.protocol.edge.connection import EdgeConnection
from evitif.protocol.sealing.keys import RobotKeys
from evitif.protocol.sealing.seal import sign
from evitif.protocol.wire import datagram
from evitif.protocol.wire.handshake import Hello
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
            sign(key.hello, datagram.HELLO, 0, 0, bytes(48) + hello),
            sign(bytes(32), datagram.HELLO, 0, 0, bytes(48) + hello))), address


def sizes(endpoint, receive, seed):
    """What an endpoint keeps after half of the datagrams and after all, given to `receive(data, address, now)`."""
    now, found = 0.0, []
    for number, (data, address) in enumerate(strangers(random.Random(seed), KEY)):
        now += 1e-4
        receive(data, address, now)
        if number % 64 == 0:
            endpoint.handle_timer(now)
            endpoint.datagrams_to_send(now)
            while endpoint.next_event() is not None:
                pass
        if number in (DATAGRAMS // 2, DATAGRAMS - 1):
            found.append(footprint(endpoint))
    return found


@pytest.mark.parametrize('sealed', [False, True])
def test_a_bridge_s_memory_is_bounded_whoever_writes_to_it(sealed):
    bridge = BridgeEndpoint(PARAMETERS, 'bridge', BridgeConfig(max_sessions=8), keys=RobotKeys(default=KEY) if sealed else None)
    half, whole = sizes(bridge, bridge.receive_datagram, seed=1)
    assert whole < 1.1 * half < 2_000_000


@pytest.mark.parametrize('key', [None, KEY], ids=['unsealed', 'sealed'])
def test_an_edge_s_memory_is_bounded_whoever_writes_to_it(key):
    edge = EdgeConnection(PARAMETERS, 'robot', key=key)
    edge.connect(0.0)
    half, whole = sizes(edge, lambda data, address, now: edge.receive_datagram(data, now), seed=2)
    assert whole < 1.1 * half < 2_000_000
