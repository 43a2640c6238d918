"""
The only sockets of evitif: `UdpLoop` drives a protocol object over UDP, `LinkSimulator` is a relay with a bad link
inside.
"""

from evitif.transport.addresses import TransportError
from evitif.transport.impairment import ImpairedChannel, Impairment
from evitif.transport.udp import UdpLoop

__all__ = ['ImpairedChannel', 'Impairment', 'LinkSimulator', 'TransportError', 'UdpLoop']


def __getattr__(name):
    # Imported late, so that `python -m evitif.transport.link_simulator` does not find its own module loaded already.
    if name == 'LinkSimulator':
        from evitif.transport.link_simulator import LinkSimulator
        return LinkSimulator
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
