"""The only sockets of evitif: `UdpLoop` drives a protocol object over UDP, `LinkSimulator` is a relay with a bad link inside."""

from evitif.transport.addresses import TransportError
from evitif.transport.impairment import ImpairedChannel, Impairment
from evitif.transport.link_simulator import LinkSimulator
from evitif.transport.udp import UdpLoop

__all__ = ['ImpairedChannel', 'Impairment', 'LinkSimulator', 'TransportError', 'UdpLoop']
